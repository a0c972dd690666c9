"""Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once.

The names below are what a notebook needs; each is imported when it is first used.
"""

from importlib import import_module

import jax

from .core.backend import keep_compiled_programs

jax.config.update("jax_enable_x64", True)
keep_compiled_programs()

__version__ = "0.1.0"

_HOME = {
    "Bounds": "inputs.bounds",
    "CircularRegion": "inputs.astrometry",
    "Exposure": "inputs.exposures",
    "InputError": "inputs.errors",
    "LinkedSuperScene": "field.superscene",
    "MockCamera": "field.mocks",
    "Nuisance": "inputs.nuisance",
    "PSFMixture": "inputs.psf",
    "PSFStore": "inputs.psf",
    "PatchResult": "outputs.results",
    "Patcher": "inputs.patcher",
    "RunDirectory": "outputs.run_directory",
    "RunExplorer": "outputs.widgets",
    "SceneModel": "core.model",
    "SourceCatalog": "inputs.catalog",
    "SuperScene": "field.superscene",
    "coverage_study": "field.coverage",
    "default_bounds": "inputs.bounds",
    "demo_field": "field.mocks",
    "final_catalog": "outputs.final_catalog",
    "fit_scene": "field.scene_fit",
    "fit_psf": "mixtures.psf_fit",
    "load_sersic_table": "mixtures.sersic",
    "mock_field": "field.mocks",
    "mock_galaxies": "field.mocks",
    "optimize": "inference.optimize",
    "plot_exposures": "outputs.sky_plots",
    "plot_intervals": "outputs.interval_plots",
    "plot_joint": "outputs.interval_plots",
    "plot_residuals": "outputs.plots",
    "read_exposures": "inputs.exposures",
    "sample": "inference.sample",
    "summary_table": "outputs.summary",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
