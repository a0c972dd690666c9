from importlib import import_module
from inspect import signature

import pytest
from astropy import units as u
from astropy.table import QTable

from fphojax.app.settings.schema import Settings
from fphojax.app.settings.starter import template_folder
from fphojax.app.stage_list import INJECT, STAGES, first_read_after, next_settings, stages_named
from fphojax.app.stages.stage_report import StageReport
from fphojax.errors import InputError


def test_every_stage_has_its_template():
    templates = sorted(stage.template for stage in (*STAGES.values(), INJECT))
    assert sorted(path.stem for path in template_folder().glob("*.ipynb")) == templates


def test_settings_invalidate_one_stage_each():
    named = [name for stage in (*STAGES.values(), INJECT) for name in stage.settings]
    assert len(named) == len(set(named))
    assert set(named) <= set(Settings.model_fields)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_functions_take_what_is_declared(stage):
    taken = set(signature(getattr(import_module(f"fphojax.app.stages.{stage.name}"), stage.name)).parameters)
    fits = {None: set(), "numbered": {"out", "resume", "retry"}, "outbase": {"resume", "overwrite", "retry"}}
    declared = fits[stage.fits] | ({"workers"} if stage.parallel else set())
    # a detection without a fit is asked for by another option
    assert declared | ({"run"} if stage.of_fit else set()) == taken & {
        "run",
        "workers",
        "out",
        "resume",
        "overwrite",
        "retry",
    }
    assert {"settings", "progress"} <= taken


def test_what_later_stages_read_first():
    assert first_read_after("postprocess") == {"injections"}  # which no stage of a run reads
    assert "sampling_draws" in first_read_after("optimize")
    assert "buffer" not in first_read_after("optimize")
    assert "buffer" in first_read_after("catalog")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "check"], ["check", "sample"]),
        (["check,psf"], ["check", "psf"]),
        (["optimize..sample"], ["optimize", "background", "noise", "detect", "choose", "sample"]),
        (["check, catalog..optimize", "check"], ["check", "catalog", "optimize"]),
        (["sample.."], ["sample", "postprocess"]),
        (["..psf"], ["check", "psf"]),
        ([".."], list(STAGES)),
        (["sample..sample"], ["sample"]),
    ],
)
def test_lists_and_ranges_of_stages(words, expected):
    assert stages_named(words) == expected


@pytest.mark.parametrize(
    ("word", "found"), [("chek", "chek"), ("check,", "nothing"), ("check..sampel", "sampel"), ("a..b", "a")]
)
def test_stages_that_are_not_known(word, found):
    with pytest.raises(InputError, match=f"--stages: found {found}, expected one of check, .*FIRST..LAST"):
        stages_named([word])


def test_what_stages_hand_on(tmp_path):
    settings = Settings(bandlist=["F1", "F2"], fitsfiles=["image.fits"])
    levels = QTable({"band": ["F1", "F2"], "now": [0.5, -1.0] * u.nJy})
    reports = [
        StageReport("optimize", "", files={"run": tmp_path / "optimize_1"}),
        StageReport("check", ""),
        StageReport("background", "", {"tweakbg": levels}),
        StageReport("detect", "", files={"catalog": tmp_path / "sources.fits"}),
    ]
    found = next_settings(settings, *reports)
    assert found.psfstorefile == tmp_path / "optimize_1" / "psfs.h5"
    assert (found.tweak_background, found.tweakbg) == ("tweakbg", {"F1": 0.5, "F2": -1.0})
    assert found.raw_catalog == tmp_path / "sources.fits"
    handed = next_settings(settings, StageReport("postop", "", files={"catalog": tmp_path / "postop.fits"}))
    assert handed.raw_catalog == tmp_path / "postop.fits"
    assert handed.bounds_kwargs.n_sig_flux == 25.0
