"""Programs on the disk: found again by what determines them, and by nothing else."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Normal, Uniform

from fphojax.core import programs
from fphojax.core.priors import Priors
from fphojax.core.programs import Program

traced = []


class Pair(NamedTuple):
    total: jax.Array
    parts: dict


@dataclass(frozen=True)
class Setting:
    power: int


def summed(setting, arrays, priors):
    traced.append(setting)
    parts = {name: jnp.sum(array**setting.power) for name, array in arrays.items()}
    return Pair(sum(parts.values()) + priors["x"].log_prob(0.5).sum(), parts)


def arguments(power=2, size=3):
    arrays = {"a": np.arange(float(size)), "b": jnp.ones(2)}
    return Setting(power), arrays, Priors(x=Uniform(jnp.zeros(2), jnp.ones(2)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the programs, in which there are none yet."""
    traced.clear()
    monkeypatch.setattr(programs, "_folder", lambda: tmp_path / "programs")
    monkeypatch.setattr(programs, "KNOWN", programs.KNOWN | {__name__.partition(".")[0]})
    return tmp_path / "programs"


def test_a_program_is_traced_once_for_all_processes(folder):
    first, later = Program(summed), Program(summed)
    expected = summed(*arguments())
    traced.clear()
    for call in (first, first, later):
        found = call(*arguments())
        assert type(found) is Pair
        assert float(found.total) == float(expected.total)
        assert {name: float(part) for name, part in found.parts.items()} == {"a": 5.0, "b": 2.0}
    assert len(traced) == 1
    assert len(list(folder.iterdir())) == 1


def test_another_structure_shape_or_setting_is_another_program(folder):
    call = Program(summed)
    call(*arguments())
    assert float(call(*arguments(power=3)).parts["a"]) == 9.0
    assert float(call(*arguments(size=4)).parts["a"]) == 14.0
    setting, arrays, _ = arguments()
    call(setting, arrays, Priors(x=Normal(jnp.zeros(2), jnp.ones(2))))
    call(setting, {**arrays, "c": np.float32(1)}, arguments()[2])
    assert len(list(folder.iterdir())) == len(traced) == 5


def test_other_code_is_another_program(folder, monkeypatch):
    Program(summed)(*arguments())
    monkeypatch.setattr(programs, "_version", lambda: "other")
    Program(summed)(*arguments())
    assert len(list(folder.iterdir())) == len(traced) == 2


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_damaged_files_are_written_anew(folder, content):
    Program(summed)(*arguments())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert float(Program(summed)(*arguments()).parts["a"]) == 5.0
    assert len(traced) == 2
    Program(summed)(*arguments())
    assert len(traced) == 2


def test_what_a_name_cannot_tell_is_not_kept(folder, monkeypatch):
    """A class of the user may be another in the next process, and so may a function."""

    def scaled(scale, array):
        return scale(array)

    assert float(Program(scaled)(jnp.sum, np.ones(3))) == 3.0
    monkeypatch.setattr(programs, "KNOWN", programs.KNOWN - {__name__.partition(".")[0]})
    assert float(Program(summed)(*arguments()).parts["a"]) == 5.0
    assert not folder.exists()


def test_where_nothing_can_be_written_nothing_is_kept(folder, monkeypatch):
    folder.write_text("no folder")
    assert float(Program(summed)(*arguments()).parts["a"]) == 5.0
    monkeypatch.setattr(programs, "_folder", lambda: None)
    assert float(Program(summed)(*arguments()).parts["a"]) == 5.0


def test_transformations_see_through_a_program(folder):
    call = Program(lambda x: jnp.sum(jnp.sin(x)))
    np.testing.assert_allclose(jax.grad(call)(jnp.ones(3)), np.cos(np.ones(3)))
    np.testing.assert_allclose(eqx.filter_vmap(call)(jnp.eye(2)), np.full(2, np.sin(1.0)))


def test_names_are_the_same_in_all_processes():
    """Python orders sets anew in every process, and numpyro the parts of its distributions by them."""
    code = (
        "from fphojax.core import programs; from fphojax.core.priors import Priors; import jax\n"
        "from numpyro.distributions import Uniform, TruncatedNormal\n"
        "prior = Priors(x=Uniform(0.0, 1.0).expand([3]), y=TruncatedNormal(0.0, 1.0, low=-1.0))\n"
        "print(jax.tree.structure(prior), programs._version())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1
