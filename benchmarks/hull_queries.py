"""How long energies above the hull take: as many samples as asked for, against the hull of MP-20.

    python benchmarks/hull_queries.py [--samples 10000] [--workers 1] [--data ../shared/data]

Compositions are those of DiffCSP's published samples, repeated where more are asked for; energies are drawn, since what
a query costs does not depend on them. References are the crystals of MP-20's three splits and their formation energies.
"""

import argparse
import csv
import gzip
import os
import resource
import time
from pathlib import Path

import numpy as np
from pymatgen.core import Composition

from xtalgen.structure.composition import reduced_counts
from xtalgen.thermodynamics.energy_above_hull import Phase, energies_above_hull


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    references = list(read_references(options.data / "mp_20"))
    phases = list(draw_samples(options.data / "samples/diffcsp_mp_20.npz", options.samples))
    systems = len({phase.system for phase in phases})
    print(
        f"{len(phases)} samples in {systems} chemical systems, {len(references)} references, {options.workers} workers"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    start, before = time.perf_counter(), processor_seconds()
    found = energies_above_hull(phases, references, workers=options.workers)
    wall = time.perf_counter() - start
    known = sum(one.value is not None for one in found)
    print(f"{wall:.1f} s, {processor_seconds() - before:.1f} s of processor; {known} have an energy above the hull")


def processor_seconds():
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def read_references(folder):
    for split in ("train", "val", "test"):
        with gzip.open(folder / f"{split}.csv.gz", "rt") as file:
            for row in csv.DictReader(file):
                counts = Composition(row["pretty_formula"]).items()
                numbers = np.repeat([element.Z for element, _ in counts], [int(count) for _, count in counts])
                yield Phase(reduced_counts(numbers), float(row["formation_energy_per_atom"]))


def draw_samples(path, number):
    generator = np.random.default_rng(0)
    with np.load(path) as found:
        numbers = np.split(found["atom_types"], np.cumsum(found["num_atoms"])[:-1])
    for place in range(number):
        yield Phase(reduced_counts(numbers[place % len(numbers)]), float(generator.normal(-1.0, 1.0)))


if __name__ == "__main__":
    main()
