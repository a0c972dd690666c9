"""The look of the package's figures: colours that the colour-blind can tell apart, on light or on dark ground."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Literal

__all__ = ["COLOURS", "Theme", "figure_theme", "styled"]

Theme = Literal["light", "dark"]

# Okabe & Ito (2008), without their yellow and black, which are faint on one of the grounds
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
_GROUNDS = {
    "light": {"ground": "white", "panel": "white", "ink": "#222222", "faint": "#b0b0b0"},
    "dark": {"ground": "#16181d", "panel": "#1e2128", "ink": "#e6e6e6", "faint": "#5a6070"},
}
# of parameters that start from matplotlib's defaults
_PREFIXES = (
    "axes.",
    "figure.",
    "font.",
    "grid.",
    "image.",
    "legend.",
    "lines.",
    "mathtext.",
    "patch.",
    "text.",
    "xtick.",
    "ytick.",
)
_theme: ContextVar[Theme] = ContextVar("theme", default="light")


@contextmanager
def figure_theme(theme: Theme) -> Iterator[None]:
    """Draw figures on light or on dark ground, inside a ``with`` block.

    Parameters
    ----------
    theme : {"light", "dark"}
        Outside all blocks, figures are light.
    """
    if theme not in _GROUNDS:
        raise ValueError(f"theme is {theme!r}, expected 'light' or 'dark'")
    token = _theme.set(theme)
    try:
        yield
    finally:
        _theme.reset(token)


def styled[**P, R](plot: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw its figure in the package's style, whatever the user's matplotlib settings are."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        parameters = _parameters(_theme.get())
        with mpl.rc_context(parameters):
            figure = plot(*args, **kwargs)
            for axis in getattr(figure, "axes", ()):
                # ticks are made when the figure is drawn, by then with the user's colours
                axis.tick_params(color=parameters["xtick.color"], labelcolor=parameters["xtick.color"])
        return figure

    return draw


def _parameters(theme):
    """Return matplotlib's parameters of a theme."""
    from cycler import cycler
    from matplotlib import rcParamsDefault

    ground, panel, ink, faint = _GROUNDS[theme].values()
    base = {name: value for name, value in rcParamsDefault.items() if name.startswith(_PREFIXES)}
    return base | {
        "axes.edgecolor": ink,
        "axes.facecolor": panel,
        "axes.labelcolor": ink,
        "axes.linewidth": 0.7,
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.titlecolor": ink,
        "axes.titlesize": "medium",
        "figure.edgecolor": ground,
        "figure.facecolor": ground,
        "figure.titlesize": "large",
        "font.size": 10,
        "grid.color": faint,
        "image.cmap": "viridis",
        "image.interpolation": "nearest",
        "image.origin": "lower",
        "legend.edgecolor": faint,
        "legend.facecolor": panel,
        "legend.framealpha": 0.9,
        "legend.labelcolor": ink,
        "savefig.facecolor": "auto",
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
