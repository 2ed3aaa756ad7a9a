"""FlowLLM: a flow that refines crystals of a language model (Sriram et al. 2024, arXiv 2410.23405), for both tasks.

The flow is FlowMM's for given elements; its paths start from the crystals of another run instead of noise.
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
from xtalgen.models.sampling.requests import RequestBatch, in_batches, make_ready
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import load_split
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.job import Job

# Margin (degrees) between the angles of a base structure and the bounds of the logit, which is finite only inside.
MARGIN = ANGLE_SPAN * SMALLEST_PROBABILITY


@dataclass(frozen=True)
class FlowLLMConfig(FlowMMConfig):
    """Hyper-parameters of FlowLLM on MP-20: FlowMM's, with fewer epochs over more pairs."""

    epochs: int = 20
    batch_size: int = 128
    val_every: int = 1


@dataclass(frozen=True)
class FlowLLMSampling(FlowMMSampling):
    """Settings of sampling: FlowMM's with fewer steps, since the paths are shorter."""

    steps: int = 250
    slope: float = 0.0


@final
class Model(AbstractModel):
    """FlowLLM."""

    Config = FlowLLMConfig
    Sampling = FlowLLMSampling
    shared_checkpoint = True
    # Read by the workflow without importing this file: the run names a `base` run, whose crystals it refines.
    needs_base: ClassVar[bool] = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: FlowLLMConfig, job: Job) -> None:
        """Trains FlowLLM on pairs of a crystal and a base structure; see `AbstractModel.train`, `refinement_pairs`.

        Crystals without a base structure are left out and counted.
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
        """Yields each crystal of `wanted`, refined by the flow; failed ones are returned unchanged.

        Elements and their order are kept. Without noise the seed has no effect. Raises ValueError when `wanted` is a
        number or holds compositions instead of crystals.
        """
        del seed
        starts = [] if isinstance(wanted, int) else [start for start in wanted if isinstance(start, Crystal)]
        if isinstance(wanted, int) or len(starts) < len(wanted):
            raise ValueError("flowllm refines crystals: give those of the base run with --starts.")
        weights, facts = load_checkpoint(checkpoint, device)
        module = build("csp", Constants.from_json(facts["constants"]), facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        # The start of the flow is the base structure itself: no noise is added.
        usable = [start for start in starts if start.ok]
        made = iter(
            in_batches(
                [start.atomic_numbers.astype(np.int64) for start in usable],
                sampling.batch_size,
                device,
                lambda batch: _refine(module, usable, batch, sampling),
            )
        )
        for start in starts:
            yield next(made) if start.ok else start

    def network_evaluations(self, sampling: FlowLLMSampling) -> int:
        """Returns the number of network evaluations per crystal, not counting the base run."""
        return sampling.steps


def _refine(
    module: RiemannianFlow, starts: Sequence[Crystal], wanted: RequestBatch, sampling: FlowLLMSampling
) -> list[Crystal]:
    width, chosen = wanted.mask.shape[1], [starts[index] for index in wanted.indices]
    geometry = [(start.lattice, start.frac_coords) for start in chosen]
    arrays = {
        name: torch.from_numpy(values).to(wanted.mask.device) for name, values in _padded(geometry, width).items()
    }
    point = State(types=arrays["base_coords"][..., :0], coords=arrays["base_coords"], lattice=arrays["base_lattice"])
    return finish(module, point, wanted, sampling)


def _unpaired(crystal: Crystal) -> str | None:
    """Returns why a crystal cannot be used as a training pair, or None."""
    lattice, coords = (crystal.info.get(name) for name in ("base_lattice", "base_frac_coords"))
    if lattice is None or coords is None:
        return "no base structure"
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        return "base structure not finite"
    return angles_outside(crystal)


def _starts(crystals: Sequence[Crystal], width: int) -> Mapping[str, np.ndarray]:
    """Returns the base structures of crystals as arrays for the flow: an `Extra` of `DeviceData`."""
    return _padded(
        [
            (np.reshape(crystal.info["base_lattice"], (3, 3)), np.reshape(crystal.info["base_frac_coords"], (-1, 3)))
            for crystal in crystals
        ],
        width,
    )


def _padded(geometry: Sequence[tuple[np.ndarray, np.ndarray]], width: int) -> dict[str, np.ndarray]:
    lengths, angles = lattice_to_parameters(np.stack([lattice for lattice, _ in geometry]))
    # Cells of the base run need not be Niggli-reduced; angles outside are moved just inside the logit's domain.
    inside = np.clip(angles, LOWEST_ANGLE + MARGIN, LOWEST_ANGLE + ANGLE_SPAN - MARGIN)
    coords = np.zeros((len(geometry), width, 3), dtype=np.float32)
    for row, (_, positions) in enumerate(geometry):
        coords[row, : len(positions)] = positions
    logits = angles_to_logit(torch.from_numpy(inside)).numpy()
    return {"base_coords": coords, "base_lattice": np.concatenate([lengths, logits], axis=1).astype(np.float32)}
