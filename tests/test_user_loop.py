"""The loop over a field as forcepho's documentation has it, written by hand on a mock field of ten sources."""

import numpy as np
import pytest

import fphojax as fp

BANDS = ["F"]
DRAWS = 30


@pytest.fixture(scope="module")
def field():
    """Five pairs in a row: each pair reaches into the next one, and is a patch of its own."""
    rng = np.random.default_rng(3)
    x = np.repeat(1.7 * np.arange(-2, 3), 2) + np.tile([-0.25, 0.25], 5)
    truth = fp.mock_galaxies(
        x=x,
        y=rng.uniform(-0.1, 0.1, 10),
        flux={"F": rng.uniform(80, 160, 10)},
        q=rng.uniform(0.5, 0.8, 10),
        pa=rng.uniform(0, 180, 10),
        sersic=1.5,
        rhalf=0.12,
    )
    camera = fp.MockCamera("F", pixel_scale=0.07, fwhm=0.16, noise=0.3, width=9.0)
    return fp.mock_field(truth, [camera], seed=1)


@pytest.mark.slow
def test_loop_by_hand(field, tmp_path):
    patcher = fp.Patcher(field.exposures, field.psfs)
    run = fp.RunDirectory.create(tmp_path / "run")
    sceneDB = fp.LinkedSuperScene(
        sourcecat=field.peaks,
        bands=BANDS,
        statefile=run.scene_path,
        roi=np.full(10, 0.8),
        bounds_kwargs={"n_pix": 3, "pixscale": 0.07, "rhalf_range": (0.03, 0.5), "sersic_range": (0.8, 5.0)},
        target_niter=DRAWS,
        maxactive_per_patch=2,
        seed=1,
    )
    taskID, neighbours = 0, 0
    with sceneDB:
        while sceneDB.undone:
            region, active, fixed = sceneDB.checkout_region(seed_index=-1)
            bounds, cov = sceneDB.bounds_and_covs(active["source_index"])
            patcher.build_patch(region, allbands=BANDS)
            model, q = patcher.prepare_model(active=active, fixed=fixed, bounds=bounds)
            best = fp.optimize(model, q)
            chains = fp.sample(
                model,
                best.values,
                draws=DRAWS,
                warmup=40,
                chains=1,
                covariance=cov,
                full_cov=True,
                max_treedepth=8,
                seed=taskID,
                progress=False,
            )
            out = fp.PatchResult.from_chains(chains, patcher.scene)
            run.write_patch(taskID, out)
            final = out.final_catalog()
            sceneDB.checkin_region(final, fixed, chains.n_draw, block_covs=out.block_covs(), taskID=taskID)
            sceneDB.writeout()
            assert cov.shape == (len(active), 7, 7)
            assert len(active) <= 2
            taskID += 1
            neighbours += len(fixed)

    assert neighbours > 0
    assert run.patches() == list(range(taskID))
    assert (sceneDB.n_iter >= DRAWS).all()
    again = fp.SuperScene.resume(run.scene_path)
    assert not again.undone
    scene = run.read_scene()
    np.testing.assert_allclose(scene.flux, sceneDB.catalog.flux, rtol=1e-14)
    # the covariances are those of the draws, and the fluxes are right
    last = {int(row): n for n in run.patches() for row in run.read_patch(n).active["source_index"]}
    _, covs = again.bounds_and_covs(np.arange(10))
    for row, number in last.items():
        draws = run.read_patch(number).centred_draws.sel(source=scene.id[row])
        np.testing.assert_allclose(covs[row, 0, 0], float(draws["flux"].var()), rtol=1e-10)
        east = 3600 * np.cos(np.deg2rad(scene.dec[row])) * (draws["ra"] - draws["ra"].mean())
        np.testing.assert_allclose(covs[row, 1, 1], float(east.var()), rtol=1e-6)
        np.testing.assert_allclose(covs[row, 4, 4], float(np.deg2rad(draws["pa"]).var()), rtol=1e-10)
        np.testing.assert_allclose(
            covs[row, 5, 6],
            np.cov(draws["sersic"].values.ravel(), draws["rhalf"].values.ravel(), ddof=0)[0, 1],
        )
    pulls = (scene.flux - field.truth.flux)[:, 0] / scene.flux_err[:, 0]
    print(f"patches {taskID}, fixed neighbours {neighbours}, pulls of the fluxes {np.round(pulls, 1)}")
    assert np.abs(pulls).max() < 5
    assert np.std(pulls) < 3
