"""The sampler on a scene whose posterior is known."""

import dataclasses
import os
import signal
import threading
import time

import arviz
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference import lockstep, sampling
from fphojax.inference import runs as module
from fphojax.inference.nuts import MOST, Kernel, advance
from fphojax.inference.optimum import optimize
from fphojax.inference.posterior import Posterior, posterior_around
from fphojax.inference.runs import Run
from fphojax.inference.sampling import continued, sample, sample_many
from fphojax.inference.whitening import whitening


def test_posterior_is_the_fisher_matrix_where_it_is_gaussian(chains, capsys):
    fisher = np.linalg.inv(chains.optimum.fisher)
    names = [name for name in sorted(chains.values) for _ in range(chains.values[name][0, 0].size)]
    sd = np.concatenate([chains.values[name].std(axis=(0, 1)).ravel() for name in sorted(chains.values)])
    ratio = dict(zip(names, sd / np.sqrt(np.diag(fisher)), strict=True))
    with capsys.disabled():
        print("\nposterior sd over Fisher sd: " + ", ".join(f"{k} {v:.2f}" for k, v in ratio.items()))
    assert all(0.8 < value < 1.25 for value in ratio.values())


def test_chains_mix(chains):
    assert chains.values["flux"].shape == (2, 200, 1, 2)
    assert not chains.statistics["diverging"].any()
    steps = chains.statistics["n_steps"]
    assert (2 ** chains.statistics["tree_depth"] > steps).all()
    assert not chains.statistics["at_max_depth"].any()
    assert not chains.statistics["outside_box"].any()
    assert chains.n_warmup <= 100
    assert chains.n_calls > steps.sum()


def test_log_posterior_is_that_of_the_model(bright_scene, chains):
    model, _ = bright_scene
    values = {name: jnp.asarray(value[1, -1]) for name, value in chains.values.items()}
    expected = model.log_likelihood(values) + model.log_prior(values)
    np.testing.assert_allclose(chains.statistics["lp"][1, -1], expected, rtol=1e-6)


def test_same_seed_same_draws(bright_scene, chains):
    again = sample(*bright_scene, draws=200, warmup=100, chains=2, seed=3, progress=False)
    other = sample(*bright_scene, draws=200, warmup=100, chains=2, seed=4, progress=False)
    np.testing.assert_array_equal(again.values["flux"], chains.values["flux"])
    assert (other.values["flux"] != chains.values["flux"]).all()


def test_interruption_keeps_what_is_done(bright_scene, monkeypatch):
    original, calls = module._ADVANCE.of_one, []

    def interrupted(*args):
        calls.append(bool(args[-1].adapting))  # whether it is warm-up
        if calls.count(False) == 5:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "_ADVANCE", module._ADVANCE._replace(of_one=interrupted))
    found = sample(*bright_scene, draws=20000, warmup=60, chains=1, seed=3, progress=False)
    assert 4 <= found.n_draw <= 4 * MOST
    assert found.statistics["lp"].shape == found.values["x"].shape[:2] == (1, found.n_draw)
    calls[:] = [False] * 4
    with pytest.raises(KeyboardInterrupt, match="none to keep"):
        sample(*bright_scene, draws=2000, warmup=60, chains=1, seed=3, progress=False)


def test_ctrl_c_is_heard_within_a_draw(bright_scene, monkeypatch):
    """A draw of a large patch may take minutes, deaf to signals; those before it are kept."""
    advanced, drawn, let_go = module._ADVANCE.of_one, [], threading.Event()

    def slow(*args):
        made = advanced(*args)
        if not args[-1].adapting:  # past the warm-up
            drawn.append(time.monotonic())
        if len(drawn) == 2:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            let_go.wait(60)
        return made

    monkeypatch.setattr(module, "_ADVANCE", module._ADVANCE._replace(of_one=slow))
    monkeypatch.setattr(module, "PACE", 0.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = sample(*bright_scene, draws=50, warmup=20, chains=1, seed=3, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
        let_go.set()
    assert time.monotonic() - drawn[1] < 5
    assert found.n_draw == 1


def test_interruption_ends_sampling_where_fluxes_leave_their_box(bright_scene, monkeypatch):
    """What there is is kept; nothing is sampled anew for it."""
    original, calls, begun = module._ADVANCE.of_one, [], []

    def interrupted(*args):
        calls.append(bool(args[-1].adapting))
        if calls.count(False) == 3:
            raise KeyboardInterrupt
        return original(*args)

    def outside(self, draws):
        made = completed(self, draws)
        return made._replace(outside=np.ones_like(made.outside))

    completed = Posterior.real
    monkeypatch.setattr(Posterior, "real", outside)
    monkeypatch.setattr(module, "_ADVANCE", module._ADVANCE._replace(of_one=interrupted))
    monkeypatch.setattr(sampling, "OUTSIDE", 0.9)

    def no_warm_up(*_):
        begun.append(1)
        yield from ()

    monkeypatch.setattr(module.Run, "warm_up", no_warm_up)
    found = sample(*bright_scene, draws=20000, warmup=60, chains=1, seed=3, progress=False)
    assert found.fluxes == "integrated"
    assert found.statistics["outside_box"].all()
    assert len(begun) == 1


def test_slow_draws_are_made_one_by_one(bright_scene, chains, monkeypatch):
    """So that the progress bar moves, and Ctrl-C is heard, within a draw of them; the draws are the same."""
    original, sizes, threads = module._ADVANCE.of_one, [], []

    def recorded(*args):
        sizes.append(int(args[-1].n))
        threads.append(threading.current_thread())
        return original(*args)

    monkeypatch.setattr(module, "_ADVANCE", module._ADVANCE._replace(of_one=recorded))
    monkeypatch.setattr(module, "PACE", 0.0)
    found = sample(*bright_scene, draws=200, warmup=100, chains=2, seed=3, progress=False)
    assert set(sizes) == {1}
    assert threading.main_thread() not in threads  # it listens for Ctrl-C
    assert len(sizes) == 2 * (found.n_warmup + 200)
    for name, values in chains.values.items():
        np.testing.assert_array_equal(found.values[name], values, err_msg=name)


@pytest.mark.slow
def test_chains_in_one_program(bright_scene, chains, monkeypatch):
    """As they move on an accelerator: the same draws but for rounding, which trajectories take time to amplify."""
    monkeypatch.setattr(module, "chains_in_lockstep", lambda: True)
    found = sample(*bright_scene, draws=20, warmup=20, chains=2, seed=3, progress=False)
    monkeypatch.undo()
    apart = sample(*bright_scene, draws=20, warmup=20, chains=2, seed=3, progress=False)
    np.testing.assert_allclose(found.values["flux"][:, 0], apart.values["flux"][:, 0], rtol=1e-3)
    assert found.values["flux"].shape == (2, 20, 1, 2)


def test_more_draws_from_where_chains_stopped(chains):
    more = continued(continued(chains, draws=100, progress=False), draws=100, progress=False)
    assert more.values["flux"].shape == (2, 400, 1, 2)
    assert (more.n_warmup, more.n_chain) == (chains.n_warmup, 2)
    np.testing.assert_array_equal(more.values["flux"][:, :200], chains.values["flux"])
    steps = more.statistics["n_steps"][:, 200:].sum()
    assert more.n_calls == chains.n_calls + steps + more.values["flux"][:, 200:, 0, 0].size
    sizes = more.statistics["step_size"][:, 200:]
    np.testing.assert_allclose(sizes, np.tile(chains.checkpoint.step_size[:, None], 200), rtol=1e-12)
    for name, values in more.values.items():
        old, new = values[:, :200], values[:, 200:]
        assert (np.abs(new.mean(axis=(0, 1)) - old.mean(axis=(0, 1))) < 0.4 * old.std(axis=(0, 1))).all(), (
            name
        )
        assert not np.isin(new[:, 100:], new[:, :100]).any()
        # of 200 draws, as few as `chains` has, one seed in seven has 1.03 or more for some parameter
        assert arviz.rhat(np.ascontiguousarray(values.reshape(2, 400, -1)[..., 0])) < 1.03


def test_all_draws_come_from_one_program(bright_scene, caplog):
    """At the start, after draws and after a new whitening, a chain's state has the same types."""
    model, start = bright_scene
    optimum = optimize(model, start, density="unconstrained")
    posterior, origin, *_ = posterior_around(model, optimum)
    run = Run(Kernel(6, 0.8), posterior, whitening(origin, np.eye(len(origin))), progress=False)
    run.start(0, 1)
    assert "Compiling jit(advance)" in _compiled(caplog, lambda: advance(*_another(run)))
    later = _compiled(
        caplog, lambda: [lockstep.lockstep([task]) for task in (run.warm_up(60, True), run.sample(5, np.inf))]
    )
    assert "advance" not in later


def _another(run):
    """Arguments of `advance` for which there is no program: a kernel of other settings."""
    states = run.states[0]
    return (
        Kernel(5, 0.7),
        run.posterior,
        run._expanded(run.white),
        states,
        run._fates(1, np.zeros(2, np.uint32)),
    )


def _compiled(caplog, act):
    """What JAX says that it compiles."""
    caplog.clear()
    with caplog.at_level("DEBUG", logger="jax"), jax.log_compiles():
        act()
    return caplog.text


@pytest.mark.parametrize(("short", "deepest"), [(True, 6), (False, 8)])
def test_trees_are_short_where_asked(bright_scene, short, deepest):
    """Under a whitening a thousand times too narrow every tree grows as long as it may."""
    model, start = bright_scene
    optimum = optimize(model, start, density="unconstrained")
    posterior, origin, spread, _ = posterior_around(model, optimum)
    run = Run(Kernel(8, 0.8), posterior, whitening(origin, 1e-6 * spread), progress=False)
    run.start(0, 1)
    with run._pool() as pool:
        (draws,) = lockstep.lockstep([run._advanced(pool, run.white, run.states, 3, short=short)])[0][1]
    assert (draws["n_steps"] == 2**deepest - 1).all()


def test_known_covariances_as_mass_matrix(bright_scene, chains):
    """Those of the draws, as a super-scene keeps them."""
    columns = [chains.values["flux"][:, :, 0].transpose(2, 0, 1)]
    columns += [chains.values[name][..., 0][None] for name in ("x", "y", "q", "pa", "sersic", "rhalf")]
    turns = np.round((columns[4] - chains.optimum.values["pa"][0]) / np.pi)
    columns[4] = columns[4] - np.pi * turns  # the same galaxy in one turn
    flat = np.concatenate(columns).reshape(8, -1)
    known = sample(
        *bright_scene, draws=100, warmup=40, chains=2, seed=5, covariance=np.cov(flat)[None], progress=False
    )
    unknown = np.full((1, 8, 8), np.nan)
    fisher = sample(*bright_scene, draws=100, warmup=40, chains=2, seed=5, covariance=unknown, progress=False)
    assert known.statistics["n_steps"].mean() < 1.5 * fisher.statistics["n_steps"].mean()
    assert (known.values["flux"] != fisher.values["flux"]).any()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "tries"), [(1.0, 1), (2.0, 2)])
def test_fluxes_in_a_narrow_box_are_sampled(bright_scene, chains, monkeypatch, width, tries):
    """From the first, where the box is seen to be narrow at the optimum; else as soon as draws have shown it."""
    model, start = bright_scene
    drawn, made = module.Run.sample, []

    def watched(*arguments):
        found = yield from drawn(*arguments)
        made.append(found[1]["outside_box"].shape[1])
        return found

    monkeypatch.setattr(module.Run, "sample", watched)
    mean, sd = (getattr(chains.values["flux"], kind)(axis=(0, 1)) for kind in ("mean", "std"))
    box = type(model.priors["flux"])(mean - width * sd, mean + 2 * sd)
    boxed = dataclasses.replace(model, priors=model.priors | {"flux": box})
    found = sample(boxed, {**start, "flux": mean}, draws=400, warmup=60, chains=2, seed=5, progress=False)
    assert (chains.fluxes, found.fluxes) == ("integrated", "sampled")
    flux = found.values["flux"]
    assert ((flux > mean - width * sd) & (flux < mean + 2 * sd)).all()
    assert not found.statistics["outside_box"].any()
    assert len(made) == tries
    assert made[-1] == 400
    assert max(made[:-1], default=0) < 200  # it is clear after 60, and draws are made in up to a hundred


@pytest.mark.slow
def test_same_posterior_in_whatever_coordinates(make_patcher, capsys):
    """Two faint galaxies, one of them nearly round: all parameters sampled, or the fluxes integrated out."""
    patcher, catalog = make_patcher(n_source=2)
    catalog = catalog.replace(q=np.array([0.93, 0.6]), flux=catalog.flux / 2)
    model, truth = patcher.prepare_model(active=catalog)
    image = eqx.filter_jit(model.images)({name: jnp.asarray(v) for name, v in truth.items()})
    model = eqx.tree_at(
        lambda m: m.patch.data, model, jnp.where(model.patch.ierr > 0, model.patch.data + image, 0)
    )
    found = {}
    for integrate in (True, False):
        for vector in (True, False):
            run = sample(
                model,
                truth,
                draws=2000,
                warmup=300,
                seed=1,
                integrate_fluxes=integrate,
                ellipticity=vector,
                progress=False,
            )
            assert run.fluxes == ("integrated" if integrate else "sampled")
            found[integrate, vector] = _summary(run)
    reference = found[False, False]
    worst = {}
    for key, (mean, sd, error) in found.items():
        shift = np.abs(mean - reference[0]) / reference[1]
        noise = np.hypot(error, reference[2]) / reference[1]
        worst[key] = shift.max(), (shift / noise).max(), np.abs(sd / reference[1] - 1).max()
    with capsys.disabled():
        for (integrate, vector), figures in worst.items():
            print(
                f"\nfluxes {'integrated' if integrate else 'sampled'}, {'vector' if vector else 'q and pa'}: means "
                "within {:.3f} sd ({:.1f} of their errors), sd within {:.1%}".format(*figures)
            )
    for shift, significance, ratio in worst.values():
        assert shift < 0.2
        assert significance < 4.5
        assert ratio < 0.15


def _summary(chains):
    """Means, standard deviations and errors of the means of the parameters, shapes as a vector that may turn."""
    values = dict(chains.values)
    size, angle = (1 - values.pop("q")) / (1 + chains.values["q"]), 2 * values.pop("pa")
    values |= {"e1": size * np.cos(angle), "e2": size * np.sin(angle)}
    columns = [
        part for value in values.values() for part in np.moveaxis(value.reshape(*value.shape[:2], -1), 2, 0)
    ]
    ess = np.array([float(arviz.ess(np.ascontiguousarray(column), method="mean")) for column in columns])
    sd = np.array([column.std() for column in columns])
    return np.array([column.mean() for column in columns]), sd, sd / np.sqrt(ess)


@pytest.mark.slow
def test_many_together_are_sampled_as_one_by_one(bright_scene, monkeypatch, capsys):
    """Two posteriors of one size, one a little brighter; to rounding, which chains make larger in time."""
    model, start = bright_scene
    brighter = eqx.tree_at(lambda m: m.patch.data, model, 1.1 * model.patch.data)
    models, options = [model, brighter], {"draws": 100, "warmup": 20, "chains": 2}
    together = sample_many(models, [start, start], seeds=[3, 5], **options)
    for one, seed, found in zip(models, (3, 5), together, strict=True):
        alone = sample(one, start, seed=seed, progress=False, **options)
        assert (found.fluxes, found.n_warmup) == (alone.fluxes, alone.n_warmup)
        for name, value in alone.values.items():
            apart = np.abs(found.values[name] - value) / value.std(axis=(0, 1))
            with capsys.disabled():
                print(f"\n{name}: first draws within {apart[:, :3].max():.1e} sd", end="")
            assert apart[:, :3].max() < 0.05
            assert np.abs(found.values[name].mean((0, 1)) - value.mean((0, 1))).max() < value.std() * 0.3

    assert sample_many([], []) == []

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lockstep, "in_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted during warm-up"):
        sample_many(models, [start, start], **options)
