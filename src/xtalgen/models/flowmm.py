"""FlowMM: Riemannian flow matching (Miller et al. 2024, arXiv 2406.04713), for both tasks.

Written from the paper's equations; docs/models/flowmm.md lists the defaults and every deviation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.flow_matching.euler import EulerSampling, draw_start, integrate
from xtalgen.models.flow_matching.riemannian_flow import (
    Constants,
    RiemannianFlow,
    angles_outside,
    fit_constants,
    from_bits,
)
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import logit_to_angles
from xtalgen.models.sampling.requests import (
    RequestBatch,
    draw_sizes,
    histogram_of,
    in_batches,
    make_ready,
    read_trained,
    to_crystals,
)
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import load_split
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig


@dataclass(frozen=True)
class FlowMMConfig(FitConfig):
    """Hyper-parameters of FlowMM on MP-20. *_weight: of the parts of the loss, normalised to sum 1."""

    hidden: int = 512
    layers: int = 6
    frequencies: int = 128
    # 400 : 1 (: 40) as in the published configuration; `RiemannianFlow` normalises the sum to 1.
    coords_weight: float = 400.0
    lattice_weight: float = 1.0
    types_weight: float = 40.0


@dataclass(frozen=True)
class FlowMMSampling(EulerSampling):
    """Settings of sampling; slope_types: anti-annealing of the elements."""

    steps: int = 1000
    slope: float = 10.0
    slope_types: float = 0.0


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
        facts = {"constants": asdict(constants), "histogram": histogram_of(split.train.sizes())}

        def make() -> RiemannianFlow:
            return build(job.task, constants, asdict(config))

        train_and_write("flowmm", make, split=split, config=config, job=job, facts=facts)

    def sample(
        self, checkpoint: Path, wanted: int | Sequence[np.ndarray], sampling: FlowMMSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        The noise of a crystal depends only on the seed and its index, not on batch size or device. Status is
        "unknown_element" when a decoded atomic number is above 104, "bad_lattice" when the cell cannot exist,
        "not_finite" when the integration diverged, "too_large" when more than 100 atoms are wanted. Raises
        ValueError when the checkpoint was trained for the other task.
        """
        weights, facts = read_trained(checkpoint, wanted, device)
        module = build(facts["task"], Constants.from_json(facts["constants"]), facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        if isinstance(wanted, int):
            wanted = draw_sizes(facts["histogram"], wanted, seed)
        yield from in_batches(
            wanted,
            sampling.batch_size,
            device,
            lambda batch: finish(module, draw_start(module, batch, seed), batch, sampling),
        )

    def network_evaluations(self, sampling: FlowMMSampling) -> int:
        """Returns the number of network evaluations per crystal: one per Euler step."""
        return sampling.steps


def build(task: str, constants: Constants, config: dict[str, Any]) -> RiemannianFlow:
    """Returns the module of a configuration, with random weights."""
    return RiemannianFlow(
        task,
        constants,
        hidden=config["hidden"],
        layers=config["layers"],
        frequencies=config["frequencies"],
        weights=(config["coords_weight"], config["lattice_weight"], config["types_weight"]),
        precision=config["precision"],
    )


def finish(module: RiemannianFlow, start: State, wanted: RequestBatch, sampling: FlowMMSampling) -> list[Crystal]:
    """Returns the crystals at the end of the flow from `start`, by Euler steps."""
    # In the order of `integrate`: types, coordinates, lattice.
    slopes = (sampling.slope_types, sampling.slope, sampling.slope_lattice)
    end = integrate(module, start, wanted, sampling.steps, slopes)
    return decode(end, from_bits(end.types) if module.n_types else wanted.atomic_numbers, wanted.n_atoms)


def decode(point: State, atomic_numbers: Int[Tensor, "batch atoms"], n_atoms: Sequence[int]) -> list[Crystal]:
    """Returns the crystals of end points; statuses are those of `to_crystals`."""
    # Lengths are not clamped: a negative one becomes "bad_lattice".
    angles = logit_to_angles(point.lattice[:, 3:].double())
    return to_crystals(point.lattice[:, :3], angles, point.coords, atomic_numbers, n_atoms)
