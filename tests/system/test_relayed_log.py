"""Lines of the log of another process."""

import logging
import subprocess
import sys

import pytest

from fphojax.system.relayed_log import RelayedLog

WORK = "import logging; logging.getLogger('fphojax.there').info('%s of 20', 'ä17'); print('done')"


def test_lines_of_another_process(caplog):
    caplog.set_level(logging.INFO, logger="fphojax")
    with RelayedLog() as log:
        done = subprocess.run(
            [sys.executable, "-c", f"{log.code}\n{WORK}"], capture_output=True, text=True, check=True
        )
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert [record.getMessage() for record in caplog.records] == ["ä17 of 20"]


def test_nothing_is_relayed_where_nobody_listens(caplog):
    caplog.set_level(logging.WARNING, logger="fphojax")
    with RelayedLog() as log:
        assert log.code == ""


def test_failure_ends_it_too(caplog):
    caplog.set_level(logging.INFO, logger="fphojax")
    with pytest.raises(ValueError, match="no"), RelayedLog():
        raise ValueError("no")
