"""The verdict on an optimisation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

import fphojax.app.stages.optimize as stage
from fphojax.errors import InputError

SETTINGS = SimpleNamespace(
    optimize_passes=1, forced_photometry=False, gtol=1e-5, add_barriers=False, optimize_start="catalog"
)


class Failed:
    """What is left of a super-scene of two sources whose fit failed."""

    catalog = SimpleNamespace(id=np.array(["7", "8"]), flux=np.ones((2, 1)))
    patchlog = (json.dumps({"sources": [0, 1], "flag": "ValueError: no model"}),)

    def __len__(self):
        return 2

    def bounds_and_covs(self, rows):
        return None, np.full((len(rows), 7, 7), np.nan)


def test_a_field_without_any_fit_ends_the_run(monkeypatch):
    """In one line that says why; the next stages would only miss their files."""
    done = SimpleNamespace(directory=None, scene=Failed())
    monkeypatch.setattr(stage, "fit_sources", lambda *args, **options: done)
    with pytest.raises(InputError, match=r"all 2 sources failed, .*: ValueError: no model"):
        stage.optimize(SETTINGS, out="somewhere")


@pytest.mark.parametrize(
    ("flagged", "chi2", "level"),
    [((), 1.1, "pass"), (("7",), 1.1, "look at this"), ((), 15.3, "look at this")],
)
def test_what_wants_a_look(flagged, chi2, level):
    """A source that is not well fitted, or an exposure that is not."""
    tables = {
        "sources": Table({"ended": ["good", "at a bound"], "sources": [3 - len(flagged), len(flagged)]}),
        "flagged": Table(
            {"id": list(flagged), "ended": ["at a bound"] * len(flagged), "snr": [25.0] * len(flagged)},
            dtype=(str, str, float),
        ),
        "exposures": Table({"band": ["g", "r"], "exposure": ["e", "e"], "chi2_dof": [1.0, chi2]}),
    }
    text, found = stage._verdict(tables)
    assert found == level
    assert text.startswith("3 sources optimised")
    assert ("1 at a bound (1 of them above a signal-to-noise ratio of 20)" in text) == bool(flagged)
    assert text.endswith(f"The largest chi2/dof is {chi2:.2f}, in e (r).")


class Fitted(Failed):
    """One of three sources ended well; two at a bound, one of them with a failed covariance."""

    catalog = SimpleNamespace(id=np.array([4, 5, 6]), flux=np.array([[8.0, 6.0], [30.0, 40.0], [1.0, 2.0]]))
    patchlog = (
        json.dumps(
            {
                "sources": [0, 1, 2],
                "summary": {"flags": {"5": {"at a bound": "sersic"}, "6": {"at a bound": "q"}}},
            }
        ),
    )

    def bounds_and_covs(self, rows):
        covariances = np.tile(4.0 * np.eye(8), (3, 1, 1))
        covariances[2] = np.nan
        return None, covariances[rows]


def test_how_bright_those_at_a_bound_are():
    tables = stage._tables(Fitted(), {})
    assert tables["flagged"]["id"].tolist() == ["5", "6"]
    assert tables["flagged"]["snr"].tolist() == [25.0, 0.0]
    text, _ = stage._verdict(tables)
    assert text.startswith("3 sources optimised: 1 good, 2 at a bound (1 of them above")
