"""Magpie features as matminer computes them; tables of fingerprints."""

import numpy as np
import pyarrow as pa
import pytest
from matminer.featurizers.composition import ElementProperty
from pymatgen.core import Composition, Element

from crystal_cases import library, mp_20, one_atom
from tolerances import SUMS
from xtalgen.crystals import to_table, write_table
from xtalgen.featurizers.fingerprints import read_fingerprints, warm_up
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.structure.composition import reduced_counts


def compositions_by_matminer(compositions):
    featurizer = ElementProperty.from_preset("magpie")
    made = [Composition({Element.from_Z(z).symbol: n for z, n in counts}) for counts in compositions]
    return np.array([featurizer.featurize(composition) for composition in made], dtype=float)


def test_magpie_equals_matminer():
    generator = np.random.default_rng(0)
    drawn = [generator.choice(np.arange(1, 119), size=generator.integers(1, 8), replace=False) for _ in range(300)]
    compositions = [tuple((int(z), int(generator.integers(1, 9))) for z in numbers) for numbers in drawn]
    compositions += [reduced_counts(crystal.atomic_numbers) for crystal in library()]
    assert len(compositions) > 500
    np.testing.assert_allclose(
        magpie_features(compositions), compositions_by_matminer(compositions), atol=SUMS, rtol=1e-12
    )


def test_magpie_of_real_crystals_equals_matminer(shared_data):
    compositions = [reduced_counts(crystal.atomic_numbers) for crystal in mp_20(shared_data, "test", 200)]
    np.testing.assert_allclose(
        magpie_features(compositions), compositions_by_matminer(compositions), atol=SUMS, rtol=1e-12
    )


def test_magpie_of_nothing():
    assert magpie_features([]).shape == (0, 132)


def test_other_tables_are_refused(tmp_path):
    write_table(to_table([one_atom()], {"energy": pa.float64()}), tmp_path / "relaxed.parquet")
    with pytest.raises(ValueError, match=r"relaxed.parquet: no column 'structure_fingerprint'"):
        read_fingerprints(tmp_path / "relaxed.parquet")


def test_warm_up_is_cheap_and_harmless():
    warm_up()
