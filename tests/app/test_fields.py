"""A field fitted patch by patch, by a fit that does nothing."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from fphojax.app.config import Settings
from fphojax.app.fields import fit_field
from fphojax.app.stages.steps import first_read_after
from fphojax.field.scheduler import PatchOutcome
from fphojax.inputs.catalog import SourceCatalog
from fphojax.inputs.errors import InputError
from fphojax.inputs.psf import PSFMixture
from fphojax.outputs.run_directory import RunDirectory
from fphojax.simulate import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


@dataclass
class Stand:
    """Leaves a file, and the sources as they were; the second source's covariances are not finite."""

    folder: Path

    def __call__(self, tasks):
        return [self._outcome(task) for task in tasks]

    def _outcome(self, task):
        path = RunDirectory(self.folder).samples_path(task.number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"draws")
        size, width = len(task.active), task.active.flux.shape[1] + 6
        covs = np.full((size, width, width), np.nan if 2 in task.active.id else 1.0)
        return PatchOutcome(final=task.active, n_iter=1, block_covs=covs, summary={})


@pytest.fixture
def settings(tmp_path):
    """Of two sources far apart."""
    truth = SourceCatalog.from_columns(
        ra=[RA, RA],
        dec=DEC + np.array([-2.0, 2.0]) / 3600,
        flux=[[50.0], [50.0]],
        q=0.8,
        pa=29.0,
        sersic=1.0,
        rhalf=0.1,
        roi=0.5,
        bands=("g",),
        id=[1, 2],
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.4, 1.4, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (60, 60), 0.1, 0.0, RA, DEC, psf, noise=0.1)
    for exposure in simulate_exposures(truth, [spec], seed=1):
        write_exposure(exposure, tmp_path / "g1.fits")
    truth.write(tmp_path / "peaks.ecsv")
    content = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    (tmp_path / "field.yml").write_text(yaml.safe_dump(content))
    return Settings.from_yaml(tmp_path / "field.yml")


def fitted(settings, **options):
    return fit_field(settings, settings.outbase, lambda folder, _: Stand(folder), target_niter=1, **options)


def test_nothing_is_kept_of_a_patch_that_was_given_up(settings):
    """Not even what was written before it failed."""
    run, scene, _ = fitted(settings)
    entries = [json.loads(entry) for entry in scene.patchlog]
    kept = [entry["taskID"] for entry in entries if "flag" not in entry]
    assert (len(entries), len(kept)) == (2, 1)
    assert list(scene.flags) == [1]
    assert run.patches() == kept


def test_a_run_goes_on_with_the_settings_that_it_began_with(settings):
    fitted(settings)
    with pytest.raises(
        InputError, match=r"field\.yml: buffer: found 0\.7, expected 0\.0 as in .*config\.json"
    ):
        fitted(settings.changed(buffer=0.7), resume=True)
    unread = first_read_after("optimize")
    assert {"sampling_draws", "rounds"} < unread
    assert "buffer" not in unread
    with pytest.raises(InputError, match=r"sampling_draws: found 7"):
        fitted(settings.changed(sampling_draws=7), resume=True)
    fitted(settings.changed(sampling_draws=7), resume=True, unread=unread)
