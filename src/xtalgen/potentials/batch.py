"""Helpers for evaluating batches: how many crystals fit on a device, and any ASE calculator as a batched potential."""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from xtalgen.potentials.types import Geometry, Prediction

# In units of `relaxation.in_flight.cost`, atoms x atoms per Å³. A GPU of 80 GB holds 250 (5,000 atoms of usual
# density) with MACE in float64.
GPU_CAPACITY, GPU_BYTES = 250.0, 80e9


def capacity(device: str, on_cpu: float) -> float:
    """Returns the summed `relaxation.in_flight.cost` that one evaluation should hold on a device.

    on_cpu: the value on a CPU, where a batch only saves the overhead of small operations.
    """
    if device == "cpu":
        return on_cpu
    import torch

    return GPU_CAPACITY * torch.cuda.mem_get_info()[0] / GPU_BYTES


def one_by_one(calculator: Calculator) -> Callable[[Geometry], Prediction]:
    """Returns a batched potential that runs an ASE calculator on crystals one by one."""

    def evaluate(geometry: Geometry) -> Prediction:
        results = []
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            crystal = Atoms(geometry.atomic_numbers[atoms], geometry.positions[atoms], cell=lattice, pbc=True)
            crystal.calc = calculator
            results.append((crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress(voigt=False)))
        energies, forces, stresses = zip(*results, strict=True)
        return Prediction(np.array(energies), np.concatenate(forces), np.stack(stresses))

    return evaluate
