"""Energies, forces and stresses of many crystals in one evaluation of a potential."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xtalgen.potentials.types import Found, Geometry

EV_PER_GPA_A3 = 1 / 160.21766208
# Of `relaxation.cost`, atoms × atoms per Å³. A GPU of 80 GB holds 250 (5,000 atoms of a common density) with MACE in
# float64. On a CPU a batch only saves the overhead of small operations, of which CHGNet's graphs have none to save.
GPU_CAPACITY, GPU_BYTES = 250.0, 80e9
CPU_CAPACITY = {"mace": 3.2, "chgnet": 0.0}


def capacity(kind: str, device: str) -> float:
    """Returns how much of `relaxation.cost` one evaluation should hold on a device."""
    if device == "cpu":
        return CPU_CAPACITY[kind]
    import torch

    return GPU_CAPACITY * torch.cuda.mem_get_info()[0] / GPU_BYTES


def chgnet_evaluator(model: Any, device: str) -> Callable[[Geometry], Found]:
    """Returns the evaluator of a CHGNet model. It raises ValueError when an atom has no neighbours."""
    from pymatgen.core import Lattice, Structure

    def evaluate(geometry: Geometry) -> Found:
        graphs = []
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            numbers, positions = geometry.atomic_numbers[atoms], geometry.positions[atoms]
            crystal = Structure(Lattice(lattice), numbers.tolist(), positions, coords_are_cartesian=True)
            graphs.append(model.graph_converter(crystal).to(device))
        found = model.predict_graph(graphs, task="efs", batch_size=len(graphs))
        found = found if isinstance(found, list) else [found]  # of one graph it is no list
        per_atom = geometry.n_atoms if model.is_intensive else np.ones(len(graphs))
        return Found(
            energy=np.array([float(one["e"]) for one in found]) * per_atom,
            forces=np.concatenate([np.asarray(one["f"], dtype=np.float64) for one in found]),
            stress=np.stack([np.asarray(one["s"], dtype=np.float64) for one in found]) * EV_PER_GPA_A3,
        )

    return evaluate


def mace_evaluator(model: Any, device: str, dtype: str, head: int = 0) -> Callable[[Geometry], Found]:
    """Returns the evaluator of a MACE model; `head` is the place of the one to use where it has several."""
    import torch
    from mace.data.neighborhood import get_neighborhood

    kind = getattr(torch, dtype)
    model = model.to(device=device, dtype=kind).eval()
    places = torch.full((256,), -1, dtype=torch.long)
    places[model.atomic_numbers.cpu()] = torch.arange(len(model.atomic_numbers))
    cutoff = float(model.r_max)

    def evaluate(geometry: Geometry) -> Found:
        edges, shifts, units = [], [], []
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            found = get_neighborhood(geometry.positions[atoms], cutoff, pbc=(True, True, True), cell=lattice.copy())
            edges.append(found[0] + atoms.start)
            shifts.append(found[1])
            units.append(found[2])
        elements = places[torch.from_numpy(geometry.atomic_numbers)]

        def real(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=kind, device=device)

        result = model(
            {
                "positions": real(geometry.positions),
                "cell": real(geometry.lattices.reshape(-1, 3)),
                "node_attrs": torch.nn.functional.one_hot(elements, len(model.atomic_numbers)).to(device, kind),
                "edge_index": torch.as_tensor(np.concatenate(edges, axis=1).astype(np.int64), device=device),
                "shifts": real(np.concatenate(shifts)),
                "unit_shifts": real(np.concatenate(units)),
                "batch": torch.as_tensor(geometry.owner, device=device),
                "ptr": torch.as_tensor(np.concatenate([[0], np.cumsum(geometry.n_atoms)]), device=device),
                "head": torch.full((len(geometry.n_atoms),), head, device=device),
            },
            compute_stress=True,
        )
        return Found(*(result[name].detach().double().cpu().numpy() for name in ("energy", "forces", "stress")))

    return evaluate
