"""The explorer's page in a browser: building it, and what tests ask of it."""

import io
import json

import numpy as np
import pytest

from xtalgen.explorer import projection
from xtalgen.stages.explorer import Options, write_explorer


def build(folder, files, name="explorer.html", **options):
    page = folder / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "FEWEST", 1000)  # principal components: UMAP takes half a minute to compile itself
        write_explorer(files, [], options=Options(**options), umap=projection.UmapConfig(), cache=None, out=page)
    return page


def place(browser, index):
    """Returns where a crystal's point is on the page."""
    left, top, _, _ = box_of(browser, "#points")
    x, y = browser.run(f"explorer.map.toScreen({index})")
    return left + x, top + y


def box_of(browser, selector):
    box = browser.run(f"document.querySelector('{selector}').getBoundingClientRect().toJSON()")
    return box["x"], box["y"], box["width"], box["height"]


def number_of(browser, identifier):
    return browser.run(f"explorer.crystals.ids.indexOf({json.dumps(identifier)})")


def count(browser):
    return browser.run("document.getElementById('count').textContent")


def put(browser, control, value, event):
    browser.run(f"document.getElementById('{control}').value = {json.dumps(value)}")
    browser.run(f"document.getElementById('{control}').dispatchEvent(new Event('{event}'))")


def type_search(browser, text):
    put(browser, "query", text, "input")


def pixels(browser, selector):
    from PIL import Image

    browser.settle()
    box = dict(zip(("x", "y", "width", "height"), box_of(browser, selector), strict=True))
    return np.asarray(Image.open(io.BytesIO(browser.screenshot(box))).convert("RGB")).astype(int)


def choose_and_see(browser, index):
    browser.run(f"explorer.choose({index})")
    browser.wait("document.querySelector('#scene canvas') && explorer.view.shown === explorer.state.chosen")
    browser.settle()
