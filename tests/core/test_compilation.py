"""Words on compilation: once for each purpose, where anything large is compiled."""

import logging

import jax
import jax.numpy as jnp

import fphojax.core.compilation as module
from fphojax.core.compilation import compiling_for


def test_compilation_is_announced_once_for_its_purpose(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="fphojax")
    monkeypatch.setattr(module, "_LONG", 0.0)
    programs = [jax.jit(lambda x, n=n: jnp.sin(x) * n) for n in (1, 2)]
    for what in ("3 sources", "the same", "4 sources"):
        with compiling_for(what):
            for program in programs:
                program(jnp.zeros(4 if what == "4 sources" else 3)).block_until_ready()
    jax.jit(jnp.cos)(jnp.zeros(7))
    found = [record.getMessage() for record in caplog.records]
    assert found == ["compiling programs for 3 sources", "compiling programs for 4 sources"]


def test_small_programs_are_not_worth_a_line(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="fphojax")
    monkeypatch.setattr(module, "_LONG", 1e9)
    with compiling_for("nothing"):
        jax.jit(lambda x: x + 17)(jnp.zeros(5))
    assert caplog.records == []


def test_nobody_listens(caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger="fphojax")
    monkeypatch.setattr(module, "_LONG", 0.0)
    with compiling_for("nothing"):
        jax.jit(lambda x: x + 18)(jnp.zeros(6))
        assert module._patches == []
    assert caplog.records == []
