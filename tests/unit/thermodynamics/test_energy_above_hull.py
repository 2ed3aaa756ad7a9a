import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from xtalgen.thermodynamics.energy_above_hull import Phase, energies_above_hull

LI, OX, NA = 3, 8, 11
ELEMENTS = [Phase(((LI, 1),), -2.0), Phase(((OX, 1),), -5.0)]
OXIDE = Phase(((LI, 2), (OX, 1)), -5.0)


def values(phases, references):
    return [found.value for found in energies_above_hull(phases, references)]


def test_known_hull():
    # Li2O at -5 eV/atom lies 2 eV/atom below the tie line of the elements, which is at -3 there.
    assert values([OXIDE], ELEMENTS) == pytest.approx([-2.0])
    assert values([OXIDE], [*ELEMENTS, OXIDE]) == pytest.approx([0.0])
    assert values([Phase(((LI, 1), (OX, 1)), -4.0)], [*ELEMENTS, OXIDE]) == pytest.approx([1.0])


def test_samples_do_not_compete_with_each_other():
    better = Phase(OXIDE.counts, -6.0)
    assert values([OXIDE, better], [*ELEMENTS, OXIDE]) == pytest.approx([0.0, -1.0])


def test_missing_terminal_and_missing_energy_have_a_status():
    found = energies_above_hull([None, Phase(((NA, 1), (OX, 1)), -3.0), ELEMENTS[0]], ELEMENTS)
    assert [row.status for row in found] == ["no_energy", "no_terminal", "ok"]
    assert [row.value for row in found] == [None, None, 0.0]
    assert [row.status for row in energies_above_hull([OXIDE], [])] == ["no_terminal"]
    assert energies_above_hull([], ELEMENTS) == []


def test_equals_one_phase_diagram_of_everything():
    generator = np.random.default_rng(0)
    numbers = [3, 8, 11, 17, 26]

    def phase(low):
        chosen = generator.choice(numbers, size=generator.integers(1, 4), replace=False)
        counts = tuple(sorted((int(number), int(generator.integers(1, 4))) for number in chosen))
        return Phase(counts, float(generator.uniform(low, 0)))

    references = [Phase(((number, 1),), -1.0) for number in numbers] + [phase(-3) for _ in range(80)]
    phases = [phase(-4) for _ in range(60)]

    def composition(item):
        return Composition({_symbol(z): n for z, n in item.counts})

    entries = [PDEntry(composition(item), item.energy_per_atom * composition(item).num_atoms) for item in references]
    diagram = PhaseDiagram(entries)
    known = [item.energy_per_atom - diagram.get_hull_energy_per_atom(composition(item)) for item in phases]
    np.testing.assert_allclose(values(phases, references), known, atol=1e-8)
    assert min(known) < 0 < max(known)


def test_a_crystal_of_twenty_elements_is_no_dearer_than_others():
    """An untrained model gives each atom an element of its own; a whole hull in twenty dimensions would not end."""
    elements = [Phase(((number, 1),), 0.0) for number in range(1, 21)]
    pairs = [Phase(((a, 1), (b, 1)), -0.1) for a in range(1, 21) for b in range(a + 1, 21)]
    soup = Phase(tuple((number, 1) for number in range(1, 21)), 0.5)
    assert values([soup], [*elements, *pairs]) == [0.6]


def _symbol(number):
    return {3: "Li", 8: "O", 11: "Na", 17: "Cl", 26: "Fe"}[number]
