"""The verdict on an optimisation."""

import pytest
from astropy.table import Table

from fphojax.app.stages.optimize import _verdict


@pytest.mark.parametrize(
    ("flagged", "chi2", "level"),
    [((), 1.1, "pass"), (("7",), 1.1, "look at this"), ((), 15.3, "look at this")],
)
def test_what_wants_a_look(flagged, chi2, level):
    """A source that is not well fitted, or an exposure that is not."""
    tables = {
        "sources": Table({"ended": ["good", "at a bound"], "sources": [3 - len(flagged), len(flagged)]}),
        "flagged": Table({"id": list(flagged)}, dtype=(str,)),
        "exposures": Table({"band": ["g", "r"], "exposure": ["e", "e"], "chi2_dof": [1.0, chi2]}),
    }
    text, found = _verdict(tables)
    assert found == level
    assert text.startswith("3 sources optimised")
    assert text.endswith(f"The largest chi2/dof is {chi2:.2f}, in e (r).")
