"""What a reader does on the explorer's page: axes, list, dimming, comparison, cells, exports; one browser for all."""

import warnings

import numpy as np
import pyarrow as pa
import pytest

from browser import Browser, find_chromium
from explorer_page import build, choose_and_see, count, number_of, pixels, place, put, type_search
from made_sets import evaluated, write_reference, write_set
from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.explorer.crystal_sets import Files

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium program")]

CUBE = 5.64
HALF = CUBE / 2
# Primitive cells away from the origin, a little disturbed: lattice vectors, atomic numbers, fractional coordinates.
EXACT = {
    "rock salt": ([[0, HALF, HALF], [HALF, 0, HALF], [HALF, HALF, 0]], [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "rutile": (
        np.diag([4.594, 4.594, 2.959]).tolist(),
        [22, 22, 8, 8, 8, 8],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
    ),
    "wurtzite": (
        [[3.81, 0, 0], [-1.905, 3.2996, 0], [0, 0, 6.26]],
        [30, 30, 16, 16],
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.375], [2 / 3, 1 / 3, 0.875]],
    ),
}
GROUPS = {"rock salt": 225, "rutile": 136, "wurtzite": 186}
RESET = """(() => {
  explorer.fill(false); explorer.choose(-1); explorer.arrange('', ''); explorer.tab('plots');
  for (const id of ['conventional', 'polyhedra', 'supercell', 'spin']) {
    const button = document.getElementById(id);
    button.disabled = false;
    if (button.getAttribute('aria-pressed') === 'true') button.click();
  }
  explorer.list.sort('e_above_hull', false);
  explorer.change({query: '', flags: new Set(), hull: null, sets: new Set(), categories: new Set(), lasso: null,
    dim: true, colour: 'set'});
})()"""


def exact_crystals():
    generator = np.random.default_rng(5)
    rows = []
    for name, (vectors, numbers, places) in EXACT.items():
        lattice = np.array(vectors, dtype=float)
        noise = 0.004 * generator.normal(size=(len(numbers), 3)) @ np.linalg.inv(lattice)
        moved = (np.array(places) + np.array([0.11, 0.27, 0.41]) + noise) % 1.0
        rows.append(Crystal(name, "ok", lattice, moved, np.array(numbers, dtype=np.uint8), {}))
    return rows


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    rows = evaluated(28, "first", hostile=True)
    rows[9].info.update(e_above_hull=None)
    exact = exact_crystals()
    write_table(to_table(exact), folder / "exact.parquet")
    described = [
        Crystal(row.id, row.status, row.lattice, row.frac_coords, row.atomic_numbers, info)
        for row in exact
        if (info := {"descriptor": [20.0, 5.0, row.n_atoms, 20.0, 1.0], "spg_num": GROUPS[row.id]})
    ]
    kinds = {"descriptor": pa.list_(pa.float32()), "spg_num": pa.int64()}
    write_table(to_table(described, kinds), folder / "exact-embedding.parquet", embedding="made descriptors")
    files = [
        write_set(folder, "first/dng", rows),
        write_set(folder, "second/dng", evaluated(14, "second", offset=100)),
        Files("exact/dng", folder / "exact.parquet", None, folder / "exact-embedding.parquet"),
        write_reference(folder, 10),
    ]
    return build(folder, files)


@pytest.fixture(scope="module")
def browser(page):
    browser = Browser()
    browser.open(page)
    yield browser
    browser.close()


@pytest.fixture
def opened(browser):
    browser.run(RESET)
    browser.settle()
    yield browser
    assert browser.problems == []


def shown(browser):
    return browser.run(
        "[...document.querySelectorAll('#rows [role=option] .name small')].map((node) => node.textContent)"
    )


def test_axes_place_crystals_by_two_properties(opened, page):
    put(opened, "across", "density", "change")
    assert opened.run("explorer.state.y") == "e_above_hull"
    first, second = number_of(opened, "first-1"), number_of(opened, "first-20")
    (x, y), (other_x, other_y) = (opened.run(f"explorer.map.toScreen({index})") for index in (first, second))
    density = [opened.run(f"explorer.crystals.density[{index}]") for index in (first, second)]
    assert (x < other_x) == (density[0] < density[1])
    assert y > other_y  # a higher energy lies higher
    # The failed crystal, the one without energy, the exact ones and the references have no place.
    assert "15 crystals without these values are not drawn" in opened.run(
        "document.getElementById('embedding').textContent"
    )
    assert count(opened) == "40 of 45 crystals"
    labels = opened.run("explorer.map.axes.map(({label}) => label)")
    assert labels == ["density (g/cm³)", "energy above hull (eV/atom)"]
    opened.mouse("Moved", *place(opened, first))
    assert opened.run("document.getElementById('card').dataset.id") == "first-1"
    put(opened, "up", "n_atoms", "change")
    assert opened.run("location.hash") == "#x=density&y=n_atoms"
    put(opened, "across", "", "change")
    assert count(opened) == "45 of 45 crystals"
    opened.run("location.hash = '#x=density&y=e_above_hull'")
    opened.wait("explorer.map.axes", 10)
    opened.run("history.replaceState(null, '', location.pathname)")


def test_list_sorts_what_is_shown(opened):
    opened.run("explorer.tab('list')")
    assert shown(opened)[:3] == ["first-0", "second-0", "first-1"]
    type_search(opened, "Sr-Ti-O")
    assert shown(opened)[:2] == ["first-2", "second-2"]
    assert "crystals by e above hull, rising" in opened.run("document.getElementById('rows').ariaLabel")
    opened.run("document.querySelector('[data-sort=\"\"]').click()")
    falling = shown(opened)
    assert falling[0] == "first-22"
    assert "mp-2" in falling[-2:]  # unknown energies stay last
    type_search(opened, "")
    put(opened, "sort", "n_atoms", "change")
    atoms = opened.run("explorer.results().map((i) => explorer.crystals.value('n_atoms', i))")
    known = [value for value in atoms if value is not None]
    assert known == sorted(known)
    assert atoms[-1] is None
    opened.run("document.querySelector('[data-sort=formula]').click()")
    formulas = opened.run("explorer.results().map((i) => explorer.crystals.formulas[i]).filter(Boolean)")
    assert formulas == sorted(formulas)
    assert len(shown(opened)) < 45  # only the rows in sight exist


def test_keys_walk_through_the_list(opened):
    opened.run("explorer.tab('list')")
    opened.run("document.getElementById('rows').focus()")
    chosen = "explorer.crystals.ids[explorer.state.chosen]"
    for key, wanted in (
        ("ArrowDown", "first-0"),
        ("ArrowDown", "second-0"),
        ("ArrowUp", "first-0"),
        ("PageDown", None),
    ):
        opened.key(key)
        if wanted:
            assert opened.run(chosen) == wanted
    assert opened.run("document.querySelector('main').dataset.tab") == "list"
    marked = "document.getElementById(document.getElementById('rows').getAttribute('aria-activedescendant'))"
    assert opened.run(f"{marked}.querySelector('small').textContent") == opened.run(chosen)
    box = opened.run(f"{marked}.getBoundingClientRect().toJSON()")
    frame = opened.run("document.getElementById('rows').getBoundingClientRect().toJSON()")
    assert frame["top"] <= box["top"]
    assert box["bottom"] <= frame["bottom"] + 1
    opened.key("End")
    opened.key("Home")
    assert opened.run(chosen) == "first-0"
    opened.key("Enter")
    assert opened.run("document.querySelector('main').dataset.tab") == "crystal"


def test_what_is_not_found_is_dimmed_or_hidden(opened):
    type_search(opened, "NaCl")
    salt, oxide = number_of(opened, "first-0"), number_of(opened, "first-2")
    opacity = f"[{salt}, {oxide}].map((i) => explorer.map.colours[4 * i + 3])"
    bright, dim = opened.run(opacity)
    assert bright > 200
    assert 0 < dim < 60
    assert opened.run(f"explorer.map.nearest(...explorer.map.toScreen({oxide}))") != oxide
    opened.run("document.getElementById('dim').click()")
    assert opened.run(opacity) == [bright, 0]
    opened.run("document.getElementById('dim').click()")
    opened.run("document.querySelector('#sets li').click()")
    assert opened.run(opacity) == [0, 0]  # a set that is switched off is not dimmed


def test_two_crystals_side_by_side(opened, page):
    choose_and_see(opened, number_of(opened, "first-2"))
    opened.run("document.getElementById('compare').click()")
    assert "choose a second crystal" in opened.run("document.getElementById('compare-hint').textContent")
    choose_and_see(opened, number_of(opened, "first-3"))
    opened.wait("explorer.otherView.shown >= 0")
    assert opened.run("document.querySelector('.heading h2').textContent") == "SrTiO3LiCoO2"
    row = "[...document.querySelectorAll('#facts tr')].find((row) => row.cells[0].textContent === '{}')"
    cells = "[..." + row + ".cells].map((cell) => cell.textContent)"
    assert opened.run(cells.format("id")) == ["id", "first-2", "first-3"]
    assert all(text.endswith("g/cm³") for text in opened.run(cells.format("density"))[1:])
    for scene in ("#scene", "#other-scene"):
        assert len(np.unique(pixels(opened, scene).reshape(-1, 3), axis=0)) > 50
    address = opened.run("location.hash")
    opened.run("explorer.choose(-1)")
    opened.run(f"location.hash = '{address}'")
    opened.wait("explorer.state.pinned >= 0", 10)
    assert opened.run("[explorer.state.pinned, explorer.state.chosen].map((i) => explorer.crystals.ids[i])") == [
        "first-2",
        "first-3",
    ]
    opened.run("document.getElementById('compare').click()")
    assert opened.run("document.querySelectorAll('#facts tr:first-child td').length") == 1


def test_full_screen_and_back(opened):
    opened.resize(640, 480)  # drawn in software: small is fast
    choose_and_see(opened, number_of(opened, "first-2"))
    box = opened.run("document.getElementById('full').getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.mouse("Pressed", x, y)  # a real click: full screen needs one
    opened.mouse("Released", x, y)
    opened.wait("document.fullscreenElement", 10)
    opened.settle()
    frame = opened.run("document.getElementById('cells').getBoundingClientRect().toJSON()")
    assert [frame["x"], frame["y"]] == [0, 0]
    assert frame["width"] == 640
    opened.key("f")
    opened.wait("!document.fullscreenElement && !document.body.classList.contains('full')", 10)
    opened.resize(1280, 820)


def test_axes_of_the_cell_are_named(opened):
    choose_and_see(opened, number_of(opened, "first-2"))
    labels = "explorer.view.viewer.labels.map((label) => label.text)"
    assert opened.run(labels) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "atoms", "lengths"), [("rock salt", 8, 5.64), ("rutile", 6, None), ("wurtzite", 4, None)]
)
def test_conventional_cell(opened, name, atoms, lengths):
    choose_and_see(opened, number_of(opened, name))
    opened.key("v")
    opened.settle()
    found = opened.run(f"(() => explorer.view._cell({number_of(opened, name)}, 1))()")
    assert len(found["atoms"]) == atoms
    lattice = np.array(found["vectors"])
    assert np.linalg.det(lattice) > 0
    if lengths:
        assert lattice @ lattice.T == pytest.approx(lengths**2 * np.eye(3), abs=0.02)


def test_polyhedra_complete_the_surroundings_of_cations(opened):
    choose_and_see(opened, number_of(opened, "first-2"))
    plain = pixels(opened, "#scene")
    shapes = "explorer.view.viewer.shapes.length"
    before = opened.run(shapes)
    opened.key("o")
    opened.settle()
    assert opened.run(shapes) == before + 1  # the octahedron around titanium
    assert np.abs(pixels(opened, "#scene") - plain).max() > 30
    choose_and_see(opened, number_of(opened, "rock salt"))
    corners = "explorer.view.viewer.getModel().selectedAtoms({elem: 'Cl'}).length"
    assert opened.run(corners) > 6  # also those outside the cell


@pytest.mark.parametrize("name", list(EXACT))
def test_cif_with_symmetry_makes_the_same_crystal(opened, tmp_path, name):
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    from xtalgen.structure.space_group import space_group

    opened.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    choose_and_see(opened, number_of(opened, name))
    opened.run("document.getElementById('symmetric').click()")
    for _ in range(200):
        if found := list(tmp_path.glob("*.cif")):
            break
        opened.settle()
    text = found[0].read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = Structure.from_file(found[0])
    row = next(row for row in exact_crystals() if row.id == name)
    wanted = Structure(row.lattice, row.atomic_numbers.tolist(), row.frac_coords)
    assert StructureMatcher().fit(read, wanted)
    numbers = np.array([site.specie.Z for site in read])
    assert space_group((read.lattice.matrix, read.frac_coords, numbers), symprec=1e-3) == GROUPS[name]
    assert f"_space_group_IT_number {GROUPS[name]}" in text
    assert text.count("\n", text.index("_atom_site_occupancy")) == 3  # two sites make all atoms


def test_cif_without_symmetry_says_so(opened):
    choose_and_see(opened, number_of(opened, "first-0"))  # called Fm-3m by its table, but its atoms are displaced
    opened.run("document.getElementById('symmetric').click()")
    assert "no space group beyond P 1" in opened.run("document.getElementById('message').textContent")
    text = opened.run("explorer.cif()")
    assert "# space group 225 within 0.1 Å, not used here" in text
    assert "_symmetry_space_group_name_H-M 'P 1'" in text


def test_csv_has_units(opened):
    head = opened.run("explorer.csv()").splitlines()[0].split(",")
    assert {"e_above_hull (eV/atom)", "density (g/cm³)", "n_atoms"} <= set(head)


def test_clusters_are_named_after_their_chemistry(opened):
    names = opened.run("explorer.map.names.map(({name}) => name)")
    assert {"Na chlorides", "Mg oxides", "Sr\N{EN DASH}Ti oxides"} <= set(names)
    salt = opened.run("explorer.map.names.find(({name}) => name === 'Na chlorides')")
    places = np.array(opened.run("Array.from(explorer.map.places)")).reshape(-1, 2)
    formulas = opened.run("explorer.crystals.formulas")
    nearest = np.linalg.norm(places - [salt["x"], salt["y"]], axis=1).argmin()
    assert formulas[nearest] == "NaCl"
