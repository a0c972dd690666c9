"""The verdict on an optimisation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

import fphojax.app.stages.optimize as stage
from fphojax.inputs.errors import InputError


class Failed:
    """What is left of a super-scene of two sources whose fit failed."""

    catalog = SimpleNamespace(id=np.array(["7", "8"]))
    patchlog = (json.dumps({"sources": [0, 1], "flag": "ValueError: no model"}),)

    def __len__(self):
        return 2


def test_a_field_without_any_fit_ends_the_run(monkeypatch):
    """In one line that says why; the next stages would only miss their files."""
    monkeypatch.setattr(stage, "fit_field", lambda *args, **options: (None, Failed(), None))
    with pytest.raises(InputError, match=r"all 2 sources failed, .*: ValueError: no model"):
        stage.optimize(SimpleNamespace(optimize_passes=1, forced_photometry=False), out="somewhere")


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
    text, found = stage._verdict(tables)
    assert found == level
    assert text.startswith("3 sources optimised")
    assert text.endswith(f"The largest chi2/dof is {chi2:.2f}, in e (r).")
