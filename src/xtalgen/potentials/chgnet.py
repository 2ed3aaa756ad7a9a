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
    """Returns the batched potential of a CHGNet model. It raises ValueError when an atom has no neighbours.

    Forces and stress come from one backward pass. CHGNet's own prediction makes two, each with the graph of a second
    derivative, which only a training needs: three times the work. The parameters then need no gradient either.
    """
    import torch
    from chgnet.model.model import BatchedGraph
    from pymatgen.core import Lattice, Structure

    model.eval().requires_grad_(False)

    def graph(geometry: Geometry, lattice: np.ndarray, atoms: slice) -> Any:
        numbers, positions = geometry.atomic_numbers[atoms], geometry.positions[atoms]
        structure = Structure(Lattice(lattice), numbers.tolist(), positions, coords_are_cartesian=True)
        return model.graph_converter(structure).to(device)

    def evaluate(geometry: Geometry) -> Prediction:
        pairs = zip(geometry.lattices, geometry.slices, strict=True)
        graphs = [graph(geometry, lattice, atoms) for lattice, atoms in pairs]
        batch = BatchedGraph.from_graphs(
            graphs, model.bond_basis_expansion, model.angle_basis_expansion, compute_stress=True
        )
        energy = model._compute(batch)["e"]  # noqa: SLF001 - the public ways make the second derivative's graph
        n_atoms = torch.as_tensor(geometry.n_atoms, device=energy.device) if model.is_intensive else 1
        variables = [*batch.atom_positions, *batch.strains]
        gradients = torch.autograd.grad((energy * n_atoms).sum(), variables)
        forces, virials = gradients[: len(graphs)], torch.stack(gradients[len(graphs) :])
        if model.composition_model is not None:
            energy = energy + model.composition_model(graphs)
        stress = virials / torch.stack(list(batch.volumes))[:, None, None]
        return Prediction(
            energy=_array((energy * n_atoms).detach()),
            forces=-_array(torch.cat(forces)),
            stress=_array(stress),
        )

    return evaluate


def _array(values: Any) -> np.ndarray:
    """Returns a tensor as an array of float64."""
    return np.asarray(values.cpu().numpy(), dtype=np.float64)


def crystal_features(model: Any, crystal: Crystal) -> Float[np.ndarray, " features"]:
    """Returns CHGNet's crystal features divided by the number of atoms, so that a supercell has the same."""
    from xtalgen.structure.pymatgen import to_structure

    graph = model.graph_converter(to_structure(crystal))
    predicted = model.predict_graph(graph, task="e", return_crystal_feas=True)
    return np.asarray(predicted["crystal_fea"], dtype=float).ravel() / crystal.n_atoms
