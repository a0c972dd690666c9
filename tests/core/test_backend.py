"""Patches of similar size share compiled programs, within a process and from one process to the next."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import numpy as np

from fphojax import CircularRegion, default_bounds
from fphojax.core import backend
from fphojax.core.backend import clear_programs

SECOND_START = """
import jax
misses = []
jax.monitoring.register_event_listener(lambda event, **_: misses.append(event))
import jax.numpy as jnp, numpy as np
from fphojax.core.gaussians import Gaussians
from fphojax.core.pairs import all_pairs
from fphojax.core.patch import Patch
from fphojax.core.pixels import chi2
ones = jnp.ones((1, 1, 1, 1))
gaussians = Gaussians(ones, 3.0 * ones, 4.0 * ones, ones, 0.0 * ones, ones)
patch = Patch(jnp.ones((16, 64)), jnp.ones((16, 64)), jnp.zeros((16, 2), int), jnp.zeros(16, int), jnp.asarray(15))
pairs = all_pairs(patch, np.ones((1, 1, 1, 1)))
jax.block_until_ready(jax.jit(jax.grad(lambda g: chi2(g, patch, pairs).sum()))(gaussians))
print(sum(event.endswith("cache_misses") for event in misses))
"""


def test_few_traces_over_many_patches(make_patcher, capsys):
    """50 regions, boxes and noises of one field: their models have a handful of shapes.

    What is traced is no likelihood, which takes seconds to compile, but it is traced as often.
    """
    patcher, catalog = make_patcher(n_source=2, side=96)
    rng = np.random.default_rng(0)
    traced = []

    @eqx.filter_jit
    def program(model, values):
        traced.append(1)
        return values["flux"]

    for _ in range(50):
        dra, ddec = rng.uniform(-0.5, 0.5, 2) / 3600
        patcher.build_patch(CircularRegion(catalog.ra[0] + dra, catalog.dec[0] + ddec, rng.uniform(1.2, 2.0)))
        sources = catalog.replace(flux=catalog.flux * rng.uniform(0.5, 2))
        bounds = default_bounds(sources, rhalf_range=(0.05, rng.uniform(0.3, 0.8)))
        model, start = patcher.prepare_model(active=sources, bounds=bounds)
        program(model, jax.tree.map(jax.numpy.asarray, start))
    with capsys.disabled():
        print(f"\n50 random patches: a program was traced {len(traced)} times")
    assert len(traced) <= 12


def test_second_start_compiles_nothing(tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-c", SECOND_START]
    first, second = (
        int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    )
    assert first > 0
    assert second == 0


def test_programs_are_forgotten_when_memory_runs_short():
    traced = []

    @jax.jit
    def double(x):
        traced.append(1)
        return 2 * x

    assert double(1.0) == 2
    assert not clear_programs(1e15)
    assert double(1.0) == 2
    assert len(traced) == 1
    assert clear_programs(0)
    assert double(1.0) == 2
    assert len(traced) == 2


def test_programs_are_forgotten_before_the_system_refuses_more_memory_maps(monkeypatch):
    share = backend._share_of_maps()
    assert 0 <= share < 0.4
    kept = [jax.jit(lambda x, i=i: x + i).lower(1.0).compile() for i in range(20)]
    assert len(kept) == 20
    if share:  # Linux
        print(f"memory maps of a small program: {(backend._share_of_maps() - share) * 65530 / 20:.1f}")
        assert backend._share_of_maps() > share
    assert not clear_programs(1e15)
    monkeypatch.setattr(backend, "_share_of_maps", lambda: 0.5)
    assert clear_programs(1e15)


def test_cache_folder_is_the_users(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-c", "import fphojax.core, jax; print(jax.config.jax_compilation_cache_dir)"]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert found.strip() == str(tmp_path / "fphojax" / "compiled")
