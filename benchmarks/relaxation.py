"""Relaxing crystals in flight against one by one with ASE, side by side: same potential, same crystals, one thread.

    python benchmarks/relaxation.py [--potential chgnet|mace-small|random-mace|PATH] [--crystals 24] [--steps 20]
        [--rounds 3] [--minima 0]

"one by one" is what a script with ASE does: FIRE, FrechetCellFilter, the potential's ASE calculator, a crystal after
the other. "in flight" is `xtalgen.relaxation` at several capacities (crystals at once). Both take the same steps, so
the final energies must agree. "random-mace" has random weights (64 scalar and 64 vector channels, two layers): what it
costs does not depend on its weights. Times are processor times; ratios are of each round's own two numbers. --minima N
relaxes N crystals to 0.05 eV/Å both ways, each with its own test of convergence, and compares where they end.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from xtalgen.crystals import Crystal
from xtalgen.datasets.embedded import all_records
from xtalgen.io.structure_files import read_crystal
from xtalgen.potentials import registry
from xtalgen.relaxation.in_flight import RelaxConfig, cost, relax_crystals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="random-mace")
    parser.add_argument("--crystals", type=int, default=24, help="of the embedded set, evenly spread")
    parser.add_argument("--most-atoms", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minima", type=int, default=0, help="crystals to relax to the end both ways")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    threadpool_limits(1)  # a second thread of BLAS would only wait in ASE's cell filter, and count as its time
    with tempfile.TemporaryDirectory() as folder:
        name = (
            str(random_mace(Path(folder) / "random.model")) if options.potential == "random-mace" else options.potential
        )
        potential = registry.load(name, options.device)
    crystals = load(options, potential)
    mean = np.mean([crystal.n_atoms for crystal in crystals])
    print(
        f"{len(crystals)} crystals of {mean:.1f} atoms, {options.steps} steps, {options.potential} on "
        f"{options.device}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    if options.minima:
        compare_minima(options, potential)
    settings = RelaxConfig(fmax=0.0, max_steps=options.steps, timeout=None)
    sizes = (1, 4, 16, len(crystals))
    per_crystal = float(np.mean([cost(crystal) for crystal in crystals]))
    one_by_one(crystals[:1], potential, 1)
    rounds = []
    for _ in range(options.rounds):
        start = time.process_time()
        expected = one_by_one(crystals, potential, options.steps)
        times = [time.process_time() - start]
        for size in sizes:
            start = time.process_time()
            capacity = 0.0 if size == 1 else per_crystal * size * 1.01
            found = relax_crystals(crystals, replace(potential, capacity=capacity), settings)
            times.append(time.process_time() - start)
        rounds.append(times)
    energies = [np.nan if outcome.energy is None else outcome.energy for outcome in found]
    apart = np.abs(np.array(energies) - expected) / [crystal.n_atoms for crystal in crystals]
    print(f"\n{'':<22}{'ms/crystal/step':>17}{'one by one / this':>20}")
    for column, label in enumerate(("one by one, ASE", *(f"in flight, {size} at once" for size in sizes))):
        milliseconds = 1000 * statistics.median(times[column] for times in rounds) / len(crystals) / (options.steps + 1)
        ratios = [times[0] / times[column] for times in rounds]
        print(
            f"{label:<22}{milliseconds:>17.1f}{statistics.median(ratios):>13.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    ok = np.isfinite(apart)
    print(
        f"\nfinal energies: {np.sum(apart[ok] < 1e-3)} of {ok.sum()} within 1 meV/atom, largest difference "
        f"{1000 * apart[ok].max():.2g} meV/atom; {np.sum(~ok)} crystals ended with another status"
    )


def compare_minima(options, potential):
    crystals = load(options, potential, options.minima)
    expected = one_by_one(crystals, potential, 300, 0.05)
    found = relax_crystals(crystals, potential, RelaxConfig(fmax=0.05, max_steps=300, timeout=None))
    pairs = zip(found, expected, crystals, strict=True)
    apart = np.array([1000 * abs(one.energy - other) / crystal.n_atoms for one, other, crystal in pairs if one.energy])
    print(
        f"minima: {np.sum(apart < 1)} of {len(apart)} within 1 meV/atom of ASE's, median {np.median(apart):.2g}, ",
        end="",
    )
    print(f"largest {apart.max():.2g} meV/atom; {len(found) - len(apart)} of {len(found)} ended with another status")


def load(options, potential, number=None):
    found = []
    number = number or options.crystals
    records = all_records()
    for record in records[:: max(1, len(records) // (2 * number))]:
        cell = read_crystal(record.text)
        crystal = Crystal(record.id, "ok", cell.lattice, cell.frac_coords, cell.atomic_numbers)
        if crystal.n_atoms <= options.most_atoms and set(crystal.atomic_numbers.tolist()) <= potential.elements:
            found.append(crystal)
    return found[:number]


def one_by_one(crystals, potential, steps, fmax=0.0):
    from ase import Atoms
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    energies = []
    for crystal in crystals:
        atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
        atoms.calc = potential.calculator
        FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=fmax, steps=steps)
        energies.append(atoms.get_potential_energy())
    return np.array(energies)


def random_mace(path):
    import mace  # noqa: F401 - before e3nn
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=2, interaction_cls=block, interaction_cls_first=block,
        num_interactions=2, num_elements=89, hidden_irreps=o3.Irreps("64x0e+64x1o"), MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu, atomic_energies=np.full(89, -3.0), avg_num_neighbors=30.0,
        atomic_numbers=list(range(1, 90)), correlation=2, atomic_inter_scale=0.1, atomic_inter_shift=0.0,
    )  # fmt: skip
    torch.save(model, path)
    return path


if __name__ == "__main__":
    main()
