"""A recipe from memory, put into files, makes the same pixels and scenes again."""

import json

import numpy as np
import pytest
from numpyro.distributions import LogNormal, Normal

from fphojax.errors import InputError
from fphojax.field.recipe_files import as_files
from fphojax.inputs.exposure_nuisance import Nuisance
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.noise_model import ExposureNoise, NoiseModel
from fphojax.inputs.recipe import Recipe
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies


@pytest.fixture(scope="module")
def field():
    truth = mock_galaxies(
        x=[-1.5, 1.5],
        y=0.0,
        flux={"F": [80.0, 70.0], "G": [60.0, 50.0]},
        q=0.7,
        pa=30.0,
        sersic=1.5,
        rhalf=0.12,
    )
    cameras = [MockCamera(band, pixel_scale=0.1, fwhm=0.2, noise=0.3, width=5.0) for band in ("F", "G")]
    return mock_field(truth, cameras, seed=1)


def test_recipe_comes_back(field, tmp_path):
    recipe = Recipe(
        field.exposures,
        field.psfs,
        priors={"rhalf": LogNormal(-2.0, 0.5)},
        ties={"q": {"1": "0"}},
        nuisance=Nuisance(sky="constant"),
        tolerance=1e-3,
        noise=NoiseModel(
            {("F", "F"): ExposureNoise("F", "F", 0.9, 0.1, np.array([[0.81]]), 0.0, 0.1, 500)}, scale=2.0
        ),
    )
    config = json.loads(json.dumps(as_files(recipe, tmp_path)))
    assert config["priors"] == {"rhalf": {"distribution": "LogNormal", "loc": -2.0, "scale": 0.5}}
    again = Recipe.from_config(config, field.psfs)
    assert again.bands == recipe.bands
    assert again.ties == recipe.ties
    assert again.nuisance == recipe.nuisance
    assert list(again.noise.exposures) == [("F", "F")]
    np.testing.assert_allclose(again.noise.kernel("F", "F"), [[2.0]])
    assert (again.tolerance, again.pixel_response) == (1e-3, recipe.pixel_response)
    for found, given in zip(again.exposures, recipe.exposures, strict=True):
        assert (found.band, found.name, found.shape) == (given.band, given.name, given.shape)
        ny, nx = given.shape
        for one, other in zip(found.window(0, nx, 0, ny), given.window(0, nx, 0, ny), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        np.testing.assert_allclose(
            found.wcs.pixel_to_world_values(3, 40), given.wcs.pixel_to_world_values(3, 40), rtol=1e-12
        )


def test_stores_stay_where_they_are(field, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    config = as_files(Recipe(field.exposures, field.psfs), first)
    stored = Recipe.from_config(config, field.psfs)
    again = as_files(stored, second)
    assert [again[key] for key in ("pixelstorefile", "metastorefile")] == [
        str(first / "exposures.h5"),
        str(first / "exposures.json"),
    ]
    assert not list(second.iterdir())
    time = (first / "exposures.h5").stat().st_mtime_ns
    as_files(Recipe(field.exposures, field.psfs), first)  # of a run that is resumed
    assert (first / "exposures.h5").stat().st_mtime_ns == time


def test_what_no_file_describes(field, tmp_path):
    strange = Recipe(field.exposures, field.psfs, priors={"q": Normal(np.full(2, 0.5), 0.1)})
    with pytest.raises(InputError, match=r"priors: q: found .*, expected a distribution of single numbers"):
        as_files(strange, tmp_path)

    class Bent:
        """A projection that is no FITS WCS."""

        def __init__(self, wcs):
            self._wcs = wcs

        def __getattr__(self, name):
            return getattr(self._wcs, name)

    one = field.exposures[0]
    bent = Exposure(name=one.name, band=one.band, data=one.data, ierr=one.ierr, wcs=Bent(one.wcs))
    with pytest.raises(
        InputError, match=f"exposure '{one.name}' of band F: found a WCS that no header holds"
    ):
        as_files(Recipe([*field.exposures, bent], field.psfs), tmp_path)
    assert list(tmp_path.iterdir()) == []  # found before the pixels are written
