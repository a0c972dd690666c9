"""What all tests share: JAX on the CPU, one thread for numerical libraries, and where the shared data are."""

import os
from pathlib import Path

import pytest

# Read when JAX and numpy are imported; pytest imports this file first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared_folder(variable, name):
    folder = Path(os.environ.get(variable, SHARED / name))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def reference_dir():
    """Folder of forcepho's reference cases."""
    return _shared_folder("FPHOJAX_REFERENCE", "reference")


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real images."""
    return _shared_folder("FPHOJAX_DATA", "data")
