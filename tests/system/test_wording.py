"""Numbers and their nouns."""

from fphojax.system.wording import counted


def test_plurals():
    assert [counted(n, "source") for n in (0, 1, 2)] == ["0 sources", "1 source", "2 sources"]
    assert [counted(n, "patch") for n in (1, 36)] == ["1 patch", "36 patches"]
    assert [counted(n, "flux") for n in (1, 2)] == ["1 flux", "2 fluxes"]
