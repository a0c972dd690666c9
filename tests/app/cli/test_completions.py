"""What the shell completes on Tab."""

import pytest
from typer.testing import CliRunner

from fphojax.app.cli.completions import complete_change, complete_instrument, complete_stages, one_of
from fphojax.app.cli.program import app
from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import STAGES


def completed(*words):
    shell = {
        "_FPHOJAX_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["fphojax", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return CliRunner().invoke(app, [], prog_name="fphojax", env=shell).output.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "F", "--stages", "opt"], ["optimize"]),
        (["run", "F", "--stages", "check,ps"], ["check,psf"]),
        (["run", "F", "--from", "post"], ["postprocess"]),
        (["init", "F", "--instrument", "h"], ["hst", "hsc"]),
        (
            ["optimize", "F", "--set", "bounds_kwargs.n_"],
            ["bounds_kwargs.n_sig_flux=", "bounds_kwargs.n_pix="],
        ),
        (["postprocess", "F", "--draw", "me"], ["median", "mean"]),
    ],
)
def test_shell(words, expected):
    assert completed(*words) == expected


def test_stages_of_lists_and_ranges():
    assert complete_stages("") == list(STAGES)
    assert complete_stages("check,optimize..sa") == ["check,optimize..sample"]
    assert complete_stages("..") == [f"..{name}" for name in STAGES]
    assert complete_stages("nothing") == []


def test_keys_of_all_settings_with_what_they_mean():
    keys = dict(complete_change(""))
    assert {key.partition("=")[0].partition(".")[0] for key in keys} == set(Settings.model_fields)
    assert keys["chains="] == "chains per patch"
    assert keys["detection.model_error="].startswith("fractional uncertainty")


def test_words_that_a_setting_takes():
    samplers = "nuts", "laplace", "importance", "auto"
    assert complete_change("sampler=") == [(f"sampler={name}", "") for name in samplers]
    assert [word for word, _ in complete_change("nuisance.sky=")] == [
        "nuisance.sky=none",
        "nuisance.sky=constant",
        "nuisance.sky=plane",
    ]
    assert [word for word, _ in complete_change("strict=t")] == ["strict=true"]


def test_words():
    assert complete_instrument("NIR") == [("nircam", "JWST/NIRCam")]
    assert one_of("fits", "ecsv")("e") == ["ecsv"]
