"""The command line: `fphojax COMMAND`."""

from .program import app, main

__all__ = ["app", "main"]
