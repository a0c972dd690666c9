"""The demonstration's files, and the examples of README and guide, which use the same field."""

import re

import matplotlib.image
import numpy as np
import pytest

import fphojax
from fphojax.app.demo import write_demo
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.input_checks import check_inputs
from fphojax.errors import InputError
from fphojax.inputs.bounds import wrap_pa


def test_files_of_the_demonstration_have_no_problems(tmp_path):
    config, truth = write_demo(tmp_path)
    report = check_inputs(Settings.from_yaml(config))
    assert report.problems == []
    assert [exposure.name for exposure in report.exposures] == ["F150W_1", "F150W_2", "F356W_1", "F356W_2"]
    assert sorted(report.psfs.bands) == ["F150W", "F356W"]
    assert report.catalog.id.tolist() == truth.id.tolist()
    limits = report.bounds.lower["pa"], report.bounds.upper["pa"]
    assert report.bounds.violations(truth.replace(pa=wrap_pa(truth.pa, *limits))) == []


def test_files_that_did_not_change_are_left_as_they_are(tmp_path):
    """A run takes files with another time for changed, and would begin anew."""
    write_demo(tmp_path / "demo")
    files = [path for path in sorted((tmp_path / "demo").rglob("*")) if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    (tmp_path / "demo" / "images" / "F150W_1.fits").write_bytes(b"cut off")
    write_demo(tmp_path / "demo")
    assert [path for path in sorted((tmp_path / "demo").rglob("*")) if path.is_file()] == files
    changed = [path.name for path, time in zip(files, before, strict=True) if path.stat().st_mtime_ns != time]
    assert changed == ["F150W_1.fits"]
    assert check_inputs(Settings.from_yaml(tmp_path / "demo" / "demo.yml")).problems == []


@pytest.mark.parametrize("name", ["peaks.fits", "images/mine.fits", "run/config.json"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=f"{name.split('/')[0]}: is not the demonstration's, expected"):
        write_demo(tmp_path)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]
    assert path.read_text() == "mine"


def test_settings_that_were_edited_are_not_replaced(tmp_path):
    config, _ = write_demo(tmp_path)
    config.write_text(config.read_text().replace("chains: 4", "chains: 2"))
    with pytest.raises(InputError, match=r"demo.yml: found other settings than .*`fphojax run .*demo.yml`"):
        write_demo(tmp_path)
    assert "chains: 2" in config.read_text()


def block_of(request, page, language, contains):
    text = (request.config.rootpath / page).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if contains in block]
    return block


def test_settings_of_the_guide(request, tmp_path):
    config = tmp_path / "field.yml"
    config.write_text(block_of(request, "docs/guide/settings.md", "yaml", contains="fitsfiles:"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.fits").touch()
    settings = Settings.from_yaml(config)
    assert settings.fitsfiles == [tmp_path / "images" / "a.fits"]
    assert settings.outbase == tmp_path / "runs" / "first"
    for prior in settings.priors.values():
        prior.build()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/guide/index.md"])
def test_example(page, request, tmp_path, monkeypatch, capsys):
    """It runs as it is printed, but for fewer draws."""
    example = block_of(request, page, "python", contains="demo_field")
    few = fphojax.NUTS(draws=60, warmup=40, chains=2)
    monkeypatch.setattr(fphojax, "NUTS", lambda **_: few)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example, page, "exec"), names)
    shown = capsys.readouterr().out
    print(shown)
    assert "rhalf" in shown
    for figure in re.findall(r'savefig\("(.*?)"\)', example):
        assert np.ptp(matplotlib.image.imread(tmp_path / figure)[..., :3]) > 0.5
    assert names["fit"].result.draws.sizes["draw"] == 60
    table = names["fit"].to_table(fphojax.demo_field().truth)
    pull = (table["value"] - table["truth"]) / (table["upper"] - table["lower"]) * 2
    print(f"rms pull {np.sqrt(np.mean(pull**2)):.2f}")
    assert np.sqrt(np.mean(pull**2)) < 2
