"""MACE (Batatia et al. 2022, arXiv:2206.07697): the model shipped here, the authors' foundation models, checkpoints."""

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.potentials import restricted_unpickler
from xtalgen.potentials.batch import capacity
from xtalgen.potentials.mace_safetensors import SUFFIX, ModelFileError, load_mace, read_metadata
from xtalgen.potentials.types import (
    Geometry,
    Identity,
    Potential,
    PotentialEntry,
    PotentialError,
    PotentialFamily,
    Prediction,
)
from xtalgen.runtime.quiet import quiet

WEIGHTS = Path(__file__).parent / "weights"
CPU_CAPACITY = 3.2

log = logging.getLogger(__name__)


class Mace(PotentialFamily):
    """MACE models: safetensors as the stage `distil` writes them, or mace-torch's pickled checkpoints.

    The default precision is float64, as the authors advise for relaxation.
    """

    name = "mace"
    package = "mace-torch"
    dtypes = ("float64", "float32")

    def find_weights(self, entry: PotentialEntry) -> Path:
        """Returns the file of an entry's weights: shipped with this package, or a foundation model from the cache.

        Raises PotentialError when a foundation model is not in the cache and cannot be downloaded.
        """
        return WEIGHTS / entry.weights if entry.weights else _foundation_file(entry.name)

    def load(self, identity: Identity, device: str) -> Potential:
        """Returns a MACE model as a potential. Raises PotentialError when the file has changed."""
        with _mace_environment():
            import mace  # noqa: F401 - before e3nn: it lets e3nn 0.4.4 load its own constants with torch >= 2.6
            from mace.calculators import MACECalculator

            model = _read_model(identity, device)
            calculator = MACECalculator(models=model, device=device, default_dtype=identity.dtype)
            head = calculator.available_heads.index(calculator.head)
            batched = batched_mace(calculator.models[0], device, identity.dtype, head)
        return Potential(
            identity,
            calculator,
            elements=frozenset(int(number) for number in model.atomic_numbers),
            cutoff=float(calculator.r_max),
            batched=batched,
            features=lambda crystal: mean_features(calculator, crystal),
            capacity=capacity(device, CPU_CAPACITY),
        )

    def read_metadata(self, file: Path) -> dict[str, str]:
        """Returns the metadata of a MACE model in safetensors; empty where the file is not one."""
        if not file.name.endswith(SUFFIX):
            return {}
        try:
            return read_metadata(file.read_bytes())
        except ModelFileError:
            return {}  # loading the model reports the error


def batched_mace(model: Any, device: str, dtype: str, head: int = 0) -> Callable[[Geometry], Prediction]:
    """Returns the batched potential of a MACE model; `head` is the index of the output head to use."""
    import torch
    from mace.data.neighborhood import get_neighborhood

    precision = getattr(torch, dtype)
    model = model.to(device=device, dtype=precision).eval()
    element_index = torch.full((256,), -1, dtype=torch.long)  # by atomic number
    element_index[model.atomic_numbers.cpu()] = torch.arange(len(model.atomic_numbers))
    cutoff = float(model.r_max)

    def evaluate(geometry: Geometry) -> Prediction:
        edges, shifts, unit_shifts = [], [], []  # (2, edges), (edges, 3) in Å, (edges, 3) in lattice vectors
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            graph = get_neighborhood(geometry.positions[atoms], cutoff, pbc=(True, True, True), cell=lattice.copy())
            edges.append(graph[0] + atoms.start)
            shifts.append(graph[1])
            unit_shifts.append(graph[2])
        elements = element_index[torch.from_numpy(geometry.atomic_numbers)]

        def real(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=precision, device=device)

        result = model(
            {
                "positions": real(geometry.positions),
                "cell": real(geometry.lattices.reshape(-1, 3)),
                "node_attrs": torch.nn.functional.one_hot(elements, len(model.atomic_numbers)).to(device, precision),
                "edge_index": torch.as_tensor(np.concatenate(edges, axis=1).astype(np.int64), device=device),
                "shifts": real(np.concatenate(shifts)),
                "unit_shifts": real(np.concatenate(unit_shifts)),
                "batch": torch.as_tensor(geometry.owner, device=device),
                "ptr": torch.as_tensor(np.concatenate([[0], np.cumsum(geometry.n_atoms)]), device=device),
                "head": torch.full((len(geometry.n_atoms),), head, device=device),
            },
            compute_stress=True,
        )
        return Prediction(*(result[name].detach().double().cpu().numpy() for name in ("energy", "forces", "stress")))

    return evaluate


def mean_features(calculator: Any, crystal: Crystal) -> Float[np.ndarray, " features"]:
    """Returns MACE's scalar (l = 0) node features, averaged over the atoms."""
    from ase import Atoms

    atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
    return np.asarray(calculator.get_descriptors(atoms, invariants_only=True), dtype=float).mean(axis=0)


def _read_model(identity: Identity, device: str) -> Any:
    import torch

    content = identity.file.read_bytes()
    if hashlib.sha256(content).hexdigest() != identity.sha256:
        raise PotentialError(f"potential {identity.name!r}: {identity.file} changed while it was in use. Rerun.")
    if identity.file.name.endswith(SUFFIX):
        return load_mace(content).to(device)
    # A MACE checkpoint is a pickled module: unpickling executes code. One that refers to anything but the libraries
    # of such a model is opened only where the configuration gives its digest.
    module = None if identity.pinned else restricted_unpickler
    return torch.load(io.BytesIO(content), map_location=device, weights_only=False, pickle_module=module)


def _foundation_file(name: str) -> Path:
    """Returns a foundation model's file in mace-torch's cache, downloaded if need be. Raises PotentialError."""
    with _mace_environment(), quiet():
        import mace  # noqa: F401 - before e3nn, as above
        from mace.calculators import foundations_models as foundations
        from mace.tools.utils import get_cache_dir
    url = foundations.mace_mp_urls[name]
    cache = Path(get_cache_dir())
    file = cache / "".join(letter for letter in url.rsplit("/", 1)[1] if letter.isalnum() or letter == "_")
    if file.is_file():
        if _is_whole(file):
            return file
        log.warning("%s: damaged; it is downloaded again", file)
    log.warning("potential %s: downloading %s to %s", name, url, file)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Into a separate folder, since concurrent jobs would write to the same fixed name.
        with tempfile.TemporaryDirectory(dir=cache) as folder, _environment("XDG_CACHE_HOME", folder), quiet():
            fetched = Path(foundations.download_mace_mp_checkpoint(name))
            if Path(folder) not in fetched.parents:
                return fetched
            fetched.replace(file)
    except (OSError, RuntimeError) as error:
        raise PotentialError(
            f"potential {name!r}: cannot download {url} ({error}). Fetch it on a machine with network and put it at "
            f"{file}, or give the path of the file as the potential."
        ) from error
    return file


def _is_whole(file: Path) -> bool:
    """Whether the checksums of a downloaded model agree; PyTorch writes archives, but does not verify them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    # NotImplementedError: zipfile's word for a flipped bit in a version or a compression method.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return False


@contextlib.contextmanager
def _mace_environment() -> Iterator[None]:
    """Resets a variable set by the import of mace that makes every later `torch.load` unpickle anything."""
    with _environment("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None):
        yield


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Sets an environment variable (None: unsets it) and restores its old value at the end."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
