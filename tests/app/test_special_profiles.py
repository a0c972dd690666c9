"""A field of special profiles: a point source beside a bulge and its disk, in two patches, each fitted twice."""

import json

import numpy as np
import pytest
import yaml
from astropy.table import Table
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.inputs.astrometry import sky_offsets
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

STAR, BULGE, DISK = 1, 2, 3  # by id
PROFILES = ["point", "devaucouleurs", "exponential"]
HELD = {
    STAR: {"sersic": 1.0, "q": 1.0, "pa": 0.0, "rhalf": 0.0},
    BULGE: {"sersic": 4.0},
    DISK: {"sersic": 1.0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Truth and folder of the run."""
    folder = tmp_path_factory.mktemp("profiles")
    truth = mock_galaxies(
        x=[-0.9, 0.3, 0.3],
        y=[0.05, 0.0, 0.0],
        flux={"F": [200.0, 150.0, 300.0]},
        q=[1.0, 0.8, 0.5],
        pa=[0.0, 30.0, 40.0],
        sersic=[1.0, 4.0, 1.0],
        rhalf=[1e-4, 0.1, 0.3],
    )
    camera = MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.4, width=5.0)
    field = mock_field(truth, [camera], seed=2)
    write_exposure(field.exposures[0], folder / "image.fits")
    field.psfs.write(folder / "psfs.h5")
    start = truth.replace(roi=np.full(3, 0.7), rhalf=np.array([0.1, 0.15, 0.25]))
    start.replace(extra=Table({"profile": PROFILES})).write(folder / "peaks.ecsv")
    settings = {
        "bandlist": ["F"],
        "fitsfiles": "image.fits",
        "psfstorefile": "psfs.h5",
        "raw_catalog": "peaks.ecsv",
        "ties": {name: {str(DISK): str(BULGE)} for name in ("x", "y")},
        "bounds_kwargs": {"n_pix": 1, "pixscale": 0.1},
        "maxactive_per_patch": 2,
        "buffer": 0.3,
        "chains": 1,
        "warmup": 40,
        "sampling_draws": 40,
        "target_niter": 80,
        "write_residuals": False,
        "seed": 5,
    }
    (folder / "field.yml").write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(app, ["sample", str(folder / "field.yml"), "--quiet"])
    print(done.output)
    assert done.exit_code == 0
    return truth, RunDirectory(folder / "output")


@pytest.mark.slow
def test_held_and_tied_parameters_stay_so_from_patch_to_patch(run):
    _, directory = run
    patches = [directory.read_patch(number) for number in directory.patches()]
    active = sorted(sorted(patch.active.id.tolist()) for patch in patches)
    assert active == [[STAR], [STAR], [BULGE, DISK], [BULGE, DISK]]
    for patch in patches:
        assert sorted({*patch.active.id, *patch.fixed.id}) == [STAR, BULGE, DISK]
        for identifier in patch.active.id.tolist():
            draws = patch.draws.sel(source=identifier)
            for name, value in HELD[identifier].items():
                assert (draws[name] == value).all(), (identifier, name)
            assert (draws["flux"].std(("chain", "draw")) > 0).all()
        if BULGE in patch.active.id:
            for name in ("ra", "dec"):
                bulge, disk = (patch.draws[name].sel(source=each) for each in (BULGE, DISK))
                np.testing.assert_array_equal(bulge, disk)
                assert bulge.std() > 0


@pytest.mark.slow
def test_catalogue_of_special_profiles(run):
    truth, directory = run
    scene = directory.read_scene()
    assert scene["profile"].tolist() == PROFILES
    for row, identifier in enumerate(scene.id.tolist()):
        for name, value in HELD[identifier].items():
            assert getattr(scene, name)[row] == pytest.approx(value, abs=1e-12)
    assert all("flag" not in json.dumps(entry) for entry in directory.read_log()["patchlog"])
    offset = np.hypot(*sky_offsets(scene.ra, scene.dec, scene.ra[1], scene.dec[1]).T)
    assert offset[2] == 0
    for number in directory.patches()[-2:]:
        patch = directory.read_patch(number)
        total = patch.draws["flux"].sum(("source", "band"))
        true = truth.flux[np.isin(truth.id, patch.active.id)].sum()
        pull = float((total.mean() - true) / total.std())
        print(
            f"sources {patch.active.id.tolist()}: flux {float(total.mean()):.1f}, truth {true:.1f}, pull {pull:+.1f}"
        )
        assert abs(pull) < 4


@pytest.mark.slow
def test_all_stages_of_a_field_with_a_star_a_bulge_with_its_disk_and_a_galaxy(tmp_path):
    """As a user has it: rhalf 0 for the star, numbers as ids in `ties`; one source is not in the list."""
    truth = mock_galaxies(
        x=[-1.5, 0.5, 0.5, 1.7, -0.2],
        y=[0.1, 0.0, 0.0, -1.0, 1.6],
        flux={"F": [200.0, 150.0, 300.0, 100.0, 60.0]},
        q=[1.0, 0.8, 0.5, 0.7, 0.8],
        pa=[0.0, 30.0, 40.0, 10.0, 0.0],
        sersic=[1.0, 4.0, 1.0, 1.5, 1.0],
        rhalf=[1e-4, 0.1, 0.3, 0.15, 0.1],
    )
    field = mock_field(truth, [MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.4, width=6.0)], seed=2)
    write_exposure(field.exposures[0], tmp_path / "image.fits")
    field.psfs.write(tmp_path / "psfs.h5")
    profiles = [*PROFILES, "sersic"]
    start = truth[:4].replace(roi=np.full(4, 0.7), rhalf=np.array([0.0, 0.15, 0.25, 0.2]))
    start.replace(extra=Table({"profile": profiles})).write(tmp_path / "peaks.ecsv")
    (tmp_path / "field.yml").write_text(
        """\
bandlist: [F]
fitsfiles: image.fits
psfstorefile: psfs.h5
raw_catalog: peaks.ecsv
outbase: run
bounds_kwargs: {n_pix: 1, pixscale: 0.1}
buffer: 0.5
ties: {x: {3: 2}, y: {3: 2}}
chains: 2
warmup: 60
sampling_draws: 60
"""
    )
    done = CliRunner().invoke(app, ["run", str(tmp_path / "field.yml"), "--quiet"])
    print(done.output)
    assert done.exit_code == 0, done.output
    final = Table.read(tmp_path / "run" / "catalogs" / "final.fits")
    assert final["id"].tolist() == [1, 2, 3, 4, 5]
    assert final["profile"].tolist() == [*profiles, "sersic"]
    scene = RunDirectory(tmp_path / "run").read_scene()
    assert scene["origin"].tolist() == ["catalog"] * 4 + ["detected"]
    assert final["rhalf"][0] == 0
    assert (final["ra"][1], final["dec"][1]) == (final["ra"][2], final["dec"][2])
    pull = (final["F"] - truth.flux[:, 0]) / final["F_err"]
    print(f"pulls of the fluxes: {np.round(pull, 1)}")
    assert np.abs(pull).max() < 4
