"""A complete model to start from: cubic cells whose volume a network predicts from the composition; csp only.

Copy it to src/xtalgen/models/NAME.py and replace the parts. It passes the contract tests unchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.sampling.requests import RequestBatch, in_batches, make_ready, read_trained, to_crystals
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import MAX_ELEMENT, Batch, load_split
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, Trainable


@dataclass(frozen=True)
class TemplateConfig(FitConfig):
    """Hyper-parameters of training; `FitConfig` brings epochs, batch_size, learning_rate and the rest of the loop's."""

    epochs: int = 20
    hidden: int = 64


@dataclass(frozen=True)
class TemplateSampling:
    """Settings of sampling. batch_size: crystals that run together."""

    batch_size: int = 500


class CubicCells(Trainable):
    """ln(volume per atom in Å³) from the shares of the elements."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(MAX_ELEMENT, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def predict(self, atomic_numbers: Tensor) -> Tensor:
        """Returns ln(volume per atom), (batch,); atomic_numbers (batch, atoms), 0 at padding."""
        counts = functional.one_hot(atomic_numbers, MAX_ELEMENT + 1)[..., 1:].sum(dim=1).float()
        return self.network(counts / counts.sum(dim=-1, keepdim=True)).squeeze(-1)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002
        """Returns the mean squared error, and the parts that the log gets columns for. Draw noise from `generator`."""
        target = torch.log(torch.linalg.det(batch.lattice).abs() / batch.mask.sum(dim=1))
        error = (self.predict(batch.atomic_numbers) - target).square().mean()
        return error, {"volume": error}

    def flop(self, n_atoms: int) -> tuple[int, int]:  # noqa: ARG002 - the network does not see single atoms
        """Returns the FLOP of one crystal: (forward, forward and backward)."""
        forward = 2 * sum(weight.numel() for weight in self.parameters() if weight.dim() == 2)
        return forward, 3 * forward

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that one crystal moves in a training step, by estimate."""
        return 2 * self.flop(n_atoms)[1]


@final
class Model(AbstractModel):
    """The template."""

    Config, Sampling = TemplateConfig, TemplateSampling
    tasks: ClassVar[tuple[str, ...]] = ("csp",)

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: TemplateConfig, job: Job) -> None:
        """Trains; see `AbstractModel.train`."""
        split = load_split(train, val, job.device)  # leaves out and counts what cannot be trained on
        # Seeds the weights, trains (resumable), and writes the checkpoint, log.csv and training.json.
        train_and_write(
            Path(__file__).stem, lambda: CubicCells(config.hidden), split=split, config=config, job=job, facts={}
        )

    def sample(
        self, checkpoint: Path, wanted: Sequence[np.ndarray], sampling: TemplateSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`."""
        weights, facts = read_trained(checkpoint, wanted, device)
        module = CubicCells(facts["config"]["hidden"])
        make_ready(module, weights, device, compiled=False)

        @torch.inference_mode()
        def make(batch: RequestBatch) -> list[Crystal]:
            volumes = torch.exp(module.predict(batch.atomic_numbers)) * batch.mask.sum(dim=1)
            lengths = volumes.pow(1 / 3).unsqueeze(-1).expand(-1, 3)
            # The noise of a crystal depends on the seed and its index alone, not on the batch.
            (coords,) = batch.draw(seed, lambda n, generator: (torch.rand(n, 3, generator=generator),))
            return to_crystals(lengths, torch.full_like(lengths, 90.0), coords, batch.atomic_numbers, batch.n_atoms)

        yield from in_batches(wanted, sampling.batch_size, device, make)

    def network_evaluations(self, sampling: TemplateSampling) -> int:  # noqa: ARG002
        """Returns 1: the network is called once per crystal."""
        return 1
