"""Potentials made of ASE calculators, a tiny MACE, and crystals made of ASE atoms, for tests of relaxation."""

from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from xtalgen.crystals import Crystal
from xtalgen.potentials.batch import one_by_one
from xtalgen.potentials.types import Identity, Potential
from xtalgen.structure.lattice import wrap


class Constant(Calculator):
    """Gives one energy whatever the atoms, and no forces."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def potential_of(calculator, capacity=0.0):
    identity = Identity("toy", "mace", Path("toy"), "0" * 64, "toy 1", "MIT", "float64", -20.0)
    known = frozenset(range(1, 95))
    return Potential(identity, calculator, known, 6.0, one_by_one(calculator), features, capacity)


def features(crystal):
    """The share of each element."""
    return np.bincount(crystal.atomic_numbers, minlength=95) / crystal.n_atoms


def crystal_of(atoms, identifier="x", **info):
    return Crystal(
        identifier,
        "ok",
        np.array(atoms.cell.array),
        wrap(atoms.get_scaled_positions()),
        atoms.numbers.astype(np.uint8),
        info,
    )


def save_tiny_mace(path, numbers=(12, 8), hook=None, energies=(-1.0, -2.0)):
    """Writes a MACE checkpoint with random weights (seeded), as mace-torch's training does: a pickled module."""
    import mace  # noqa: F401 - before e3nn
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=1,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("4x0e"),
        MLP_irreps=o3.Irreps("4x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array(energies),
        avg_num_neighbors=20.0,
        atomic_numbers=sorted(numbers),
        correlation=2,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    if hook:
        model.register_forward_pre_hook(hook)
    torch.save(model, path)
    return path


def cell(formula="Cu", structure="fcc", a=3.6, *, strain=0.0, rattle=0.0, repeat=(1, 1, 1), identifier="x"):
    """Returns a crystal of ASE's `bulk`, strained and shaken where asked for."""
    atoms = bulk(formula, structure, a=a) * repeat
    deformation = np.eye(3) + strain * np.array([[1.0, 0.4, 0.0], [0.4, -0.5, 0.2], [0.0, 0.2, 0.8]])
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    if rattle:
        atoms.rattle(rattle, seed=3)
    return crystal_of(atoms, identifier)
