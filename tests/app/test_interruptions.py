"""What the command line says when the machine fails, or somebody wants it to end."""

import errno
import os
import signal
import time
from types import SimpleNamespace

import pytest
from standard_error import problems
from typer.testing import CliRunner

import fphojax.app.stages.sample as sample_stage
from fphojax.app.cli import app
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError, MachineError, StorageError


@pytest.fixture
def sample(monkeypatch):
    """Function that lets `fphojax sample` do something, and gives its status and the lines of its errors."""
    monkeypatch.setattr(Settings, "from_yaml", lambda *_: SimpleNamespace(outbase="run"))

    def invoked(act, *options):
        monkeypatch.setattr(sample_stage, "sample_field", act)
        done = CliRunner().invoke(app, ["sample", "field.yml", *options])
        return done.exit_code, problems(done.stderr)

    return invoked


def raising(error):
    def act(*_, **__):
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (StorageError("a.nc: cannot be written (full)"), 1, "a.nc: cannot be written (full); GO ON"),
        (MachineError("the scheduler is gone"), 1, "the scheduler is gone; GO ON"),
        (OSError(errno.ENOSPC, "No space left on device", "a.nc"), 1, "a.nc: no space left on device; GO ON"),
        (RuntimeError("Can't write (errno = 122)"), 1, "disk quota exceeded; GO ON"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), 1, "/a: permission denied; GO ON"),
        (InputError("a.fits: no such file"), 2, "a.fits: no such file"),
    ],
)
def test_faults_of_the_machine_are_one_line_that_says_how_to_go_on(sample, error, status, line):
    expected = line.replace("GO ON", "the same command with --resume continues")
    assert sample(raising(error)) == (status, [f"error: {expected}"])


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("times", [1, 5])
def test_signals_end_a_command_in_one_line(sample, number, status, times):
    def interrupted(*_, **__):
        try:
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
        finally:  # whatever has to be left in order is not broken off
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            done.append(True)

    # whoever runs the tests may ignore them, as nohup does
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    handlers[signal.SIGHUP] = signal.SIG_DFL
    done, before = [], {which: signal.signal(which, handler) for which, handler in handlers.items()}
    try:
        assert sample(interrupted) == (status, ["error: interrupted"])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    assert done


def test_retry_goes_with_resume(sample):
    status, (line,) = sample(raising(AssertionError), "--retry")
    assert status == 2
    assert (
        line
        == "error: found --retry without --resume, expected both: --retry repeats sources that were given up"
    )
    seen = []

    def act(*_, resume, retry, **__):
        seen.append((resume, retry))
        raise InputError("enough")

    sample(act, "--resume", "--retry")
    sample(act, "--resume")
    assert seen == [(True, True), (True, False)]
