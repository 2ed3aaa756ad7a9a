import time

import numpy as np
import pytest

import crystal_nn_values
from crystal_cases import caesium_chloride, diffcsp, library, moved, mp_20, one_atom, rock_salt
from crystal_nn_values import by_matminer
from tolerances import ANGLES
from xtalgen.crystals import Crystal
from xtalgen.featurizers.crystal_nn import careful_fingerprint, site_fingerprints
from xtalgen.featurizers.order_parameters import FIRST
from xtalgen.structure.matcher import arrays
from xtalgen.structure.pymatgen import to_structure

UNCERTAIN = 123  # of library(8): eight neighbours equally near, in an environment that the order matters for


def assert_equals_matminer(crystals):
    """Compares atom by atom, the uncertain ones by way of pymatgen's neighbours; returns how many were uncertain."""
    uncertain = 0
    for crystal in crystals:
        found, certain = site_fingerprints(*arrays(crystal))
        for site in np.flatnonzero(~certain):
            found[site] = careful_fingerprint(to_structure(crystal), int(site))
        np.testing.assert_allclose(found, by_matminer(crystal), atol=ANGLES, rtol=0, err_msg=crystal.id)
        uncertain += int((~certain).sum())
    return uncertain


def test_prototypes_equal_matminer():
    chosen = [crystal for crystal in library(8)[::10] if crystal.n_atoms <= 6]
    assert len(chosen) > 8
    assert_equals_matminer([*chosen, rock_salt(), caesium_chloride(), one_atom()])


def test_atoms_that_the_last_digit_decides_on_are_found_and_done_with_care():
    crystal = library(8)[UNCERTAIN]
    assert assert_equals_matminer([crystal]) == 1


@pytest.mark.slow
def test_forty_real_crystals_equal_matminer(shared_data):
    generator = np.random.default_rng(0)
    known = [mp_20(shared_data, "test", 400)[i] for i in generator.choice(400, 20, replace=False)]
    samples = [diffcsp(shared_data, 400)[i] for i in generator.choice(400, 20, replace=False)]
    assert assert_equals_matminer(known) > 0
    assert_equals_matminer(samples)


@pytest.mark.long
def test_two_thousand_real_crystals_equal_matminer(shared_data):
    """The values were made with matminer; where a last digit decides they hold on one kind of processor only."""
    values, compared, uncertain = crystal_nn_values.read_values(), 0, 0
    for source, row, crystal in crystal_nn_values.read_crystals(shared_data):
        found, certain = site_fingerprints(*arrays(crystal))
        if not certain.all():
            uncertain += 1
            continue
        known = values[source, row]
        np.testing.assert_allclose(crystal_nn_values.project(found.mean(axis=0)), known, atol=ANGLES, rtol=0)
        compared += 1
    assert compared + uncertain == len(values) == 2005
    assert uncertain < 200


def test_fingerprint_is_fast():
    """Matminer takes 0.2 s for such a crystal."""
    generator = np.random.default_rng(0)
    crystal = Crystal("ten", "ok", 5.5 * np.eye(3), generator.random((10, 3)), np.full(10, 26, dtype=np.uint8))
    site_fingerprints(*arrays(crystal))
    started = time.process_time()
    for _ in range(20):
        site_fingerprints(*arrays(crystal))
    assert time.process_time() - started < 20 * 0.01


def test_rock_salt_is_octahedral_and_caesium_chloride_is_not():
    octahedral = FIRST[6] + 2
    for crystal, known in ((rock_salt(), 1.0), (caesium_chloride(elements=("Cs", "Cl"), edge=4.12), 0.0)):
        np.testing.assert_allclose(site_fingerprints(*arrays(crystal))[0][:, octahedral], known, atol=0.1)


def test_supercells_and_rotations_change_nothing():
    for crystal in (rock_salt(), library(8)[5], one_atom()):
        copy = moved(crystal, "copy", supercell=[2, 1, 1])
        means = [site_fingerprints(*arrays(item))[0].mean(axis=0) for item in (crystal, copy)]
        np.testing.assert_allclose(*means, atol=1e-6)


def test_elements_without_radius_are_uncertain_and_refused_by_pymatgen():
    berkelium = one_atom(number=97)
    assert not site_fingerprints(*arrays(berkelium))[1].any()
    with pytest.raises(TypeError):
        careful_fingerprint(to_structure(berkelium), 0)


@pytest.mark.parametrize("number", [0, 119, 255])
def test_unknown_elements_are_refused(number):
    with pytest.raises(ValueError, match="no element"):
        site_fingerprints(*arrays(one_atom(number=number)))
