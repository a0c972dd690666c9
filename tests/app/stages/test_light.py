"""Light that ends beyond the pixels: a bright cuspy galaxy in a catalogue whose radius of influence is poor."""

import numpy as np
import pytest
import yaml

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.optimize import optimize
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


@pytest.mark.slow
def test_a_patch_grows_with_the_light(tmp_path):
    truth = SourceCatalog.from_columns(
        ra=[RA, RA + 5e-4],
        dec=[DEC, DEC + 2e-4],
        flux=[[6000.0], [60.0]],
        q=[0.8, 0.7],
        pa=[0.5, 1.0],
        sersic=[4.0, 1.0],
        rhalf=[0.6, 0.2],
        roi=[0.5, 0.6],
        bands=("g",),
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (100, 100), 0.1, 0.0, RA, DEC, psf, noise=0.2)
    (exposure,) = simulate_exposures(truth, [spec], seed=2)
    write_exposure(exposure, tmp_path / "g1.fits")
    poor = {"flux": truth.flux * [[0.3], [1.0]], "rhalf": np.array([0.1, 0.2]), "sersic": np.full(2, 1.5)}
    truth.replace(**poor).write(tmp_path / "peaks.ecsv")
    bounds = {"n_pix": 1, "pixscale": 0.1, "rhalf_range": [0.01, 2.0], "sersic_range": [0.6, 6.0]}
    given = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    (tmp_path / "field.yml").write_text(yaml.safe_dump(given | {"bounds_kwargs": bounds}))
    settings = Settings.from_yaml(tmp_path / "field.yml")
    report = optimize(settings)
    print(report.verdict)
    found = RunDirectory(report.files["run"]).read_scene()
    print(found.flux[:, 0], found.sersic, found.rhalf, found.roi)
    assert "extended beyond the pixels of the first fit: fitted again with larger radii" in report.verdict
    assert found.roi[0] > 2.5
    np.testing.assert_allclose(found.flux[0], truth.flux[0], rtol=0.03)
    np.testing.assert_allclose(found.flux[1], truth.flux[1], rtol=0.1)
    assert found.sersic[0] == pytest.approx(4.0, rel=0.1)

    small = optimize(settings.changed(patch_maxradius=1.5), out=tmp_path / "small")
    (told,) = [row for row in small.tables["flagged"] if row["id"] == str(truth.id[0])]
    assert "beyond its patch" in told["ended"]
    assert "patches 1.5: raise patch_maxradius, or put the source into big_catalog" in told["why"]
    assert "1 beyond its patch" in small.verdict
