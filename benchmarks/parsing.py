"""Reading crystals: this package's way against pymatgen's, side by side, on the same texts, one process, one thread.

    python benchmarks/parsing.py [FILE_OR_FOLDER] [--split val] [--rows 1000]

Without a file the embedded crystals are written as CIF and read back. Times are processor time. Work is measured in
rows and bytes: reading text does no floating-point arithmetic worth counting. Results are compared row by row.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from xtalgen.datasets.embedded import all_records
from xtalgen.datasets.sources import find_source, read_source
from xtalgen.io.readers.cif import read_plain_cif
from xtalgen.io.structure_files import read_crystal
from xtalgen.structure.standard_cell import standardise

ROUNDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="CSV of crystals, or folder that holds one")
    parser.add_argument("--split", default="val")
    parser.add_argument("--rows", type=int, default=1000, help="rows to read, evenly spread over the file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    texts = load(arguments.source, arguments.split)
    texts = texts[:: max(1, len(texts) // arguments.rows)][: arguments.rows]
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} rows, {size:,} bytes of CIF; best of {ROUNDS} rounds, the two ways in turn")
    fast = sum(read_plain_cif(text) is not None for text in texts)
    print(f"{fast:,} rows take the fast path")
    structures = [parse_with_pymatgen(text) for text in texts]
    cells = [read_crystal(text) for text in texts]
    print(f"\n{'':20}{'pymatgen':>12}{'xtalgen':>12}{'ratio':>8}{'rows/s':>10}{'MB/s':>8}")
    report("text to cell", texts, size, (parse_with_pymatgen, texts), (read_crystal, texts))
    report("cell to standard", texts, size, (standardise_with_pymatgen, structures), (standardise, cells))
    report("text to standard", texts, size, (prepare_with_pymatgen, texts), (prepare, texts))
    print(f"\nlargest difference of a lattice entry: {largest_difference(texts):.1e} Å")


def load(source, split):
    if source is not None:
        return [record.text for record in read_source(find_source(source, split), split).records]
    return [str(CifWriter(Structure.from_str(record.text, fmt="json"))) for record in all_records()]


def report(name, texts, size, theirs, ours):
    times = [(seconds(*theirs), seconds(*ours)) for _ in range(ROUNDS)]
    slow, fast = (min(column) for column in zip(*times, strict=True))
    each = [f"{1000 * total / len(texts):.3f} ms" for total in (slow, fast)]
    rates = f"{len(texts) / fast:>10,.0f}{size / fast / 1e6:>8.2f}"
    print(f"{name:20}{each[0]:>12}{each[1]:>12}{slow / fast:>8.1f}{rates}")


def seconds(function, items):
    start = time.process_time()
    for item in items:
        function(item)
    return time.process_time() - start


def parse_with_pymatgen(text):
    return CifParser.from_str(text).parse_structures(primitive=False)[0]


def standardise_with_pymatgen(structure):
    reduced = structure.get_reduced_structure()
    return Structure(Lattice.from_parameters(*reduced.lattice.parameters), reduced.species, reduced.frac_coords)


def prepare_with_pymatgen(text):
    return standardise_with_pymatgen(parse_with_pymatgen(text))


def prepare(text):
    return standardise(read_crystal(text))


def largest_difference(texts):
    return max(np.abs(prepare_with_pymatgen(text).lattice.matrix - prepare(text).lattice).max() for text in texts)


if __name__ == "__main__":
    main()
