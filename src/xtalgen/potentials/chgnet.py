"""CHGNet (Deng et al. 2023, doi:10.1038/s42256-023-00716-3), with the weights that its wheel contains."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.potentials.batch import capacity
from xtalgen.potentials.types import Geometry, Identity, Potential, PotentialEntry, PotentialFamily, Prediction

EV_PER_GPA_A3 = 1 / 160.21766208
CPU_CAPACITY = 0.0  # its graphs are built one by one, so batches save nothing on a CPU


class Chgnet(PotentialFamily):
    """CHGNet models; the weights of an entry are in the wheel's folder `pretrained/VERSION/`."""

    name = "chgnet"
    package = "chgnet"
    dtypes = ("float32",)

    def find_weights(self, entry: PotentialEntry) -> Path:
        """Returns the file of an entry's weights in the installed wheel."""
        spec = importlib.util.find_spec("chgnet")
        return Path(str(spec and spec.origin)).parent / "pretrained" / str(entry.weights)

    def load(self, identity: Identity, device: str) -> Potential:
        """Returns a CHGNet model as a potential."""
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator

        model = CHGNet.load(model_name=identity.file.parent.name, use_device=device, verbose=False)
        # CHGNet gives zero force on an atom without neighbours, so a dissociated cell would count as converged.
        calculator = CHGNetCalculator(model, use_device=device, on_isolated_atoms="error")
        return Potential(
            identity,
            calculator,
            elements=frozenset(range(1, model.composition_model.fc.in_features + 1)),
            cutoff=float(model.graph_converter.atom_graph_cutoff),
            batched=batched_chgnet(model, device),
            features=lambda crystal: crystal_features(model, crystal),
            capacity=capacity(device, CPU_CAPACITY),
        )


def batched_chgnet(model: Any, device: str) -> Callable[[Geometry], Prediction]:
    """Returns the batched potential of a CHGNet model. It raises ValueError when an atom has no neighbours."""
    from pymatgen.core import Lattice, Structure

    def evaluate(geometry: Geometry) -> Prediction:
        graphs = []
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            numbers, positions = geometry.atomic_numbers[atoms], geometry.positions[atoms]
            structure = Structure(Lattice(lattice), numbers.tolist(), positions, coords_are_cartesian=True)
            graphs.append(model.graph_converter(structure).to(device))
        results = model.predict_graph(graphs, task="efs", batch_size=len(graphs))
        results = results if isinstance(results, list) else [results]  # one graph gives one dictionary
        per_atom = geometry.n_atoms if model.is_intensive else np.ones(len(graphs))
        return Prediction(
            energy=np.array([float(result["e"]) for result in results]) * per_atom,
            forces=np.concatenate([np.asarray(result["f"], dtype=np.float64) for result in results]),
            stress=np.stack([np.asarray(result["s"], dtype=np.float64) for result in results]) * EV_PER_GPA_A3,
        )

    return evaluate


def crystal_features(model: Any, crystal: Crystal) -> Float[np.ndarray, " features"]:
    """Returns CHGNet's crystal features divided by the number of atoms, so that a supercell has the same."""
    from xtalgen.structure.pymatgen import to_structure

    graph = model.graph_converter(to_structure(crystal))
    predicted = model.predict_graph(graph, task="e", return_crystal_feas=True)
    return np.asarray(predicted["crystal_fea"], dtype=float).ravel() / crystal.n_atoms
