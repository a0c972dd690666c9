"""A scene and its frame belong together, and a result is that of the scene that was fitted."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

import fphojax as fp
from fphojax.inference.covariance import best_fit_as_chains
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

TRUTH = mock_galaxies(
    x=[-1.5, 1.5], y=[0.0, 0.2], flux={"F1": [80, 50]}, q=0.6, pa=30, sersic=2.0, rhalf=0.15
)


@pytest.fixture(scope="module")
def field():
    return mock_field(TRUTH, [MockCamera("F1", pixel_scale=0.06, width=5.0)])


def region_of(row):
    return fp.CircularRegion(TRUTH.ra[row], TRUTH.dec[row], 0.8)


@pytest.fixture(scope="module")
def scenes(field):
    """Two patches with a source each."""
    frames = [fp.cut(field.exposures, region_of(row)) for row in (0, 1)]
    return [
        fp.Scene(frame, field.psfs, active=field.peaks[[row]], listed=False)
        for row, frame in enumerate(frames)
    ]


def test_chains_of_one_scene_make_no_result_of_another(scenes):
    """With the frame of the other patch, positions would be off by the distance of the patches."""
    one, other = scenes
    chains = best_fit_as_chains(one.model, fp.optimize(one.model, one.start))
    result = fp.PatchResult.from_chains(chains, one)
    found = result.final_catalog("optimum")
    print(f"offset from the truth: {3600 * (found.dec[0] - TRUTH.dec[0]):.4f} arcsec")
    assert abs(found.dec[0] - TRUTH.dec[0]) * 3600 < 0.02
    with pytest.raises(ValueError, match="the chains are of the model of another scene"):
        fp.PatchResult.from_chains(chains, other)


def test_scenes_of_one_frame_with_other_sources_are_told_apart(field):
    frame = fp.cut(field.exposures, region_of(0))
    one, other = (fp.Scene(frame, field.psfs, active=field.peaks[[row]], listed=False) for row in (0, 1))
    assert one.owns(one.model)
    assert one.owns(dataclasses.replace(one.model, held={"q": np.ones(1)}))
    assert not other.owns(one.model)


def test_patches_built_one_after_the_other_keep_their_frames(field):
    """forcepho's loop, with the next patch built before the result of the last one is made."""
    patcher = fp.Patcher(field.exposures, field.psfs)
    patcher.build_patch(region_of(0))
    model, start = patcher.prepare_model(active=field.peaks[[0]], listed=False)
    scene = patcher.scene
    patcher.build_patch(region_of(1))
    assert scene is patcher.scene
    assert scene.frame.region == region_of(0)
    assert patcher.frame.region == region_of(1)
    chains = best_fit_as_chains(model, fp.optimize(model, start))
    assert fp.PatchResult.from_chains(chains, patcher.scene).region == region_of(0)
    patcher.prepare_model(active=field.peaks[[1]], listed=False)
    with pytest.raises(ValueError, match="another scene"):
        fp.PatchResult.from_chains(chains, patcher.scene)


def test_profiles_are_those_of_the_catalogue(field):
    frame = fp.cut(field.exposures, region_of(0))
    points = field.peaks[[0]].replace(extra=Table({"profile": ["point"]}))
    scene = fp.Scene(frame, field.psfs, active=points, listed=False)
    assert not any(scene.model.is_free(name).any() for name in ("q", "pa", "sersic", "rhalf"))
    assert scene.model.is_free("flux").all()
    strange = points.replace(extra=Table({"profile": ["king"]}))
    with pytest.raises(fp.InputError, match="profile is 'king', expected one of sersic"):
        fp.Scene(frame, field.psfs, active=strange)


def test_a_scene_says_what_it_is(scenes):
    assert repr(scenes[0]).startswith("Scene(1 active and 0 fixed sources, ")
    assert repr(scenes[0]).endswith("of 1 exposures in F1)")
