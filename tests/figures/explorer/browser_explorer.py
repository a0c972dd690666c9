"""The explorer as a person uses it: JupyterLab with its notebook in a headless Chromium.

Run by `make test-browser`; named so that `make test` does not collect it. Screenshots of what was seen are kept in
the folder that FPHOJAX_SCREENSHOTS names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

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


@pytest.fixture
def lab(run, tmp_path):
    """Address of a JupyterLab that serves the notebook, set to the run of the tests."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source = f"run = {str(run.path)!r}"
    nbformat.write(notebook, tmp_path / "explorer.ipynb")
    settings = tmp_path / "config" / "labconfig"
    settings.mkdir(parents=True)
    disabled = {"@jupyterlab/apputils-extension:announcements": True}  # it would ask a question
    (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": disabled}))
    folders = {name: str(tmp_path / "config") for name in ("HOME", "JUPYTER_CONFIG_DIR")}
    options = (
        "--no-browser",
        "--allow-root",
        "--port=0",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={tmp_path}"],
        env=os.environ | folders,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=(log := (tmp_path / "lab.log").open("w")),
    )
    try:
        yield _until(lambda: re.search(r"http://127\.0\.0\.1:\d+/", (tmp_path / "lab.log").read_text()))[0]
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


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


def test_what_is_picked_is_shown(browser, lab):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def control(label):
        """The visible control beside a label."""
        path = f"//label[normalize-space()='{label}']/following-sibling::*[self::select or self::div]"
        return next(e for e in browser.find_elements(By.XPATH, path) if e.is_displayed())

    def changed(before, count):
        """The images, once they are not what they were."""
        return _until(lambda: (now := browser.execute_script(IMAGES)) != before and len(now) >= count and now)

    browser.get(f"{lab}lab/tree/explorer.ipynb")
    _until(lambda: browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook h1"))[0].click()  # gives it the focus
    widget = "window.jupyterapp.shell.currentWidget"
    _until(lambda: browser.execute_script(f"return {widget}?.context?.isReady"))
    browser.execute_script(f"await {widget}.sessionContext.ready")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    first = changed([], 2)
    _keep(browser, "posterior")

    sources = Select(control("source"))
    assert [option.text.split()[0] for option in sources.options] == ["one", "two"]
    sources.select_by_index(1)
    second = changed(first, 2)
    assert second[0] != first[0]  # the map
    _until(lambda: browser.execute_script(IMAGES)[1] != first[1])  # the traces
    assert "source two" in browser.find_element(By.TAG_NAME, "h3").text or "source two" in browser.page_source

    (tab,) = [
        e for e in browser.find_elements(By.CSS_SELECTOR, ".widget-tab .lm-TabBar-tab") if e.text == "Images"
    ]
    tab.click()
    median = changed(second, 2)
    median = _settled(browser, median)
    _keep(browser, "images")

    handles = [e for e in browser.find_elements(By.CSS_SELECTOR, ".noUi-handle") if e.is_displayed()]
    # the slider of draws stands below that of the stretch
    handles[-1].send_keys(Keys.PAGE_UP)
    draw = changed(median, 2)
    assert draw[1] != median[1]
    draw = _settled(browser, draw)
    _keep(browser, "draw")

    Select(control("stretch")).select_by_visible_text("log")
    stretched = changed(draw, 2)
    assert stretched[1] != draw[1]
    _keep(browser, "stretch")


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
