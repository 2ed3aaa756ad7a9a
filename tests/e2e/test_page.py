"""The explorer's page in a real headless Chromium, from disk, with the network off."""

import time

import numpy as np
import pyarrow as pa
import pytest

from browser import Browser, find_chromium
from explorer_page import build, choose_and_see, count, number_of, pixels, place, put, type_search
from made_sets import HOSTILE, KINDS, crystal, evaluated, write_reference, write_set
from xtalgen.crystals import to_table, write_table
from xtalgen.explorer import columns
from xtalgen.explorer.columns import Colour, Column, Kind, Shown
from xtalgen.explorer.crystal_sets import Files

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium program")]


@pytest.fixture(scope="module")
def rows():
    return evaluated(28, "first", hostile=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("page")
    files = [write_set(folder, "first/dng", rows), write_set(folder, "second/dng", evaluated(14, "second", offset=100))]
    return build(folder, [*files, write_reference(folder, 10)], title="Crystals <b>&</b> maps")


@pytest.fixture(scope="module")
def chromium():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def opened(chromium, page):
    chromium.resize(1280, 820)
    chromium.open(page)
    return chromium


def test_page_opens_from_disk_without_network_or_console_errors(opened, page):
    assert count(opened) == "42 of 42 crystals"
    assert opened.run("document.querySelector('h1').textContent") == "Crystals <b>&</b> maps"
    assert [url for url in opened.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert opened.problems == []
    drawn = pixels(opened, "#points")
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20


def test_hovering_shows_the_crystal_under_the_pointer(opened, rows):
    for identifier, formula in (("first-0", "NaCl"), ("first-3", "LiCoO2"), ("second-2", "SrTiO3")):
        index = number_of(opened, identifier)
        x, y = place(opened, index)
        opened.mouse("Moved", x, y)
        assert opened.run("document.getElementById('card').dataset.id") == identifier
        assert formula in opened.run("document.getElementById('card').textContent")
    assert "first-3" not in opened.run("document.getElementById('card').textContent")


def test_hover_card_says_why_a_crystal_is_invalid_and_its_energies(opened):
    index = number_of(opened, "first-3")
    opened.mouse("Moved", *place(opened, index))
    text = opened.run("document.getElementById('card').textContent")
    assert "no charge-neutral oxidation states" in text
    # e_initial - energy = 1 eV over 4 atoms: 0.01 above the hull after relaxation, 0.26 before.
    assert "0.260 → 0.010" in text


def test_filters_and_search_change_the_count(opened, rows):
    opened.run("document.querySelector('[data-flag=valid]').click()")
    valid = sum(bool(row.info["valid"]) for row in rows) + sum(
        bool(row.info["valid"]) for row in evaluated(14, "second")
    )
    assert count(opened) == f"{valid} of 42 crystals"
    opened.run("document.getElementById('no-flags').click()")
    searches = (
        ("Li O, not Co", {"LiNiO2"}),
        ("NaCl", {"NaCl"}),
        ("Sr-Ti-O", {"SrTiO3"}),
        ("-Li O", {"MgO", "SrTiO3"}),
        ("Li2Co2O4", {"LiCoO2"}),
    )
    for text, formulas in searches:
        type_search(opened, text)
        shown = "[...new Set(explorer.crystals.formulas.filter((_, i) => explorer.map.visible[i]))].sort().join()"
        assert opened.run(shown) == ",".join(sorted(formulas)), text
    type_search(opened, "no-such-id")
    assert count(opened) == "0 of 42 crystals"
    assert "No crystal matches" in opened.run("document.getElementById('message').textContent")


def test_legend_switches_sets_off(opened):
    opened.run("document.querySelector('#sets li').click()")
    assert count(opened) == "14 of 42 crystals"
    opened.run("document.getElementById('all-sets').click()")
    assert count(opened) == "42 of 42 crystals"


def test_every_colouring_draws(opened):
    for colour in opened.run("Object.keys(explorer.colourings)"):
        put(opened, "colour", colour, "change")
        assert count(opened) == "42 of 42 crystals"
        assert opened.run("document.getElementById('colour').selectedOptions.length") == 1
    assert opened.problems == []


def test_click_opens_the_cell_in_three_dimensions(opened):
    index = number_of(opened, "first-2")
    x, y = place(opened, index)
    opened.mouse("Moved", x, y)
    opened.mouse("Pressed", x, y)
    opened.mouse("Released", x, y)
    opened.wait("document.querySelector('#scene canvas') && explorer.view.shown >= 0")
    assert opened.run("explorer.state.chosen") == index
    one = pixels(opened, "#scene")
    assert len(np.unique(one.reshape(-1, 3), axis=0)) > 50, "the 3D canvas is blank"
    atoms = "explorer.view.viewer.getModel().selectedAtoms({}).length"
    assert opened.run(atoms) == 15  # SrTiO3: 8 corners, 1 centre, 6 faces
    opened.key("2")
    opened.settle()
    assert opened.run(atoms) == 27 + 8 + 36
    assert np.abs(pixels(opened, "#scene") - one).max() > 50
    assert opened.problems == []


def test_clicking_again_reaches_the_crystal_beneath(opened):
    x, y = place(opened, number_of(opened, "first-1"))
    opened.mouse("Moved", x, y)
    assert "more at this point" in opened.run("document.getElementById('card').textContent")
    reached = []
    for _ in range(opened.run(f"explorer.map.stack({number_of(opened, 'first-1')}).length")):
        opened.mouse("Pressed", x, y)
        opened.mouse("Released", x, y)
        reached.append(opened.run("explorer.crystals.ids[explorer.state.chosen]"))
    assert {"first-1", "mp-1"} <= set(reached)
    assert len(set(reached)) == len(reached)


def test_relaxation_moves_the_atoms(opened):
    choose_and_see(opened, number_of(opened, "first-3"))
    relaxed = pixels(opened, "#scene")
    opened.key("r")
    opened.wait("Number(document.getElementById('stage').value) === 0")
    opened.wait("explorer.view.wanted[1] === 0")
    assert np.abs(pixels(opened, "#scene") - relaxed).max() > 30


def test_spin_turns_the_cell(opened):
    choose_and_see(opened, number_of(opened, "first-3"))
    opened.key("s")
    before = opened.run("explorer.view.viewer.getView().slice(4).join()")
    opened.wait(f"explorer.view.viewer.getView().slice(4).join() !== '{before}'", 20)
    opened.key("s")


@pytest.mark.parametrize("stage", [1, 0])
def test_downloaded_cif_is_the_crystal(opened, rows, stage, tmp_path):
    from pymatgen.core import Structure

    from made_sets import _sampled

    opened.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    choose_and_see(opened, number_of(opened, "first-4"))
    opened.run(f"document.getElementById('stage').value = {stage}")
    opened.run("document.getElementById('download').click()")
    end = time.monotonic() + 30
    while not (found := list(tmp_path.glob("*.cif"))) and time.monotonic() < end:
        time.sleep(0.1)
    parsed = Structure.from_file(found[0])
    wanted = rows[4] if stage else _sampled(rows[4])
    assert found[0].name == "LiNiO2-first-4.cif"
    assert [site.specie.Z for site in parsed] == wanted.atomic_numbers.tolist()
    difference = parsed.frac_coords - wanted.frac_coords
    assert np.abs(difference - np.round(difference)).max() < (1e-5 if stage else 2e-4)
    assert parsed.volume == pytest.approx(abs(np.linalg.det(wanted.lattice)), rel=1e-3)


def test_hostile_ids_are_shown_and_never_run(opened):
    index = number_of(opened, HOSTILE)
    assert index >= 0
    opened.mouse("Moved", *place(opened, index))
    choose_and_see(opened, index)
    assert HOSTILE in opened.run("document.getElementById('facts').textContent")
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("typeof window.hacked") == "undefined"
    opened.run("explorer.csv()")
    assert opened.problems == []


def test_address_leads_back_to_the_crystal_and_the_filters(opened, page):
    type_search(opened, "Li O")
    choose_and_see(opened, number_of(opened, "first-8"))
    address = opened.run("location.hash")
    opened.open(page, address)
    assert opened.run("explorer.crystals.ids[explorer.state.chosen]") == "first-8"
    assert opened.run("document.getElementById('query').value") == "Li O"
    opened.open(page, "#second-3")
    assert opened.run("explorer.crystals.ids[explorer.state.chosen]") == "second-3"
    opened.open(page, "#crystal=%E0%A4%A&colour=__proto__&only=x&hull=abc")
    assert count(opened) == "42 of 42 crystals"
    assert opened.problems == []


def test_lasso_keeps_what_it_encloses(opened):
    x, y = place(opened, number_of(opened, "first-0"))
    opened.run("document.getElementById('lasso').click()")
    opened.mouse("Pressed", x - 9, y - 9)
    for dx, dy in ((9, -9), (9, 9), (-9, 9), (-9, -8)):
        opened.mouse("Moved", x + dx, y + dy, buttons=1)
    opened.mouse("Released", x - 9, y - 8)
    lines = opened.run("explorer.csv()").strip().splitlines()
    assert any(",first-0," in line for line in lines)
    assert len(lines) < 40
    assert opened.run("document.getElementById('unlasso').hidden") is False
    opened.key("Escape")
    assert count(opened) == "42 of 42 crystals"


def test_keys_walk_from_the_lowest_energy(opened):
    opened.key("n")
    assert opened.run("explorer.crystals.ids[explorer.state.chosen]") == "first-0"
    opened.key("n")
    assert opened.run("explorer.crystals.ids[explorer.state.chosen]") == "second-0"
    opened.key("p")
    opened.key("Escape")
    assert opened.run("explorer.state.chosen") == -1


def test_wheel_zooms_at_the_pointer(opened):
    index = number_of(opened, "first-0")
    x, y = place(opened, index)
    before = opened.run("explorer.map.scale")
    opened.mouse("Wheel", x, y, deltaX=0, deltaY=-400)
    opened.settle()
    assert opened.run("explorer.map.scale") > 1.5 * before
    assert place(opened, index) == pytest.approx([x, y], abs=1)


def test_plots_and_scores_follow(opened):
    for tab, wanted in (("plots", "Density"), ("scores", "Coverage recall")):
        opened.run(f"explorer.tab('{tab}')")
        assert wanted in opened.run(f"document.getElementById('{tab}').textContent")
    opened.run("explorer.tab('plots')")
    assert opened.run("document.querySelectorAll('#plots svg').length") >= 6
    assert "NaN" not in opened.run("document.getElementById('plots').innerHTML")


def test_one_entry_adds_a_column_to_colours_card_and_csv(chromium, tmp_path, monkeypatch):
    gap = Column("band_gap", Kind.NUMBER, "band gap", "eV", 0.01, 2, colour=Colour.SCALE, shown=Shown.CARD)
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, gap))
    rows = [crystal(index, f"x-{index}", band_gap=1.25 * index) for index in range(3)]
    write_table(to_table(rows, {"band_gap": pa.float64()}), tmp_path / "x.parquet")
    chromium.resize(1280, 820)
    chromium.open(build(tmp_path, [Files("x", tmp_path / "x.parquet")]))
    assert chromium.run("explorer.colourings.band_gap.label") == "band gap (eV)"
    put(chromium, "colour", "band_gap", "change")
    choose_and_see(chromium, 2)
    assert "band gap2.50 eV" in chromium.run("document.getElementById('facts').textContent")
    head, *_, last = chromium.run("explorer.csv()").strip().splitlines()
    assert dict(zip(head.split(","), last.split(","), strict=True))["band_gap (eV)"] == "2.50"
    assert chromium.problems == []


def test_escape_undoes_one_thing_at_a_time(opened):
    type_search(opened, "Li O")
    put(opened, "hull", "30", "input")
    opened.run(f"explorer.choose({number_of(opened, 'first-3')})")
    opened.key("Escape")
    assert opened.run("explorer.state.chosen") == -1
    assert opened.run("document.getElementById('query').value") == "Li O"
    opened.key("Escape")
    assert count(opened) == "42 of 42 crystals"


def test_hidden_sets_with_spaces_in_their_names_come_back_from_the_address(opened, page):
    opened.run("[...document.querySelectorAll('#sets li')].at(-1).click()")
    address = opened.run("location.hash")
    assert "made+test" in address
    opened.open(page, address)
    assert opened.run("document.querySelectorAll('#sets li.off').length") == 1
    opened.open(page, "#colour=novelty&without=first/dng second/dng")
    assert opened.run("explorer.state.colour") == "novel"
    assert opened.run("document.querySelectorAll('#sets li.off').length") == 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_has_no_sideways_scrolling(chromium, page, theme):
    chromium.resize(390, 844, phone=True)
    chromium.open(page)
    chromium.run(f"explorer.theme('{theme}')")
    for tab in ("crystal", "plots", "scores", "filters"):
        chromium.run(f"document.querySelector('[data-tab={tab}]:not(main)').click()")
        assert chromium.run("document.documentElement.scrollWidth") <= 390
    assert chromium.run("document.getElementById('points').clientHeight") > 250
    assert chromium.problems == []


def test_pages_without_much_to_show_say_so(chromium, tmp_path):
    chromium.resize(1280, 820)
    empty = write_set(tmp_path, "empty/dng", [])
    chromium.open(build(tmp_path, [empty], "empty.html"))
    assert "There are no crystals" in chromium.run("document.getElementById('message').textContent")
    assert chromium.problems == []
    chromium.open(build(tmp_path, [write_set(tmp_path, "one/dng", evaluated(1, "one"))], "one.html"))
    assert count(chromium) == "1 of 1 crystals"
    choose_and_see(chromium, 0)
    assert chromium.problems == []
    failed = [evaluated(2, "gone", hostile=True)[-1]]
    write_table(to_table(failed, KINDS), tmp_path / "bare.parquet")
    chromium.open(build(tmp_path, [Files("bare", tmp_path / "bare.parquet")], "bare.html"))
    chromium.run("explorer.choose(0)")
    assert "no geometry" in chromium.run("document.getElementById('crystal').textContent")
    assert chromium.problems == []
