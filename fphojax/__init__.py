"""Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once.

The names below are what a notebook needs; each is imported when it is first used. The first that computes sets up JAX
(`fphojax.core.backend.set_up_jax`: double precision, and where compiled programs are kept).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Auto": "inference.methods",
    "Bounds": "inputs.bounds",
    "CircularRegion": "inputs.astrometry",
    "Exposure": "inputs.exposures",
    "Importance": "inference.methods",
    "InputError": "errors",
    "Laplace": "inference.methods",
    "LinkedSuperScene": "field.superscene",
    "MockCamera": "simulate.mock_fields",
    "NUTS": "inference.methods",
    "NoiseModel": "inputs.noise_model",
    "Nuisance": "inputs.exposure_nuisance",
    "Optimum": "inference.methods",
    "PSFMixture": "inputs.psf_store",
    "PSFStore": "inputs.psf_store",
    "PatchFrame": "inputs.frame",
    "PatchResult": "results.patch_result",
    "Patcher": "inputs.patcher",
    "Recipe": "inputs.recipe",
    "RunDirectory": "results.run_directory",
    "RunExplorer": "figures.explorer.run_explorer",
    "Scene": "inputs.scene",
    "SceneFit": "field.scene_fit",
    "SceneModel": "core.model",
    "SourceCatalog": "inputs.source_catalog",
    "SuperScene": "field.superscene",
    "choose_profiles": "field.profile_choice",
    "convert_catalog": "inputs.catalog_conversion",
    "coverage_study": "simulate.coverage",
    "cut": "inputs.frame",
    "cutout": "inputs.image_cutouts",
    "default_bounds": "inputs.bounds",
    "demo_field": "simulate.mock_fields",
    "figure_theme": "system.figure_style",
    "final_catalog": "results.products.final_catalog",
    "fit": "field.scene_fit",
    "fit_field": "field.field_fit",
    "fit_image": "field.image_fit",
    "fit_psf": "mixtures.psf_fit",
    "fit_scene": "field.scene_fit",
    "injection_study": "simulate.injection_study",
    "load_sersic_table": "mixtures.sersic",
    "mock_field": "simulate.mock_fields",
    "mock_galaxies": "simulate.mock_fields",
    "optimize": "inference.optimum",
    "parameter_table": "results.parameter_table",
    "plot_exposures": "figures.sky_plots",
    "plot_intervals": "figures.interval_plots",
    "plot_joint": "figures.interval_plots",
    "plot_residuals": "figures.fit_plots",
    "read_exposures": "inputs.exposures",
    "sample": "inference.sampling",
    "split_composites": "inputs.composites",
    "summary_table": "results.summary",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
