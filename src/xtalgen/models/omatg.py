"""OMatG: stochastic interpolants (Höllmer et al. 2025, arXiv 2502.02582), the linear one by an ODE, for csp.

Written from the equations; docs/models/omatg.md lists the defaults and every deviation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.flow_matching.euler import EulerSampling, draw_start, integrate
from xtalgen.models.flow_matching.stochastic_interpolant import CellFlow, Lengths, fit_lengths
from xtalgen.models.manifolds.lattices import lattice_to_parameters
from xtalgen.models.sampling.requests import RequestBatch, in_batches, make_ready, read_trained, to_crystals
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import load_split
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig
from xtalgen.training.performance import Precision


@dataclass(frozen=True)
class OMatGConfig(FitConfig):
    """Hyper-parameters of OMatG's linear interpolant on MP-20. *_weight: of the parts of the loss."""

    # The authors' values for MP-20, found by search (docs/models/omatg.md).
    batch_size: int = 1024
    learning_rate: float = 6.69e-4
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "constant"
    ema_decay: float = 0.0
    clip: Literal["value", "norm", "none"] = "norm"
    precision: Precision = "tf32"
    hidden: int = 512
    layers: int = 6
    frequencies: int = 128
    coords_weight: float = 0.999415
    lattice_weight: float = 0.000585


@dataclass(frozen=True)
class OMatGSampling(EulerSampling):
    """Settings of sampling, the authors' for MP-20."""

    steps: int = 210
    slope: float = 10.1827
    slope_lattice: float = 1.8245


@final
class Model(AbstractModel):
    """OMatG."""

    Config = OMatGConfig
    Sampling = OMatGSampling
    tasks: ClassVar[tuple[str, ...]] = ("csp",)

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: OMatGConfig, job: Job) -> None:
        """Trains OMatG for crystal structure prediction; see `AbstractModel.train`."""
        split = load_split(train, val, job.device)
        lengths = fit_lengths(split.train.crystals)
        facts = {"lengths": asdict(lengths)}

        def make() -> CellFlow:
            return _build(lengths, asdict(config))

        train_and_write("omatg", make, split=split, config=config, job=job, facts=facts)

    def sample(
        self, checkpoint: Path, wanted: int | Sequence[np.ndarray], sampling: OMatGSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        The noise of a crystal depends only on the seed and its index, not on batch size or device. Statuses are those
        of `to_crystals` and `in_batches`. Raises ValueError when asked for de novo generation.
        """
        weights, facts = read_trained(checkpoint, wanted, device)
        assert not isinstance(wanted, int)  # `read_trained` refuses dng, as no checkpoint is for it
        lengths = Lengths(**{name: tuple(values) for name, values in facts["lengths"].items()})
        module = _build(lengths, facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        yield from in_batches(wanted, sampling.batch_size, device, lambda batch: _make(module, batch, sampling, seed))

    def network_evaluations(self, sampling: OMatGSampling) -> int:
        """Returns the number of network evaluations per crystal: one per Euler step."""
        return sampling.steps


def _build(lengths: Lengths, config: dict[str, Any]) -> CellFlow:
    return CellFlow(
        lengths,
        weights=(config["lattice_weight"], config["coords_weight"]),
        **{name: config[name] for name in ("hidden", "layers", "frequencies", "precision")},
    )


def _make(module: CellFlow, wanted: RequestBatch, sampling: OMatGSampling, seed: int) -> list[Crystal]:
    slopes = (0.0, sampling.slope, sampling.slope_lattice)
    end = integrate(module, draw_start(module, wanted, seed), wanted, sampling.steps, slopes)
    lengths, angles = lattice_to_parameters(end.lattice.double())
    return to_crystals(lengths, angles, end.coords, wanted.atomic_numbers, wanted.n_atoms)
