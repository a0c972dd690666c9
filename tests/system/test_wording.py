"""Numbers and their nouns."""

from pathlib import Path

from fphojax.system.wording import counted, grouped


def test_plurals():
    assert [counted(n, "source") for n in (0, 1, 2)] == ["0 sources", "1 source", "2 sources"]
    assert [counted(n, "patch") for n in (1, 36)] == ["1 patch", "36 patches"]
    assert [counted(n, "flux") for n in (1, 2)] == ["1 flux", "2 fluxes"]


def test_notes_are_told_once():
    first, second, third = Path("a/x.fits"), Path("b/x.fits"), Path("c.fits")
    notes = [(first, "no mask"), (first, "FK5"), (second, "no mask"), (second, "no mask"), (third, "no mask")]
    assert grouped(notes) == ["a/x.fits and 2 more: no mask", "a/x.fits: FK5"]
    assert grouped(notes, lambda path: path.name)[0] == "x.fits and 2 more: no mask"
    assert grouped([]) == []
