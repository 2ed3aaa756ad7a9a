"""FlowMM: Riemannian flow matching (Miller et al. 2024, arXiv 2406.04713), for both tasks.

Written from the paper's equations; docs/models/flowmm.md lists the defaults and every deviation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from xtalgen.crystals import Crystal
from xtalgen.lattice import lattice_from_parameters
from xtalgen.models import AbstractModel, Job
from xtalgen.models.nn import torus
from xtalgen.models.nn.batches import MAX_ATOMS, MAX_ELEMENT, bucket_ceiling, load_split, mask_of, mix_seed
from xtalgen.models.nn.checkpoint import load_checkpoint
from xtalgen.models.nn.fit import FitConfig, fit
from xtalgen.models.nn.lattices import logit_to_angles
from xtalgen.models.nn.results import write_results
from xtalgen.models.nn.riemannian_flow import (
    Constants,
    RiemannianFlow,
    State,
    angles_outside,
    fit_constants,
    from_bits,
)

# The evaluation of CDVAE, DiffCSP and FlowMM knows elements 1 to 104.
HIGHEST_ELEMENT = 104
# Volume of the cell over a · b · c, squared.
SMALLEST_VOLUME = 1e-9


@dataclass(frozen=True)
class FlowMMConfig(FitConfig):
    """Hyper-parameters of FlowMM on MP-20. *_weight: of the parts of the loss, normalised to sum 1."""

    hidden: int = 512
    layers: int = 6
    frequencies: int = 128
    coords_weight: float = 400.0
    lattice_weight: float = 1.0
    types_weight: float = 40.0


@dataclass(frozen=True)
class FlowMMSampling:
    """Settings of sampling: Euler steps on a uniform grid, and anti-annealing.

    A velocity is multiplied by 1 + slope · t: `slope` for coordinates, `slope_lattice`, `slope_types`. batch_size:
    crystals integrated together.
    """

    steps: int = 1000
    slope: float = 10.0
    slope_lattice: float = 0.0
    slope_types: float = 0.0
    batch_size: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")


@final
class Model(AbstractModel):
    """FlowMM."""

    Config = FlowMMConfig
    Sampling = FlowMMSampling
    shared_checkpoint = False

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: FlowMMConfig, job: Job) -> None:
        """Trains FlowMM for the task of the job; see `AbstractModel.train`."""
        split = load_split(train, val, job.device, angles_outside)
        constants = fit_constants(split.train.crystals)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seed(job.seed, 0))
            module = _build(job.task, constants, asdict(config)).to(job.device)
        outcome = fit(module, split.train, split.val, config, job)
        sizes, counts = np.unique(split.train.n_atoms, return_counts=True)
        histogram = {str(size): int(count) for size, count in zip(sizes, counts, strict=True)}
        facts = {"constants": asdict(constants), "histogram": histogram}
        write_results("flowmm", module, outcome, split=split, config=config, job=job, facts=facts)

    def sample(
        self, checkpoint: Path, wanted: int | Sequence[np.ndarray], sampling: FlowMMSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        The noise of a crystal depends only on the seed and its place, not on batch size or device. Status is
        "unknown_element" when a decoded atomic number is above 104, "bad_lattice" when the cell cannot exist,
        "not_finite" when the integration diverged, "too_large" when more than 100 atoms are wanted. Raises
        ValueError when the checkpoint was trained for the other task.
        """
        weights, facts = load_checkpoint(checkpoint, device)
        asked = "dng" if isinstance(wanted, int) else "csp"
        if facts["task"] != asked:
            raise ValueError(f"{checkpoint}: trained for {facts['task']!r}, cannot sample {asked!r}. Train that task.")
        module = _build(asked, Constants.from_json(facts["constants"]), facts["config"])
        module.load_state_dict(weights)
        module.to(device).eval()
        rng = np.random.default_rng(mix_seed(seed, 0))
        if isinstance(wanted, int):
            sizes = np.array([int(size) for size in facts["histogram"]])
            chances = np.array(list(facts["histogram"].values()), dtype=np.float64)
            counts = rng.choice(sizes, size=wanted, p=chances / chances.sum())
            wanted = [np.zeros(count, dtype=np.int64) for count in counts]
        yield from _generate(module, wanted, sampling, seed, device)

    def network_evaluations(self, sampling: FlowMMSampling) -> int:
        """Returns how often the network is evaluated for one crystal: once per Euler step."""
        return sampling.steps


def _build(task: str, constants: Constants, config: dict[str, Any]) -> RiemannianFlow:
    return RiemannianFlow(
        task,
        constants,
        hidden=config["hidden"],
        layers=config["layers"],
        frequencies=config["frequencies"],
        weights=(config["coords_weight"], config["lattice_weight"], config["types_weight"]),
        precision=config["precision"],
    )


def _generate(
    module: RiemannianFlow, wanted: Sequence[np.ndarray], sampling: FlowMMSampling, seed: int, device: str
) -> Iterator[Crystal]:
    """Yields a crystal for each array of atomic numbers (zeros to be found), in order."""
    found: dict[int, Crystal] = {i: crystal for i, numbers in enumerate(wanted) if (crystal := _impossible(numbers))}
    order = sorted(set(range(len(wanted))) - set(found), key=lambda i: bucket_ceiling(len(wanted[i])))
    for first in range(0, len(order), sampling.batch_size):
        places = order[first : first + sampling.batch_size]
        crystals = _integrate(module, [wanted[i] for i in places], places, sampling=sampling, seed=seed, device=device)
        found.update(zip(places, crystals, strict=True))
    for i in range(len(wanted)):
        yield found[i]


def _impossible(numbers: np.ndarray) -> Crystal | None:
    """Returns the failed crystal of a composition that the network does not know, or None."""
    kept = np.asarray(numbers, dtype=np.uint8)
    if len(numbers) == 0:
        return Crystal(id="", status="no_atoms", atomic_numbers=kept)
    if len(numbers) > MAX_ATOMS:
        return Crystal(id="", status="too_large", atomic_numbers=kept)
    if np.any(np.asarray(numbers) > MAX_ELEMENT):
        return Crystal(id="", status="unknown_element", atomic_numbers=kept)
    return None


@torch.inference_mode()
def _integrate(
    module: RiemannianFlow,
    wanted: Sequence[np.ndarray],
    places: Sequence[int],
    *,
    sampling: FlowMMSampling,
    seed: int,
    device: str,
) -> list[Crystal]:
    """Returns the crystals at the end of the flow, by Euler steps from the base distribution."""
    width = max(len(numbers) for numbers in wanted)
    padded = np.zeros((len(wanted), width), dtype=np.int64)
    for row, numbers in enumerate(wanted):
        padded[row, : len(numbers)] = numbers
    atomic_numbers = torch.from_numpy(padded).to(device)
    n_atoms = torch.tensor([len(numbers) for numbers in wanted], device=device)
    mask = mask_of(n_atoms, width)
    point = _start(module, n_atoms.tolist(), places, seed)
    for step in range(sampling.steps):
        time = step / sampling.steps
        times = torch.full((len(wanted),), time, device=device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=module.precision == "bfloat16"):
            speed = module.velocity(point, times, atomic_numbers, mask)

        def ahead(slope: float, time: float = time) -> float:
            return (1.0 + slope * time) / sampling.steps

        point = State(
            types=point.types + ahead(sampling.slope_types) * speed.types if module.n_types else point.types,
            coords=torus.wrap(point.coords + ahead(sampling.slope) * speed.coords),
            lattice=point.lattice + ahead(sampling.slope_lattice) * speed.lattice,
        )
    if module.n_types:
        atomic_numbers = from_bits(point.types)
    return _decode(point, atomic_numbers.cpu().numpy(), n_atoms.tolist())


def _start(module: RiemannianFlow, n_atoms: Sequence[int], places: Sequence[int], seed: int) -> State:
    """Returns the starting points; the noise of each crystal comes from its own generator, on the CPU."""
    device = module.input_mean.device
    rows = []
    for n, place in zip(n_atoms, places, strict=True):
        generator = torch.Generator().manual_seed(mix_seed(seed, 1, place))
        rows.append(module.base(torch.ones(1, n, dtype=torch.bool, device=device), generator))

    def pad(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([tensor[0] for tensor in tensors], batch_first=True)

    return State(
        types=pad([row.types for row in rows]),
        coords=pad([row.coords for row in rows]),
        lattice=torch.cat([row.lattice for row in rows]),
    )


def _decode(point: State, atomic_numbers: np.ndarray, n_atoms: Sequence[int]) -> list[Crystal]:
    lengths = point.lattice[:, :3].double()
    angles = logit_to_angles(point.lattice[:, 3:].double())
    cosines = torch.deg2rad(angles).cos()
    volume = 1.0 - (cosines**2).sum(dim=-1) + 2.0 * cosines.prod(dim=-1)
    possible = ((lengths > 0).all(dim=-1) & (volume > SMALLEST_VOLUME)).tolist()
    lattices = lattice_from_parameters(lengths.cpu().numpy(), angles.cpu().numpy())
    coords = torus.wrap(point.coords.double()).cpu().numpy()
    crystals = []
    for row, n in enumerate(n_atoms):
        numbers = atomic_numbers[row, :n].astype(np.uint8)
        if not (np.isfinite(lattices[row]).all() and np.isfinite(coords[row, :n]).all()):
            crystals.append(Crystal(id="", status="not_finite", atomic_numbers=numbers))
            continue
        known = numbers.max() <= HIGHEST_ELEMENT
        status = "bad_lattice" if not possible[row] else "ok" if known else "unknown_element"
        crystals.append(Crystal("", status, lattices[row], coords[row, :n], numbers))
    return crystals
