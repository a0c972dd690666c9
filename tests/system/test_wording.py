"""Numbers and their nouns."""

from pathlib import Path

from fphojax.system.wording import counted, duration, grouped


def test_plurals():
    assert [counted(n, "source") for n in (0, 1, 2)] == ["0 sources", "1 source", "2 sources"]
    assert [counted(n, "patch") for n in (1, 36)] == ["1 patch", "36 patches"]
    assert [counted(n, "flux") for n in (1, 2)] == ["1 flux", "2 fluxes"]


def test_time_spans():
    seconds = (0.4, 40, 89, 95, 12 * 60, 2.5 * 3600, 47 * 3600, 72 * 3600)
    assert [duration(span) for span in seconds] == [
        "0 s",
        "40 s",
        "89 s",
        "2 min",
        "12 min",
        "2.5 h",
        "47.0 h",
        "3.0 days",
    ]


def test_notes_are_told_once():
    first, second, third = Path("a/x.fits"), Path("b/x.fits"), Path("c.fits")
    notes = [(first, "no mask"), (first, "FK5"), (second, "no mask"), (second, "no mask"), (third, "no mask")]
    assert grouped(notes) == ["a/x.fits and 2 more: no mask", "a/x.fits: FK5"]
    assert grouped(notes, lambda path: path.name)[0] == "x.fits and 2 more: no mask"
    assert grouped([]) == []
