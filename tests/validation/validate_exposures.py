"""Single exposures of real fields: do they agree with their joint fit, and what do astrometric shifts explain?

    python tests/validation/validate_exposures.py

* `decam_g3r2z3`: each exposure is fitted alone and compared with the fit of all exposures of its band, in flux,
  position and shape, in units of the error of the single one, which holds the uncertainty of its sky, calibration
  and astrometry. (Between bands the galaxy's Sersic index differs by more than that: a galaxy with a colour gradient
  is not one Sersic profile.)
* `bok_mosaic3_blend`: a shift of each exposure lowers chi-squared by more than 90 for 22 parameters, and the same
  optimum is found from the catalogue and from random starts; chi2/dof of all exposures is below 0.95.

It ends with status 1 if either fails.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import fphojax as fp
from fphojax.app.config import Settings
from fphojax.app.stages.loop import loop
from fphojax.app.workers import field_inputs
from fphojax.field.scene_fit import scene_region
from fphojax.inference.covariance import parameter_covariance, source_covariances

HERE = Path(__file__).resolve()
DATA = Path(os.environ.get("FPHOJAX_DATA", HERE.parents[2] / "../shared/data")).resolve()
CONFIGS = HERE.parents[1] / "data_configs"
PARAMETERS = ("flux", "x", "y", "q", "pa", "sersic", "rhalf")
# of single DECam exposures: sky left by the pipeline (pixel noises), zero point, astrometry
DECAM = fp.Nuisance(sky="constant", sky_sigma=0.05, scale_sigma=0.02, shift_sigma=0.04)
LARGEST_PULL, LARGEST_RMS = 4.0, 1.5
GAIN, BELOW, N_START, SAME = 90.0, 0.95, 10, 0.5


def settings_of(name: str, scratch: Path) -> Settings:
    """Settings of the tests for a field, with results in a scratch folder."""
    text = (CONFIGS / f"{name}.yml").read_text().replace("../../../shared/data", str(DATA))
    path = scratch / f"{name}.yml"
    path.write_text(text.replace("../../runs", str(scratch / "runs")))
    return Settings.from_yaml(path)


class Field:
    """Exposures, PSFs and sources of a field after its loop."""

    def __init__(self, name: str, scratch: Path):
        settings = settings_of(name, scratch)
        report = loop(settings)
        print(f"{name}: {report.verdict}\n{report.tables['exposures']}\n")
        self.chi2_dof = np.asarray(report.tables["exposures"]["chi2_dof"])
        # without errors of the fluxes, which would bound them
        self.catalog = fp.SourceCatalog.read(report.files["catalog"]).replace(flux_err=None)
        self.patcher = field_inputs(settings, Path(report.files["run"]) / "psfs.h5").patcher

    @property
    def exposures(self):
        return self.patcher.exposures

    def model(self, exposures, nuisance: fp.Nuisance, **ranges):
        """Model of some of the exposures, and its start at the catalogue."""
        bands = tuple(dict.fromkeys(exposure.band for exposure in exposures))
        catalog = self.catalog.select_bands(bands)
        patcher = fp.Patcher(exposures, self.patcher.psfs)
        patcher.build_patch(scene_region(catalog), allbands=bands)
        bounds = fp.default_bounds(catalog, n_pix=4, pixscale=exposures[0].pixel_scale, **ranges)
        return patcher.prepare_model(
            active=catalog, bounds=bounds, nuisance=nuisance, tolerance=0.0, listed=False
        )


def measured(field: Field, exposures, nuisance):
    """Parameters of the first source in the first band, and their errors."""
    model, start = field.model(exposures, nuisance, rhalf_range=(0.03, 20.0), sersic_range=(0.5, 8.0))
    best = fp.optimize(model, start)
    covariance = source_covariances(parameter_covariance(model, best), best.values)[0]
    values = [best.values["flux"][0, 0], *(best.values[name][0] for name in PARAMETERS[1:])]
    return np.array(values), np.sqrt(np.diag(covariance)), best.converged


def agreement(scratch: Path) -> bool:
    """Single exposures against the joint fit of their band."""
    field, pulls = Field("decam_g3r2z3", scratch), []
    print("(single - joint) / error of the single exposure, in " + ", ".join(PARAMETERS))
    for band in ("g", "r", "z"):
        exposures = [exposure for exposure in field.exposures if exposure.band == band]
        joint, error, converged = measured(field, exposures, DECAM)
        print(f"{band} joint{'' if converged else ', not converged'}: ", end="")
        print(", ".join(f"{v:.5g} +- {e:.2g}" for v, e in zip(joint, error, strict=True)))
        for exposure in exposures:
            single, error, converged = measured(field, [exposure], DECAM)
            pulls.append((single - joint) / error)
            told = "" if converged else ", not converged"
            print(
                f"  {exposure.name}: {np.round(pulls[-1], 2)}, error of flux {error[0] / joint[0]:.1%}{told}"
            )
    pulls = np.array(pulls)
    rms = np.sqrt((pulls**2).mean(axis=0))
    print(f"rms {np.round(rms, 2)}, largest {np.abs(pulls).max():.2f}\n")
    return bool(np.abs(pulls).max() < LARGEST_PULL and rms.max() < LARGEST_RMS)


def random_start(model, start, rng):
    """Start values drawn uniformly from the box, and shifts from their prior."""
    drawn = dict(start)
    for name in PARAMETERS:
        prior = model.priors[name]
        drawn[name] = rng.uniform(prior.low, prior.high, np.shape(start[name]))
    drawn["shift"] = rng.normal(0.0, 0.2, np.shape(start["shift"]))
    return drawn


def shifts(scratch: Path) -> bool:
    """What shifts gain, from the catalogue and from random starts."""
    field = Field("bok_mosaic3_blend", scratch)
    # the two galaxies: what detection adds to them is their structure, which has several optima
    field.catalog = field.catalog[:2]
    ranges = {"rhalf_range": (0.1, 5.0), "sersic_range": (0.5, 6.0)}
    held = fp.optimize(*field.model(field.exposures, fp.Nuisance(sky="constant"), **ranges))
    model, start = field.model(field.exposures, fp.Nuisance(sky="constant", shift_sigma=0.3), **ranges)
    free = fp.optimize(model, start)
    gain = held.chi2.sum() - free.chi2.sum()
    rng = np.random.default_rng(1)
    ended = []
    for _ in range(N_START):
        found = fp.optimize(model, random_start(model, start, rng))
        ended.append(free.chi2.sum() - found.chi2.sum())
        print(f"  random start: chi2 lower by {ended[-1]:+.3f}, {found.n_step} steps, {found.converged}")
    n_free = free.values["shift"].size - 2  # the mean shift is in the positions
    same = int(np.sum(np.abs(ended) < SAME))
    print(
        f"shifts lower chi2 by {gain:.1f} for {n_free} parameters; {same} of {N_START} random starts end there"
    )
    print(f"largest chi2/dof {field.chi2_dof.max():.2f}\n")
    return bool(gain > GAIN and same == N_START and (field.chi2_dof < BELOW).all())


def main() -> int:
    if not DATA.is_dir():
        print(f"{DATA} is absent: nothing done")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        passed = [agreement(Path(scratch)), shifts(Path(scratch))]
    print(
        f"single exposures {'agree' if passed[0] else 'do not agree'}; shifts {'pass' if passed[1] else 'fail'}"
    )
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
