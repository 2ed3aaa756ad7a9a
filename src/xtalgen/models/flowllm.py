"""FlowLLM: a flow that refines what a language model writes (Sriram et al. 2024, arXiv 2410.23405), for both tasks.

The flow is FlowMM's for given elements; its paths begin at the crystals of another run instead of at noise.
docs/models/flowllm.md lists the defaults and every deviation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.flow_matching.riemannian_flow import (
    SMALLEST_PROBABILITY,
    Constants,
    RiemannianFlow,
    angles_outside,
    fit_constants,
)
from xtalgen.models.flowmm import FlowMMConfig, FlowMMSampling, build, finish
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import ANGLE_SPAN, LOWEST_ANGLE, angles_to_logit
from xtalgen.models.sampling.requests import Wanted, in_batches, make_ready
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import load_split
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.job import Job

# A start nearer to a border of the angles than this is moved there: the logit is finite only inside.
MARGIN = ANGLE_SPAN * SMALLEST_PROBABILITY


@dataclass(frozen=True)
class FlowLLMConfig(FlowMMConfig):
    """Hyper-parameters of FlowLLM on MP-20: FlowMM's, for fewer passes over more pairs."""

    epochs: int = 20
    batch_size: int = 128
    val_every: int = 1


@dataclass(frozen=True)
class FlowLLMSampling(FlowMMSampling):
    """Settings of sampling: FlowMM's, with fewer steps, since the way is shorter."""

    steps: int = 250
    slope: float = 0.0


@final
class Model(AbstractModel):
    """FlowLLM."""

    Config = FlowLLMConfig
    Sampling = FlowLLMSampling
    shared_checkpoint = True
    # Read by the workflow, unimported: the run names another run, `base`, whose crystals it starts from.
    needs_base: ClassVar[bool] = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: FlowLLMConfig, job: Job) -> None:
        """Trains FlowLLM on crystals with a base structure each; see `AbstractModel.train` and `xtalgen.base.pair`.

        Crystals without one are left out and counted.
        """
        split = load_split(train, val, job.device, _unpaired, _starts)
        constants = fit_constants(split.train.crystals)
        facts = {"constants": asdict(constants)}

        def make() -> RiemannianFlow:
            return build("csp", constants, asdict(config))

        train_and_write("flowllm", make, split=split, config=config, job=job, facts=facts)

    def sample(
        self,
        checkpoint: Path,
        wanted: int | Sequence[np.ndarray] | Sequence[Crystal],
        sampling: FlowLLMSampling,
        seed: int,
        device: str,
    ) -> Iterator[Crystal]:
        """Yields each crystal of `wanted` refined by the flow; one that failed before comes back as it is.

        Elements and their order stay. There is no noise, so the seed changes nothing. Raises ValueError when `wanted`
        holds no crystals but a number or compositions.
        """
        del seed
        if isinstance(wanted, int) or any(not isinstance(start, Crystal) for start in wanted):
            raise ValueError("flowllm refines crystals: give those of the base run with --starts.")
        weights, facts = load_checkpoint(checkpoint, device)
        module = build("csp", Constants.from_json(facts["constants"]), facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        usable = [start for start in wanted if start.ok]
        made = iter(
            in_batches(
                [start.atomic_numbers.astype(np.int64) for start in usable],
                sampling.batch_size,
                device,
                lambda batch: _refine(module, usable, batch, sampling),
            )
        )
        for start in wanted:
            yield next(made) if start.ok else start

    def network_evaluations(self, sampling: FlowLLMSampling) -> int:
        """Returns how often the flow's network is evaluated for one crystal; the base run's own cost comes on top."""
        return sampling.steps


def _refine(
    module: RiemannianFlow, starts: Sequence[Crystal], wanted: Wanted, sampling: FlowLLMSampling
) -> list[Crystal]:
    width, chosen = wanted.mask.shape[1], [starts[place] for place in wanted.places]
    geometry = [(start.lattice, start.frac_coords) for start in chosen]
    arrays = {
        name: torch.from_numpy(values).to(wanted.mask.device) for name, values in _padded(geometry, width).items()
    }
    point = State(types=arrays["base_coords"][..., :0], coords=arrays["base_coords"], lattice=arrays["base_lattice"])
    return finish(module, point, wanted, sampling)


def _unpaired(crystal: Crystal) -> str | None:
    """Returns why a crystal is no pair to learn from, or None."""
    lattice, coords = (crystal.info.get(name) for name in ("base_lattice", "base_frac_coords"))
    if lattice is None or coords is None:
        return "no base structure"
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        return "base structure not finite"
    return angles_outside(crystal)


def _starts(crystals: Sequence[Crystal], width: int) -> Mapping[str, np.ndarray]:
    """Returns the base structures of crystals as the flow sees them: an `Extra` of `DeviceData`."""
    return _padded(
        [
            (np.reshape(crystal.info["base_lattice"], (3, 3)), np.reshape(crystal.info["base_frac_coords"], (-1, 3)))
            for crystal in crystals
        ],
        width,
    )


def _padded(geometry: Sequence[tuple[np.ndarray, np.ndarray]], width: int) -> dict[str, np.ndarray]:
    lengths, angles = lattice_to_parameters(np.stack([lattice for lattice, _ in geometry]))
    inside = np.clip(angles, LOWEST_ANGLE + MARGIN, LOWEST_ANGLE + ANGLE_SPAN - MARGIN)
    coords = np.zeros((len(geometry), width, 3), dtype=np.float32)
    for row, (_, positions) in enumerate(geometry):
        coords[row, : len(positions)] = positions
    logits = angles_to_logit(torch.from_numpy(inside)).numpy()
    return {"base_coords": coords, "base_lattice": np.concatenate([lengths, logits], axis=1).astype(np.float32)}
