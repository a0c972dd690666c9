"""The explorer as a person uses it: JupyterLab, Notebook 7 and voila with its notebook in a headless Chromium.

Run by `make test-browser`; named so that `make test` does not collect it. Screenshots of what was seen are kept in
the folder that FPHOJAX_SCREENSHOTS names.
"""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest

from fphojax import RunDirectory

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "explorer.ipynb"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1500",
)
SECONDS = 60  # until something must have appeared
IMAGES = """
return [...document.querySelectorAll('.widget-image')].filter(i => i.offsetParent && i.naturalWidth).map(i => {
    const canvas = document.createElement('canvas');
    canvas.width = i.naturalWidth; canvas.height = i.naturalHeight;
    canvas.getContext('2d').drawImage(i, 0, 0);
    return canvas.toDataURL();
});
"""
MAP = "return document.querySelector('canvas.fphojax-map')?.toDataURL()"
ROWS = """
const rows = [...document.querySelectorAll('.fphojax-table > div:nth-child(2) > div')];
return rows.map(row => row.firstChild.textContent);
"""
OPTIONS = """
const options = [...document.querySelectorAll('.widget-dropdown option')];
return options.map(option => option.textContent.replaceAll('\\u00a0', ' '));
"""
SERVERS = {
    "lab": ("jupyterlab", "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser"),
    "notebook": ("notebook", "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser"),
    "voila": ("voila",),
}
PAGES = {
    "lab": "lab/tree/explorer.ipynb",
    "notebook": "notebooks/explorer.ipynb",
    "voila": "voila/render/explorer.ipynb",
}


@pytest.fixture(scope="module")
def flagged(run, fit, tmp_path_factory):
    """The run of the tests, its second source at an edge of its prior (flag 4)."""
    folder = tmp_path_factory.mktemp("flagged") / "run"
    shutil.copytree(run.path, folder)
    copied = RunDirectory(folder)
    at_bound = fit.result.at_bound.copy(deep=True)
    at_bound["q"][{"source": 1}] = 0.5
    for patch in copied.patches():
        copied.write_patch(patch, dataclasses.replace(fit.result, at_bound=at_bound))
    return copied


@contextmanager
def served(kind, run, folder):
    """Address of a server of the notebook, which is set to the run of the tests, compared with itself."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source = f"run = {str(run.path)!r}"
    for cell in notebook.cells:
        cell.source = cell.source.replace("fp.RunExplorer(run)", "fp.RunExplorer(run, run)")
    nbformat.write(notebook, folder / "explorer.ipynb")
    settings = folder / "config" / "labconfig"
    settings.mkdir(parents=True)
    disabled = {"@jupyterlab/apputils-extension:announcements": True}  # it would ask a question
    (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": disabled}))
    folders = {name: str(folder / "config") for name in ("HOME", "JUPYTER_CONFIG_DIR")}
    module, *options = SERVERS[kind]
    root = f"--Voila.root_dir={folder}" if kind == "voila" else f"--ServerApp.root_dir={folder}"
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", module, "--no-browser", f"--port={_free_port()}", *options, root],
            env=os.environ | folders,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            found = _until(
                lambda: re.search(
                    r"http://(localhost|127\.0\.0\.1):(\d+)/", (folder / "server.log").read_text()
                )
            )
            yield f"http://127.0.0.1:{found[2]}/"
        finally:
            server.terminate()
            server.wait(timeout=20)


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(
            "found no chromium and chromedriver, expected Debian's packages chromium and chromium-driver"
        )
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(driver)
    session = webdriver.Chrome(options, service)
    yield session
    _keep(session, "last")
    session.quit()


@pytest.mark.parametrize("kind", SERVERS)
def test_what_is_picked_is_shown(browser, flagged, tmp_path, kind):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def changed(before, script=IMAGES):
        """What the script gives, once it is not what it was."""
        return _until(lambda: (now := browser.execute_script(script)) != before and now)

    def named():
        return browser.execute_script(
            "return [...document.querySelectorAll('h3')].filter(h => h.offsetParent).map(h => h.textContent)"
        )

    def title(source):
        _until(lambda: any(f"source {source}," in text for text in named()))

    def tab(name):
        tabs = browser.find_elements(By.CSS_SELECTOR, ".widget-tab .lm-TabBar-tab, .widget-tab .p-TabBar-tab")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", tabs[0])
        next(e for e in tabs if e.text == name).click()

    with served(kind, flagged, tmp_path) as address:
        browser.get(address + PAGES[kind])
        if kind != "voila":
            _until(lambda: browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook h1"))[0].click()
            widget = "window.jupyterapp.shell.currentWidget"
            _until(lambda: browser.execute_script(f"return {widget}?.context?.isReady"))
            browser.execute_script(f"await {widget}.sessionContext.ready")
            browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        changed(None, MAP)
        changed([], IMAGES)
        _until(lambda: browser.execute_script(ROWS) == ["one", "two"])
        browser.execute_script(
            "document.querySelector('canvas.fphojax-map').scrollIntoView({block: 'center'})"
        )
        title("one")
        _keep(browser, f"{kind}_start")

        # a click on the second source of the image, which is north-east of the first
        offset = _on_canvas(flagged, 1)
        images = _settled(
            browser, browser.execute_script(IMAGES)
        )  # notebooks lay their cells out more than once
        first = browser.execute_script(MAP)
        canvas = browser.find_element(By.CSS_SELECTOR, "canvas.fphojax-map")
        ActionChains(browser).move_to_element_with_offset(canvas, *offset).click().perform()
        title("two")
        changed(first, MAP)
        changed(images)
        _keep(browser, f"{kind}_clicked")

        # keys: the next source, and a closer look
        ActionChains(browser).send_keys(Keys.ARROW_DOWN).perform()
        title("one")
        before = browser.execute_script(MAP)
        ActionChains(browser).send_keys("+").perform()
        changed(before, MAP)
        ActionChains(browser).send_keys("0").perform()

        # sort by the second band, descending, by two clicks on its head
        head = browser.find_element(By.CSS_SELECTOR, ".fphojax-table span[title='sort by R']")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", head)
        for rows in (["one", "two"], ["two", "one"]):
            browser.find_element(By.CSS_SELECTOR, ".fphojax-table span[title='sort by R']").click()
            _until(lambda rows=rows: browser.execute_script(ROWS) == rows)

        # filter by id, and by flag once it is known
        box = browser.find_element(By.CSS_SELECTOR, ".widget-text input")
        box.send_keys("tw")
        _until(lambda: browser.execute_script(ROWS) == ["two"])
        title("two")
        box.send_keys(Keys.BACKSPACE, Keys.BACKSPACE)
        _until(lambda: len(browser.execute_script(ROWS)) == 2)
        browser.find_element(By.XPATH, "//button[contains(., 'convergence of all')]").click()
        _until(lambda: "without a flag" in browser.execute_script(OPTIONS))
        options = browser.find_elements(By.CSS_SELECTOR, ".widget-dropdown option")
        texts = [option.get_attribute("textContent") for option in options]
        options[next(i for i, text in enumerate(texts) if text.startswith("4:"))].click()
        _until(lambda: browser.execute_script(ROWS) == ["two"])
        _keep(browser, f"{kind}_filtered")

        tab("Images")
        images = _settled(browser, changed(browser.execute_script(IMAGES)))
        handles = [e for e in browser.find_elements(By.CSS_SELECTOR, ".noUi-handle") if e.is_displayed()]
        handles[-1].send_keys(Keys.PAGE_UP)  # the slider of draws stands below that of the stretch
        changed(images)
        _settled(browser, browser.execute_script(IMAGES))
        _keep(browser, f"{kind}_draw")

        tab("Two runs")
        _until(lambda: len(browser.execute_script(IMAGES)) == 2)
        _settled(browser, browser.execute_script(IMAGES))
        assert "difference / error" in browser.page_source
        _keep(browser, f"{kind}_two_runs")


def _on_canvas(run, row):
    """Where a source is on the map, in pixels from its middle to the right and down."""
    from fphojax.figures.explorer.run_explorer import RunExplorer

    sky = RunExplorer(run).map
    east, north = np.frombuffer(sky.shapes, "<f4").reshape(-1, 5)[row, :2]
    return int(-260 * east / sky.half), int(-260 * north / sky.half)


def _until(condition):
    """What the condition gives, once that is something."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.2)
    raise AssertionError(f"nothing after {SECONDS} s")


def _settled(browser, images):
    """The images, once they stay the same for a second."""
    while True:
        time.sleep(1)
        if (now := browser.execute_script(IMAGES)) == images:
            return now
        images = now


def _keep(browser, name):
    if folder := os.environ.get("FPHOJAX_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))
