"""What matminer gives for 2,005 real crystals, kept as two numbers each, which our fast fingerprint must give too.

python tests/helpers/crystal_nn_values.py ../shared/data    # makes the file again: eight minutes

Each line of the file: where a crystal is from, its row there, and the products of its fingerprint (the mean over atoms
of CrystalNNFingerprint.from_preset("ops")) with two fixed random vectors. A difference in any of the 61 places shows.
"""

import csv
import gzip
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parent)]

from crystal_cases import diffcsp  # noqa: E402
from xtalgen.structure.pymatgen import from_structure, to_structure  # noqa: E402

FILE = Path(__file__).parents[1] / "unit" / "data" / "crystal_nn_matminer.csv"
STEP, N_MP_20, N_SAMPLES = 9, 1005, 1000  # every ninth row of MP-20's test split, the first samples of DiffCSP


def project(fingerprint):
    return np.random.default_rng(61).normal(size=(2, 61)) @ np.asarray(fingerprint)


def read_crystals(shared):
    """Yields the source, the row and the crystal of each line."""
    from pymatgen.core import Structure

    with gzip.open(shared / "mp_20" / "test.csv.gz", "rt") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, record in enumerate(csv.DictReader(file)):
            if row % STEP == 0 and row < STEP * N_MP_20:
                yield "mp_20/test", row, from_structure(Structure.from_str(record["cif"], fmt="cif"), str(row))
    for row, crystal in enumerate(diffcsp(shared, N_SAMPLES)):
        yield "samples/diffcsp_mp_20", row, crystal


def read_values():
    """Returns the two numbers by source and row."""
    with FILE.open() as file:
        return {(line[0], int(line[1])): np.array(line[2:], dtype=float) for line in csv.reader(file)}


def by_matminer(crystal):
    """Returns the fingerprint of each atom."""
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    featurizer, structure = CrystalNNFingerprint.from_preset("ops"), to_structure(crystal)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([featurizer.featurize(structure, site) for site in range(len(structure))], dtype=float)


def main():
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for source, row, crystal in read_crystals(Path(sys.argv[1])):
            numbers = project(by_matminer(crystal).mean(axis=0))
            writer.writerow([source, row, *(f"{number:.10f}" for number in numbers)])


if __name__ == "__main__":
    main()
