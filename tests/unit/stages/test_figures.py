import hashlib
from dataclasses import replace

import numpy as np
import pytest

from made_sets import crystal, evaluated, write_reference, write_set
from xtalgen.crystals import to_table, write_table
from xtalgen.explorer.crystal_sets import Files, load
from xtalgen.stages.figures import DRAWN, crystal_system, density, draw_figures, looks, n_atoms, num_elems


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return [write_set(folder, f"{name}/dng", evaluated(12, name)) for name in "ab"] + [write_reference(folder, 10)]


def test_every_figure_is_written_in_both_formats(sets, tmp_path):
    written = draw_figures(sets, tmp_path)
    assert {path.name for path in written} == {f"{name}.{kind}" for name in DRAWN for kind in ("svg", "png")}
    assert all(path.stat().st_size > 3000 for path in written)
    energies = (tmp_path / "energy_above_hull.svg").read_text()
    assert energies.startswith("<?xml")


def test_same_sets_give_the_same_bytes(sets, tmp_path):
    digests = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in draw_figures(sets, tmp_path / name)] for name in "ab"
    ]
    assert digests[0] == digests[1]


def test_sets_without_anything_make_figures_that_say_so(tmp_path):
    bare = tmp_path / "bare.parquet"
    write_table(to_table([]), bare)
    assert len(draw_figures([], tmp_path / "none")) == 2 * len(DRAWN)
    assert len(draw_figures([Files("bare", bare)], tmp_path / "bare")) == 2 * len(DRAWN)


def test_known_values(tmp_path):
    rows = [crystal(index, str(index)) for index in range(5)]
    layer = load(write_set(tmp_path, "x", rows))
    assert density(layer)[0] == pytest.approx(2.16, abs=0.1)  # NaCl, g/cm³
    assert num_elems(layer).tolist() == [2, 2, 3, 3, 3]
    assert n_atoms(layer).tolist() == [8, 8, 5, 4, 4]
    assert crystal_system(layer).tolist() == [6, 6, 0, 0, 0]


def test_crystals_of_unknown_elements_are_not_drawn(tmp_path):
    unknown = replace(crystal(0, "odd"), status="unknown_element", atomic_numbers=np.full(8, 121, np.uint8))
    layer = load(write_set(tmp_path, "x", [crystal(1, "even"), unknown]))
    assert len(layer.rows) == 2
    assert len(density(layer)) == len(num_elems(layer)) == 1


def test_density_equals_that_of_the_metrics(tmp_path):
    from xtalgen.metrics.distributions import density as wanted

    rows = [crystal(index, str(index)) for index in range(5)]
    layer = load(write_set(tmp_path, "x", rows))
    assert density(layer) == pytest.approx(np.array([wanted(row) for row in rows]), rel=1e-4)


def test_looks_repeat_only_with_another_line(sets):
    layers = [load(sets[0])] * 10 + [load(sets[2])]
    found = [(look["color"], look["linestyle"]) for look in looks(layers)]
    assert len(set(found)) == 11
