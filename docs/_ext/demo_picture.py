"""The picture of README and front page: the demonstration field, fitted and drawn anew for every build."""

from pathlib import Path

from sphinx.application import Sphinx

import fphojax as fp
from fphojax.figures.fit_plots import plot_residuals


def draw(app: Sphinx) -> None:
    """Write `docs/demo.png`; the same bytes unless the fit or the figure has changed."""
    field = fp.demo_field()
    fit = fp.fit_scene(field.exposures, field.psfs, field.peaks, fp.Optimum())
    figure = plot_residuals(fit.scene, fit.optimum(), exposures=[0, 3])
    figure.savefig(Path(app.srcdir) / "demo.png", dpi=100, metadata={"Software": None})


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
