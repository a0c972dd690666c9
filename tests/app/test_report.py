"""`fphojax report` says what is wrong in one line; the page itself is tested in tests/figures."""

from typer.testing import CliRunner

from fphojax.app.cli import app


def test_a_folder_that_is_not_there(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path / "gone")])
    assert result.exit_code == 2
    assert "gone: no such folder, expected the folder of a run" in result.stderr
