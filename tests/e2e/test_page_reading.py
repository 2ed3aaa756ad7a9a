"""What a reader sees on the explorer's page: marks, counts, scales, scores, messages; one browser for all tests."""

import json

import numpy as np
import pytest

from browser import Browser, find_chromium
from explorer_page import box_of, build, choose_and_see, count, number_of, pixels, place, put, type_search
from made_sets import evaluated, write_reference, write_set
from xtalgen.metrics.registry import METRICS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium program")]

NAMES = ("diffcsp/dng", "flowmm/dng", "cdvae/dng", "formula_orbits/dng", "crystal_text_llm/dng", "released/mattergen")
RESET = """(() => {
  document.documentElement.dataset.theme = 'light';
  document.getElementById('notice').hidden = true;
  explorer.setLasso(false); explorer.choose(-1); explorer.arrange('', ''); explorer.tab('plots');
  explorer.change({query: '', flags: new Set(), hull: null, sets: new Set(), categories: new Set(), lasso: null,
    dim: true, colour: 'set'});
  explorer.map.fit(true);
})()"""
TEXTS = [
    *("body", "button", "select", "#count", "#references", ".ticks span", ".bar-title", ".legend small", ".note"),
    *("#rows small", "#rows .value", "#facts th", "#facts td", "#facts a", "#scores small", "#scores summary"),
    *("#scores .reason", "#notice-text", ".check", ".axes label", "#embedding"),
]
# Contrast of WCAG 2: of the text of an element with the colour behind it.
CONTRAST = """(selectors) => selectors.flatMap((selector) => [...document.querySelectorAll(selector)].map((element) => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  let behind = element;
  while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(numbers).map(light);
  return [selector, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
}))"""


def without_energy(rows):
    """Every ninth crystal timed out, so it has no energy; the stage `evaluate` writes false for its verdicts."""
    for row in rows[4::9]:
        row.info.update(e_above_hull=None, energy=None, stable=False, metastable=False, relax_status="timeout")
    return rows


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    files = []
    for index, name in enumerate(NAMES):
        rows = without_energy(evaluated(12, name.replace("/", "-"), offset=50 * index))
        files.append(write_set(folder, name, rows))
        content = json.loads(files[-1].metrics.read_text())
        score = {"value": 0.2 + 0.1 * index, "n": 5000, "low": 0.19 + 0.1 * index, "high": 0.21 + 0.1 * index}
        content["metrics"] |= {metric: score for metric in METRICS if metric != "cov_recall"}
        files[-1].metrics.write_text(json.dumps(content))
    return build(folder, [*files, write_reference(folder, 10)])


@pytest.fixture(scope="module")
def browser(page):
    browser = Browser()
    browser.open(page)
    yield browser
    browser.close()


@pytest.fixture
def opened(browser):
    browser.run(RESET)
    browser.resize(1280, 820)
    browser.settle()
    yield browser
    assert browser.problems == []


def text(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")


def draw_lasso(browser, x, y, half, *, release=True):
    browser.run("document.getElementById('lasso').click()")
    browser.mouse("Pressed", x - half, y - half)
    for dx, dy in ((half, -half), (half, half), (-half, half)):
        browser.mouse("Moved", x + dx, y + dy, buttons=1)
    if release:
        browser.mouse("Released", x - half, y + half)


def test_lasso_keeps_its_place_on_the_map_while_that_moves(opened):
    index = number_of(opened, "diffcsp-dng-0")
    x, y = place(opened, index)
    opened.run("document.getElementById('lasso').click()")
    opened.mouse("Pressed", x - 30, y - 30)
    opened.mouse("Moved", x + 30, y - 30, buttons=1)
    opened.run("explorer.map.pan(-200, 0)")  # as the wheel does while one draws
    for dx, dy in ((30, 30), (-30, 30)):
        opened.mouse("Moved", x - 200 + dx, y + dy, buttons=1)
    opened.mouse("Released", x - 230, y - 30)
    shown = count(opened)
    assert opened.run(f"explorer.map.visible[{index}]") == 1
    corner = "explorer.map.project(...explorer.map.lasso[0])"
    before = opened.run(corner)
    opened.run("explorer.map.pan(40, 25)")
    assert opened.run(corner) == pytest.approx([before[0] + 40, before[1] + 25], abs=0.1)
    # A filter that is set and cleared inside the lasso leaves the lasso's crystals as they were.
    type_search(opened, "no-such-id")
    type_search(opened, "")
    assert count(opened) == shown != "72 of 72 crystals"


def test_cleared_lasso_leaves_nothing(opened):
    plain = pixels(opened, "#map")
    x, y = place(opened, number_of(opened, "diffcsp-dng-0"))
    draw_lasso(opened, x, y, 30)
    opened.run("document.getElementById('unlasso').click()")
    assert count(opened) == "72 of 72 crystals"
    draw_lasso(opened, x, y, 30, release=False)
    opened.key("Escape")
    opened.mouse("Released", x - 30, y + 30)
    assert count(opened) == "72 of 72 crystals"
    opened.run("explorer.hover(-1); explorer.map.hovered = -1; explorer.map.draw()")
    assert np.abs(pixels(opened, "#map") - plain).max() < 40


@pytest.mark.parametrize("supercell", [False, True])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_cell_fits_its_frame_and_its_edges_are_seen(opened, theme, supercell):
    opened.run(f"explorer.theme('{theme}')")
    opened.run(f"explorer.view.options.supercell = {str(supercell).lower()}; explorer.view.wanted = null")
    choose_and_see(opened, number_of(opened, "diffcsp-dng-3"))
    corners = """explorer.view.extent.map(([[x, y, z]]) => explorer.view.viewer.modelToScreen({x, y, z}))
      .map(({x, y}) => [x - document.getElementById('scene').getBoundingClientRect().x,
                        y - document.getElementById('scene').getBoundingClientRect().y])"""
    _, _, width, height = box_of(opened, "#scene")
    found = np.array(opened.run(corners))
    assert (found > 0).all()
    assert (found < [width, height]).all()
    assert (np.ptp(found, axis=0) / [width, height]).max() > 0.7, "the cell is small in its frame"
    # With atoms hidden, the edges alone are many pixels that differ from the ground by a contrast of more than 3.
    viewer = "explorer.view.viewer"
    opened.run(f"{viewer}.setStyle({{}}, {{}}); {viewer}.removeAllLabels(); {viewer}.render(); 0")
    drawn = pixels(opened, "#scene")[20:-20, 20:-60] / 255
    light = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    ground = np.median(light)
    contrast = (np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)
    edges = 3 * (2 if supercell else 1) * (9 if supercell else 4)
    assert (contrast > 3).sum() > 12 * edges
    opened.run("explorer.view.options.supercell = false")


def test_crystals_without_energy_are_not_called_unstable(opened):
    index = number_of(opened, "flowmm-dng-4")
    opened.mouse("Moved", *place(opened, index))
    card = "[...document.querySelectorAll('#card dd')].map((node) => node.textContent).join(' | ')"
    opened.run(f"explorer.hover({index}, 100, 100)")
    assert "stability not evaluated" in opened.run(card)
    assert "not metastable" not in opened.run(card)
    opened.run(f"explorer.hover({number_of(opened, 'flowmm-dng-10')}, 100, 100)")
    assert "not metastable" in opened.run(card)
    line = next(line for line in opened.run("explorer.csv()").splitlines() if ",flowmm-dng-4," in line)
    head = opened.run("explorer.csv()").splitlines()[0].split(",")
    assert dict(zip(head, line.split(","), strict=True))["metastable"] == ""


@pytest.mark.parametrize(("colour", "label"), [("e_above_hull", "no energy above hull"), ("stable", "not evaluated")])
def test_crystals_without_energy_have_their_own_mark(opened, colour, label):
    put(opened, "colour", colour, "change")
    entries = "[...document.querySelectorAll('#legend li')].map((item) => item.textContent)"
    assert {f"{label}6", "reference10"} <= set(opened.run(entries))
    assert opened.run(f"explorer.map.shapes[{number_of(opened, 'flowmm-dng-4')}]") == 4
    assert opened.run(f"explorer.map.shapes[{number_of(opened, 'flowmm-dng-3')}]") != 4
    opened.run(f"[...document.querySelectorAll('#legend li')].find((item) => item.title.startsWith('{label}')).click()")
    assert count(opened) == "66 of 72 crystals"


def test_colour_bar_has_unit_and_ticks(opened):
    put(opened, "colour", "e_above_hull", "change")
    assert text(opened, ".bar-title") == "energy above hull (eV/atom)"
    assert text(opened, ".ticks .first") == "≤ 0"
    assert text(opened, ".ticks .last") == "≥ 0.5"
    ticks = opened.run(
        "[...document.querySelectorAll('.ticks .inner')].map((tick) => [tick.textContent, tick.style.left])"
    )
    assert ticks == [["0.2", "40%"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_reference_crystals_are_seen(opened, theme):
    opened.run(f"explorer.theme('{theme}')")
    opened.run("explorer.change({sets: new Set([0, 1, 2, 3, 4, 5])})")
    opened.run("explorer.map.names = []")
    drawn = pixels(opened, "#points")
    x, y = opened.run(f"explorer.map.toScreen({number_of(opened, 'mp-0')})")
    ground, dot = drawn[2, 2] / 255, drawn[round(y), round(x)] / 255
    light = [
        np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        for c in (ground, dot)
    ]
    assert (max(light) + 0.05) / (min(light) + 0.05) > 3
    assert count(opened) == "0 of 72 crystals"
    assert text(opened, "#references") == "+ 10 of 10 reference"


def test_unknown_link_says_so(opened):
    for fragment, name in (("#gone-7", "gone-7"), ("#crystal=diffcsp/dng~gone-8&colour=stable", "gone-8")):
        opened.run(f"location.hash = '{fragment}'")
        opened.wait("!document.getElementById('notice').hidden", 10)
        assert name in text(opened, "#notice-text")
        assert "not on this page" in text(opened, "#notice-text")
        opened.run("document.getElementById('no-notice').click()")
        assert opened.run("document.getElementById('notice').hidden")
    opened.run("location.hash = '#diffcsp-dng-2'")
    opened.wait("explorer.state.chosen >= 0", 10)
    assert opened.run("document.getElementById('notice').hidden")


def test_scores_of_six_sets_fit_the_panel(opened):
    opened.run("explorer.tab('scores')")
    assert opened.run("document.getElementById('scores').scrollWidth <= document.getElementById('scores').clientWidth")
    rows = opened.run("[...document.querySelectorAll('.scores tbody')].map((body) => body.innerText)")
    valid = next(found for found in rows if found.startswith("Valid"))
    assert "↑" in valid.splitlines()[0]
    for name in NAMES:
        assert name in valid
    assert "70.0 % ★" in valid
    assert any("↓" in found.splitlines()[0] for found in rows)
    assert any("no fingerprints were given" in found for found in rows)
    hidden = """[...document.querySelectorAll('.scores td, .scores th')]
      .filter((cell) => cell.scrollWidth > cell.clientWidth + 1)
      .map((cell) => cell.textContent)"""
    assert opened.run(hidden) == []


def test_card_closes(opened):
    index = number_of(opened, "diffcsp-dng-0")
    closed = "document.getElementById('card').hidden"
    for close in (
        lambda: opened.key("Escape"),
        lambda: opened.run("explorer.map.zoom(1.2)"),
        lambda: type_search(opened, "Li"),
        lambda: opened.run(f"explorer.choose({index})"),
    ):
        opened.run(RESET)
        x, y = place(opened, index)
        opened.mouse("Moved", x + 1, y)
        opened.mouse("Moved", x, y)
        assert not opened.run(closed)
        close()
        assert opened.run(closed)


def test_zoom_ends_and_the_map_cannot_be_lost(opened):
    for button, factor in (("zoom-in", 1e6), ("zoom-out", 1e-6)):
        opened.run(f"explorer.map.zoom({factor})")
        opened.settle()
        assert opened.run(f"document.getElementById('{button}').disabled")
        opened.run("explorer.map.fit(true)")
        opened.settle()
        assert not opened.run(f"document.getElementById('{button}').disabled")
    opened.run("explorer.map.pan(1e6, -1e6)")
    x, y = opened.run("[explorer.map.x, explorer.map.y]")
    (left, low), (right, high) = opened.run("explorer.map.bounds")
    assert left <= x <= right
    assert low <= y <= high
    choose_and_see(opened, number_of(opened, "diffcsp-dng-0"))
    distance = "150 - explorer.view.viewer.getView()[3]"
    fitted = opened.run(distance)
    opened.run("explorer.view.viewer.zoom(1e-4); 0")
    assert fitted < opened.run(distance) <= 5.001 * fitted
    opened.run("explorer.view.viewer.zoom(1e6); 0")
    assert opened.run(distance) >= 1.99


def test_fingers_hit_everything(opened):
    opened.resize(390, 844, phone=True)
    choose_and_see(opened, number_of(opened, "diffcsp-dng-0"))
    targets = "button, select, input, summary, .legend li:not(.heading), a, [role=option]"
    small = f"""[...document.querySelectorAll('{targets}')]
      .filter((element) => element.checkVisibility({{visibilityProperty: true}}))
      .filter((element) => element.type !== 'checkbox' && element.getBoundingClientRect().height < 43.9)
      .map((element) => element.id || element.textContent)"""
    for tab in ("crystal", "list", "plots", "scores", "filters"):
        opened.run(f"document.querySelector('[data-tab={tab}]:not(main)').click()")
        opened.settle()
        assert opened.run(small) == [], tab
        assert opened.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(opened, theme):
    opened.run(f"explorer.theme('{theme}')")
    put(opened, "colour", "e_above_hull", "change")
    choose_and_see(opened, number_of(opened, "diffcsp-dng-3"))
    opened.run("explorer.tab('list')")
    opened.run("document.getElementById('notice').hidden = false")
    found = opened.run(f"({CONTRAST})({json.dumps(TEXTS)})")
    assert {selector for selector, _ in found} == set(TEXTS)
    assert [entry for entry in found if entry[1] < 4.5] == []
