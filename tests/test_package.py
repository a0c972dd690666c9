"""The package as a whole: quick and quiet to import, wings that know only the wings below."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fphojax

ROOT = Path(fphojax.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "fphojax."))

# The wings from the ground up: each may import those before it.
WINGS = (
    "errors",
    "system",
    "core",
    "mixtures",
    "inference",
    "inputs",
    "detection",
    "results",
    "figures",
    "field",
    "simulate",
    "app",
)
# Those inside `app`, likewise.
SUBWINGS = ("settings", "stages", "run", "cli")
# What would make a notebook wait for its first line, and belongs to the wings that use it.
HEAVY = (
    "numpyro",
    "arviz",
    "matplotlib",
    "astropy",
    "xarray",
    "h5py",
    "pydantic",
    "typer",
    "IPython",
    "dask",
)
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("import reached for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run_python(code):
    """Output of a fresh interpreter without network."""
    command = [sys.executable, "-c", NO_NETWORK + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_loads_nothing_heavy():
    output = run_python(
        "import sys, time\n"
        "start = time.perf_counter(); import jax; middle = time.perf_counter()\n"
        "import fphojax; end = time.perf_counter()\n"
        "print(f'jax {middle - start:.3f} s, fphojax {end - middle:.3f} s')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    seconds, loaded = output.splitlines()
    print(seconds)
    assert set(HEAVY) & set(loaded.split()) == set()


STATE = "def state(): return jax.config.jax_enable_x64, jax.config.jax_compilation_cache_dir, os.path.exists(cache)\n"


def test_import_sets_nothing_in_jax_and_makes_no_folder(tmp_path):
    code = (
        "import os, jax\n"
        f"cache = os.environ['XDG_CACHE_HOME'] = {str(tmp_path / 'cache')!r}\n"
        "del os.environ['JAX_COMPILATION_CACHE_DIR']; jax.config.update('jax_compilation_cache_dir', None)\n"
        + STATE
        + "import fphojax; print(*state())\n"
        "fphojax.SourceCatalog; fphojax.read_exposures; print(*state())\n"
        "import fphojax.core; print(*state())\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "print(jax.jit(lambda x: x + 1)(1.0).dtype, state()[2])"
    )
    nothing, catalogues, set_up, computed = run_python(code).splitlines()
    assert nothing == catalogues == "False None False"
    assert set_up == f"True {tmp_path / 'cache' / 'fphojax' / 'compiled'} False"
    assert computed == "float64 True"


@cache
def brings_core(module):
    """Whether a module, when it is imported, imports the wing that sets up JAX before it goes on."""
    if module.startswith(("fphojax.core", "fphojax.mixtures", "fphojax.inference")):
        return True
    _, at_once = imports(module)
    return any(name in MODULES and brings_core(name) for name in at_once)


@pytest.mark.parametrize("module", MODULES)
def test_who_uses_jax_has_it_set_up(module):
    _, at_once = imports(module)
    if {name.partition(".")[0] for name in at_once} & {"jax", "equinox", "numpyro"}:
        assert brings_core(module)


def test_every_module_can_be_the_first_one_imported():
    """A circle shows only when the chain is entered at the wrong place, so each module starts one."""
    code = (
        "import importlib, sys, warnings\n"
        "warnings.simplefilter('error')\n"
        f"for name in {MODULES}:\n"
        "    for loaded in [key for key in sys.modules if key.partition('.')[0] == 'fphojax']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
        "    print(name)"
    )
    assert run_python(code).split() == MODULES


@cache
def imports(module):
    """Absolute names that a module imports anywhere, and those it imports when it is itself imported."""
    path = Path(importlib.util.find_spec(module).origin)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    deferred = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types_only(outer)
        for inner in ast.walk(outer)
    }
    everywhere, at_once = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = {base} | {f"{base}.{alias.name}" for alias in node.names}
        else:
            continue
        everywhere |= names
        at_once |= names if node not in deferred else set()
    return everywhere, at_once


def _for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def wing(name):
    """`inputs` of `fphojax.inputs.psf_store`; None for the package itself and for what is not ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == "fphojax" and len(parts) > 1 and parts[1] in WINGS else None


@pytest.mark.parametrize("module", [name for name in MODULES if wing(name)])
def test_wing_knows_only_the_wings_below(module):
    everywhere, _ = imports(module)
    below = WINGS[: WINGS.index(wing(module)) + 1]
    assert {name for name in everywhere if wing(name) and wing(name) not in below} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if wing(name) == "app"])
def test_subwing_knows_only_the_subwings_below(module):
    parts = module.split(".")
    below = SUBWINGS[: SUBWINGS.index(parts[2]) + 1] if parts[2:] and parts[2] in SUBWINGS else SUBWINGS
    everywhere, _ = imports(module)
    ours = {name.split(".")[2] for name in everywhere if name.startswith("fphojax.app.")}
    assert ours & set(SUBWINGS) <= set(below)


def test_every_module_is_in_a_wing():
    assert {name for name in MODULES if not wing(name)} <= {"fphojax.__main__"}


def test_no_module_name_occurs_twice():
    names = Counter(name.rpartition(".")[2] for name in MODULES)
    assert {name for name, count in names.items() if count > 1} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if wing(name) in ("core", "inference")])
def test_device_side_knows_no_files(module):
    everywhere, _ = imports(module)
    assert {name for name in everywhere if name.partition(".")[0] in ("astropy", "h5py", "yaml")} == set()


def test_no_circles():
    """TopologicalSorter raises CycleError, which names the circle."""
    graph = {name: imports(name)[0] & set(MODULES) - {name} for name in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "fphojax.__main__"])
def test_module_says_what_it_offers(module):
    path = Path(importlib.util.find_spec(module).origin)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    lines = [ast.unparse(node) for node in tree.body]
    assert any(line.startswith("__all__ = ") for line in lines) or len(lines) == 1


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_annotated(module):
    """All parameters and what is returned, but for the None of `__init__`."""
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
    public = set(getattr(importlib.import_module(module), "__all__", ()))
    missing = []
    for node in tree.body:
        if getattr(node, "name", None) not in public:
            continue
        if isinstance(node, ast.FunctionDef):
            missing += _unannotated(node)
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not re.match("_[^_]", method.name):
                    missing += [f"{node.name}.{name}" for name in _unannotated(method, bound=True)]
    assert missing == []


def _unannotated(function, bound=False):
    """Name the parameters of a function, or of a method, that lack a type, and `return` if that does."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args]
    if bound and "staticmethod" not in map(ast.unparse, function.decorator_list):
        del parameters[0]
    parameters += [*arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
    found = [parameter.arg for parameter in parameters if parameter.annotation is None]
    if function.returns is None and function.name != "__init__":
        found.append("return")
    return [f"{function.name}: {name}" for name in found]


def test_every_public_name_is_there():
    for name in fphojax.__all__:
        assert getattr(fphojax, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fphojax.nothing


TESTS = Path(__file__).parent
# Modules without a test file of their own, and the one that shows whether they do what they should.
COVERED_BY = {
    "fphojax.app.cli.error_lines": "app/test_interruptions.py",
    "fphojax.app.cli.fit_commands": "app/bad_inputs/test_bad_usage.py",
    "fphojax.app.cli.input_commands": "app/bad_inputs/test_bad_usage.py",
    "fphojax.app.cli.option_types": "app/settings/test_overrides.py",
    "fphojax.app.cli.printing": "app/stages/test_sample_field.py",
    "fphojax.app.cli.result_commands": "app/bad_inputs/test_bad_usage.py",
    "fphojax.app.cli.start_commands": "app/bad_inputs/test_bad_usage.py",
    "fphojax.app.cli.usage": "app/bad_inputs/test_bad_usage.py",
    "fphojax.app.run.notebooks": "app/run/test_run_all.py",
    "fphojax.app.run.record": "app/run/test_run_all.py",
    "fphojax.app.run.steps": "app/run/test_run_all.py",
    "fphojax.app.stages.check": "app/stages/test_input_checks.py",
    "fphojax.app.stages.chi2": "app/stages/test_loop.py",
    "fphojax.app.stages.folders": "app/stages/test_detect.py",
    "fphojax.app.stages.preprocess": "app/stages/test_store_build.py",
    "fphojax.app.stages.residual_images": "app/stages/test_detect.py",
    "fphojax.app.store_table": "app/stages/test_store_build.py",
    "fphojax.app.tables": "app/stages/test_sample_field.py",
    "fphojax.core.nearby": "core/test_design.py",
    "fphojax.core.noise_kernels": "inference/test_noise_matrix.py",
    "fphojax.core.pairs": "core/test_patch.py",
    "fphojax.core.source_columns": "inference/test_noise_matrix.py",
    "fphojax.errors": "app/test_interruptions.py",
    "fphojax.field.patch_fit": "app/stages/test_fields.py",
    "fphojax.figures.colours": "figures/test_image_plots.py",
    "fphojax.figures.convention_plots": "figures/test_sky_plots.py",
    "fphojax.figures.detection_plots": "app/stages/test_detect.py",
    "fphojax.figures.injection_plots": "simulate/test_injections.py",
    "fphojax.simulate.injection_study": "simulate/test_injections.py",
    "fphojax.simulate.injection_tables": "simulate/test_injections.py",
    "fphojax.figures.explorer.compare_tab": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.patch_reader": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.pictures": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.sky_map": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.source_list": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.source_table": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.explorer.tabs": "figures/explorer/test_run_explorer.py",
    "fphojax.figures.field_map": "figures/test_html_report.py",
    "fphojax.figures.figure_bytes": "figures/test_html_report.py",
    "fphojax.figures.interval_plots": "field/test_scene_fit.py",
    "fphojax.figures.noise_plots": "app/stages/test_noise.py",
    "fphojax.figures.report_parts": "figures/test_html_report.py",
    "fphojax.figures.report_sources": "figures/test_html_report.py",
    "fphojax.figures.run_plots": "app/stages/test_postprocess.py",
    "fphojax.inference.chains": "inference/test_sampling.py",
    "fphojax.inference.flags": "inference/test_linear_fit.py",
    "fphojax.inference.nuts": "inference/test_sampling.py",
    "fphojax.inference.posterior": "inference/test_whitening.py",
    "fphojax.inference.runs": "inference/test_sampling.py",
    "fphojax.inputs.catalog_files": "inputs/test_source_catalog.py",
    "fphojax.inputs.exposure_display": "inputs/test_exposures.py",
    "fphojax.inputs.exposure_nuisance": "core/test_design.py",
    "fphojax.inputs.fits_images": "inputs/test_fits_frames.py",
    "fphojax.inputs.other_programs": "inputs/test_catalog_conversion.py",
    "fphojax.inputs.pixel_sources": "inputs/test_galfit.py",
    "fphojax.inputs.projection": "inputs/test_patcher.py",
    "fphojax.inputs.psf_layout": "inputs/test_psf_store.py",
    "fphojax.inputs.psf_mixture": "inputs/test_psf_store.py",
    "fphojax.inputs.stores.build_journal": "inputs/stores/test_stored_exposures.py",
    "fphojax.inputs.stores.packing": "inputs/stores/test_stored_exposures.py",
    "fphojax.inputs.stores.pixel_layout": "inputs/stores/test_stored_exposures.py",
    "fphojax.inputs.stores.reader": "inputs/stores/test_stored_exposures.py",
    "fphojax.inputs.stores.verification": "inputs/stores/test_stored_exposures.py",
    "fphojax.inputs.stores.writer": "inputs/stores/test_stored_exposures.py",
    "fphojax.mixtures.psf_image": "mixtures/test_psf_fit.py",
    "fphojax.mixtures.psf_result": "mixtures/test_psf_fit.py",
    "fphojax.mixtures.psf_search": "mixtures/test_psf_fit.py",
    "fphojax.mixtures.psf_solver": "mixtures/test_psf_fit.py",
    "fphojax.mixtures.psf_verdict": "mixtures/test_psf_fit.py",
    "fphojax.mixtures.sersic_fit": "mixtures/test_sersic.py",
    "fphojax.results.patch_journal": "results/test_scene_state.py",
    "fphojax.results.products.catalog_columns": "results/products/test_final_catalog.py",
    "fphojax.results.products.chain_catalog": "results/products/test_run_products.py",
    "fphojax.results.products.column_ucds": "results/products/test_votable.py",
    "fphojax.results.products.frame_model": "results/products/test_frame_images.py",
    "fphojax.results.products.patch_draws": "results/products/test_final_catalog.py",
    "fphojax.results.products.scene_points": "results/products/test_frame_images.py",
    "fphojax.results.tiles": "results/test_fitted_patch.py",
    "fphojax.system.file_checks": "system/test_seals.py",
    "fphojax.system.hdf5_files": "system/test_seals.py",
    "fphojax.system.json_files": "system/test_seals.py",
}


def own_tests(module):
    """`inputs/test_bounds.py` of `fphojax.inputs.bounds`."""
    *folders, name = module.split(".")[1:]
    return "/".join([*folders, f"test_{name}.py"])


@cache
def reached(module):
    """Modules that a module imports anywhere, and those that these import, itself included."""
    found, todo = set(), [module]
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += imports(name)[0] & set(MODULES)
    return found


def reached_from(file):
    """Modules of the package that a test file imports, and those that these import."""
    return set().union(*(reached(name) for name in imported_names(file) & set(MODULES)))


def imported_names(file):
    tree, found = ast.parse((TESTS / file).read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_tests():
    modules = {
        name
        for name in MODULES
        if name != "fphojax.__main__" and Path(importlib.util.find_spec(name).origin).name != "__init__.py"
    }
    without = {name for name in modules if not (TESTS / own_tests(name)).is_file()}
    assert sorted(without ^ set(COVERED_BY)) == []
    assert sorted(file for file in COVERED_BY.values() if not (TESTS / file).is_file()) == []
    assert sorted(name for name, file in COVERED_BY.items() if name not in reached_from(file)) == []
