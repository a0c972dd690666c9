"""A recipe makes the same scenes from files as from what is in memory."""

import json

import numpy as np
import pytest
from numpyro.distributions import LogNormal, Normal

import fphojax as fp
from fphojax.errors import InputError
from fphojax.inputs.prior_names import prior_named
from fphojax.inputs.recipe import linked_rows, sky_of

CONFIG = {
    "bandlist": ["B", "R"],
    "fitsfiles": [],
    "extensions": {"sci": "SCI", "err": "ERR", "mask": None, "psf": None},
    "pixelstorefile": None,
    "metastorefile": None,
    "splinedatafile": None,
    "pixel_response": "quartic",
    "max_snr": 0.0,
    "tweak_background": "tweakbg",
    "tweakbg": {"R": 0.5},
    "priors": {"rhalf": {"distribution": "LogNormal", "loc": -2.0, "scale": 0.4}},
    "ties": {"q": {"two": "one"}},
    "nuisance": {"sky": "constant"},
}


@pytest.fixture
def config(run):
    return CONFIG | {"fitsfiles": run.read_config()["fitsfiles"]}


def test_scene_from_files_is_that_from_memory(fit, run, config):
    direct = fp.Recipe(
        [e.less(0.5) if e.band == "R" else e for e in fp.read_exposures(config["fitsfiles"])],
        fit.psfs,
        priors={"rhalf": LogNormal(-2.0, 0.4)},
        ties={"q": {"two": "one"}},
        nuisance=fp.Nuisance(sky="constant"),
    )
    opened = fp.Recipe.from_config(json.loads(json.dumps(config)), fit.psfs)
    assert direct.bands == opened.bands == ("B", "R")
    sources = {"active": fit.active, "fixed": fit.fixed, "bounds": fit.bounds}
    one, other = (recipe.scene(fit.frame.region, **sources) for recipe in (direct, opened))
    np.testing.assert_array_equal(one.model.patch.data, other.model.patch.data)
    assert sorted(one.model.priors) == sorted(other.model.priors)
    assert "sky" in other.model.priors
    assert other.model.priors["rhalf"].base_dist.scale == pytest.approx(0.4)
    assert other.model.tied["q"].tolist() == [0, 0]
    for name, value in one.start.items():
        np.testing.assert_array_equal(value, other.start[name])


def test_a_tie_across_patches_is_refused(fit, config):
    recipe = fp.Recipe.from_config(config | {"ties": {"x": {"one": "three"}}}, fit.psfs)
    with pytest.raises(InputError, match="ties: x: found id three outside the patch of its partner"):
        recipe.scene(fit.frame.region, active=fit.active)


def test_rows_that_share_parameters(fit):
    assert linked_rows(fit.truth, {"x": {"two": "one"}, "q": {"three": "two"}}) == [[0, 1, 2]]
    assert linked_rows(fit.truth, {"x": {"three": "one"}}) == [[0, 2]]
    assert linked_rows(fit.truth, {}) == []


def test_sky_counts_only_where_it_is_switched_on():
    assert sky_of(CONFIG) == {"R": 0.5}
    assert sky_of(CONFIG | {"tweak_background": None}) == {}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("Gauss", {"loc": 0.0}, "found 'Gauss', expected a name in numpyro.distributions"),
        ("Normal", {"loc": 0.0, "width": 1.0}, "found Normal(loc=0, width=1), expected its arguments: "),
        ("Poisson", {"rate": 1.0}, "expected a continuous distribution"),
    ],
)
def test_priors_that_are_none(name, arguments, said):
    with pytest.raises(InputError) as caught:
        prior_named(name, arguments)
    assert said in str(caught.value)


def test_a_prior_by_name():
    prior = prior_named("Normal", {"loc": 1.0, "scale": 2.0})
    assert isinstance(prior, Normal)
    assert float(prior.scale) == 2.0
