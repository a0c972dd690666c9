"""A source in two patches that overlap, on a mock field with known truth: what each of them says of it."""

import arviz as az
import numpy as np
import pytest

import fphojax as fp
from fphojax.inference.covariance import best_fit_as_chains

BANDS = ["F"]
MIDDLE = 2  # the source that both halves of the chain have
DRAWS = 300
PASSES = 2  # of optimisation, after which the fixed neighbours are where they belong


@pytest.fixture(scope="module")
def field():
    """A chain of five with two bright ones, whose light reaches far into the middle one."""
    truth = fp.mock_galaxies(
        x=1.1 * np.arange(-2, 3),
        y=[0.1, -0.05, 0.0, 0.08, -0.1],
        flux={"F": [140.0, 900.0, 120.0, 1000.0, 130.0]},
        q=[0.6, 0.75, 0.65, 0.7, 0.55],
        pa=[20.0, 80.0, 130.0, 50.0, 160.0],
        sersic=1.5,
        rhalf=0.14,
    )
    camera = fp.MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.4, width=7.0)
    return fp.mock_field(truth, [camera], seed=2)


@pytest.fixture(scope="module")
def halves(field):
    """For the left and the right half: its result, and the flux of the middle with no neighbour subtracted.

    The buffer lets both see all pixels that tell anything about the middle one: they share its noise.
    """
    patcher = fp.Patcher(field.exposures, field.psfs)
    scene = fp.LinkedSuperScene(
        field.peaks,
        BANDS,
        roi=0.8,
        buffer=0.8,
        bounds_kwargs={"n_pix": 3, "pixscale": 0.1, "rhalf_range": (0.03, 0.5), "sersic_range": (0.8, 3.0)},
        maxactive_per_patch=3,
    )

    def half(seed_index, sampled):
        region, active, fixed = scene.checkout_region(seed_index=seed_index)
        bounds, _ = scene.bounds_and_covs(active["source_index"])
        patcher.build_patch(region, allbands=BANDS)
        model, start = patcher.prepare_model(active=active, fixed=fixed, bounds=bounds)
        if sampled:
            found = fp.sample(model, start, draws=DRAWS, warmup=200, chains=2, seed=3, progress=False)
        else:
            found = best_fit_as_chains(model, fp.optimize(model, start))
        result = fp.PatchResult.from_chains(found, patcher.scene)
        scene.checkin_region(result.final_catalog("optimum"), fixed, found.n_draw)
        if not sampled:
            return None
        alone, start = patcher.prepare_model(active=active, bounds=bounds)
        row = active["source_index"].tolist().index(MIDDLE)
        return result, float(fp.optimize(alone, start).values["flux"][row, 0])

    for _ in range(PASSES):
        for seed_index in (0, 4):
            half(seed_index, sampled=False)
    return [half(seed_index, sampled=True) for seed_index in (0, 4)]


@pytest.mark.slow
def test_two_halves_of_a_chain_agree(field, halves):
    """Means and widths of the middle source's posterior differ by no more than the chains' own errors.

    To hold a neighbour shifts the posterior by its distance from its mean times the covariance with it: less than
    the chains can see. Light of it that is not subtracted would shift it by many standard deviations.
    """
    (left, _), (right, unsubtracted) = halves
    assert sorted(left.active["source_index"]) == [0, 1, 2]
    assert sorted(left.fixed["source_index"]) == [3, 4]
    assert sorted(right.active["source_index"]) == [2, 3, 4]
    assert sorted(right.fixed["source_index"]) == [0, 1]
    identifier = field.truth.id[MIDDLE]
    both = [half.centred_draws.sel(source=identifier) for half in (left, right)]
    effect = (unsubtracted - float(both[1]["flux"].mean())) / float(both[1]["flux"].std())
    print(f"with nothing subtracted, the flux in the right half moves by {effect:+.1f} sd")
    assert abs(effect) > 3

    names = ("ra", "dec", "q", "pa", "sersic", "rhalf")
    truth = {name: float(getattr(field.truth, name)[MIDDLE]) for name in names}
    truth |= {"flux": float(field.truth.flux[MIDDLE, 0]), "pa": float(field.truth.pa[MIDDLE])}
    for name, true in truth.items():
        draws = [half[name].squeeze(drop=True).transpose("chain", "draw").to_numpy() for half in both]
        mean, sd = (np.array([statistic(part) for part in draws]) for statistic in (np.mean, np.std))
        of_mean, of_sd = (
            np.hypot(*(float(az.mcse(part, method=method)) for part in draws)) for method in ("mean", "sd")
        )
        turn = 180 * round((mean[0] - true) / 180) if name == "pa" else 0
        pull = (mean - turn - true) / sd
        shift, width = np.diff(mean)[0] / of_mean, np.diff(sd)[0] / of_sd
        print(
            f"{name:7s} means differ by {np.diff(mean)[0] / sd[0]:+.3f} sd = {shift:+.1f} errors, sds by "
            f"{sd[1] / sd[0] - 1:+.1%} = {width:+.1f} errors, pulls {pull[0]:+.2f} {pull[1]:+.2f}"
        )
        assert abs(shift) < 4
        assert abs(width) < 4
        assert np.abs(pull).max() < 4
