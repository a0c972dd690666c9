"""Residual files."""

import dataclasses

import h5py
import numpy as np
import pytest
from small_run import altered

from fphojax.inputs import InputError
from fphojax.results.residuals import RunResiduals, write_residuals
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image

SPECS = {"first": ((30, 27), 0.05, 10.0), "second": ((22, 20), 0.07, 130.0)}


def test_data_minus_model_is_residual(fit, tmp_path):
    path = tmp_path / "patch1_residuals.h5"
    write_residuals(path, fit.scene, fit.chains.optimum.values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with h5py.File(path) as file:
        assert {band: list(file[band]) for band in file} == {"B": ["first"], "R": ["second"]}
        for exposure in fit.frame.exposures:
            group = {name: item[()] for name, item in file[exposure.band][exposure.name].items()}
            assert set(group) == {"xpix", "ypix", "data", "ierr", "residual"}
            at = group["ypix"], group["xpix"]
            assert np.array_equal(group["data"], exposure.data[at])
            assert np.array_equal(group["ierr"], exposure.ierr[at])
            assert (group["ierr"] > 0).all()
            # the truth of active and fixed sources, from the exact profiles
            region = fit.frame.region
            shape, scale, rotation = SPECS[exposure.name]
            place = (shape, scale, rotation, region.ra, region.dec, _psf(fit, exposure))
            spec = ExposureSpec(exposure.band, exposure.name, *place, 1.0)
            model = noiseless_image(fit.truth, spec)[at]
            error = np.abs(group["data"] - group["residual"] - model).max() / model.max()
            print(f"{exposure.name}: model against exact profiles {error:.1e} of the peak")
            assert error < 2e-3


def test_bands_are_in_the_order_of_the_fit(fit, tmp_path):
    """Not in that of their names."""
    run = RunDirectory.create(tmp_path / "run")
    renamed = zip(fit.frame.exposures, "ZA", strict=True)
    exposures = tuple(dataclasses.replace(exposure, band=band) for exposure, band in renamed)
    run.write_patch(0, fit.result)
    frame = dataclasses.replace(fit.frame, exposures=exposures)
    write_residuals(run.residuals_path(0), altered(fit.scene, frame=frame), fit.chains.optimum.values)
    assert [band for band, _ in RunResiduals(run).exposures] == ["Z", "A"]


def test_pixels_of_a_run_are_those_of_the_last_patch(fit, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match="no patch has residuals"):
        RunResiduals(run)
    brighter = fit.chains.optimum.values | {"flux": 2 * fit.chains.optimum.values["flux"]}
    exposure = fit.frame.exposures[0]
    for patch, values in ((2, brighter), (10, fit.chains.optimum.values)):
        run.write_patch(patch, fit.result)
        write_residuals(run.residuals_path(patch), fit.scene, values)
    residuals = RunResiduals(run)
    assert residuals.exposures == [("B", "first"), ("R", "second")]
    assert residuals.read("B", "third") is None
    found = residuals.read(exposure.band, exposure.name)
    with h5py.File(run.residuals_path(10)) as file:
        last = {name: item[()] for name, item in file["B"]["first"].items()}
    order = np.lexsort((last["xpix"], last["ypix"]))
    for name, column in (("xpix", found.x), ("ypix", found.y), ("residual", found.residual)):
        assert np.array_equal(column, last[name][order])


def test_names_that_cannot_be_groups(fit, tmp_path):
    exposures = tuple(dataclasses.replace(e, name="a/b") for e in fit.frame.exposures)
    frame = dataclasses.replace(fit.frame, exposures=exposures)
    with pytest.raises(InputError, match=r"'a/b' cannot name a group"):
        write_residuals(tmp_path / "r.h5", altered(fit.scene, frame=frame), fit.chains.optimum.values)
    assert not any(tmp_path.iterdir())


def _psf(fit, exposure):
    return fit.psfs.lookup(exposure.band)
