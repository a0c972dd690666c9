"""Pictures that pages show and that the package draws, made anew for every build in `docs/pictures`."""

from pathlib import Path

from sphinx.application import Sphinx

from fphojax.figures import convention_plots


def draw(app: Sphinx) -> None:
    """Write the figures of the conventions as SVG."""
    folder = Path(app.srcdir) / "pictures"
    folder.mkdir(exist_ok=True)
    for name, plot in (
        ("pixels", convention_plots.plot_pixel_convention),
        ("shape", convention_plots.plot_shape_convention),
        ("angles", convention_plots.plot_position_angles),
        ("profiles", convention_plots.plot_sersic_profiles),
    ):
        plot().savefig(folder / f"{name}.svg", metadata={"Date": None})


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
