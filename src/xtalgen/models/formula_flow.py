"""Formula flow, xtalgen's own model: a formula first, then its structure by a flow; one training for both tasks.

De novo generation draws a formula from a small model of formulas, which learns charge balance and the data's numbers of
elements and atoms, and predicts its structure as for any formula asked for. docs/models/formula_flow.md tells why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel, Job
from xtalgen.models.flowmm import FlowMMConfig, FlowMMSampling, build, finish
from xtalgen.models.nn.batches import Batch, Split, load_split, mix_seed
from xtalgen.models.nn.checkpoint import load_checkpoint
from xtalgen.models.nn.fit import FitConfig, Trainable, fit
from xtalgen.models.nn.flows import draw_start
from xtalgen.models.nn.formulas import Formulas, settings_of
from xtalgen.models.nn.results import write_results
from xtalgen.models.nn.riemannian_flow import Constants, RiemannianFlow, angles_outside, fit_constants
from xtalgen.models.nn.sampling import histogram_of, in_batches, make_ready

# The most of a time budget that formulas may take.
FORMULAS_SHARE = 0.1


@dataclass(frozen=True)
class FormulaFlowConfig(FlowMMConfig):
    """Hyper-parameters: those of the flow, and `formula_*` of the model of formulas, which is trained before it."""

    formula_hidden: int = 96
    formula_layers: int = 3
    formula_heads: int = 4
    formula_dropout: float = 0.1
    formula_epochs: int = 25
    formula_batch_size: int = 256
    formula_learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.formula_hidden % self.formula_heads:
            raise ValueError(
                f"formula_hidden must be a multiple of formula_heads, not {self.formula_hidden} and "
                f"{self.formula_heads}."
            )
        if not 0 <= self.formula_dropout < 1:
            raise ValueError(f"formula_dropout must be at least 0 and below 1, not {self.formula_dropout}.")

    def of_formulas(self) -> FitConfig:
        """Returns how the model of formulas is trained; it keeps the weights of its best validation."""
        return FitConfig(
            epochs=self.formula_epochs,
            batch_size=self.formula_batch_size,
            learning_rate=self.formula_learning_rate,
            final_learning_rate=0.0,
            schedule="cosine_by_step",
            warmup_steps=100,
            weight_decay=0.01,
            ema_decay=0.99,
            clip="norm",
            clip_at=1.0,
            val_every=1,
            save_seconds=self.save_seconds,
            parts=self.parts,
        )


@dataclass(frozen=True)
class FormulaFlowSampling(FlowMMSampling):
    """Settings of sampling: the flow's, and the temperature of formulas (1: as learnt; less: the likelier ones)."""

    steps: int = 250
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}.")


class FormulaFlow(Trainable):
    """Both networks, as a checkpoint holds them; the flow is what counts as the network."""

    def __init__(self, formulas: Formulas, flow: RiemannianFlow) -> None:
        super().__init__()
        self.formulas, self.flow = formulas, flow
        self.network = flow.network

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the flow."""
        return self.flow.loss(batch, generator)

    def kept(self) -> dict[str, Tensor]:
        """Returns the weights of both, each once."""
        return {name: weight for name, weight in self.state_dict().items() if not name.startswith("network.")}

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of the flow; formulas cost a thousandth of it."""
        return self.flow.flop(n_atoms)

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that the flow moves in a training step."""
        return self.flow.traffic(n_atoms)


@final
class Model(AbstractModel):
    """Formula flow."""

    Config = FormulaFlowConfig
    Sampling = FormulaFlowSampling
    shared_checkpoint = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: FormulaFlowConfig, job: Job) -> None:
        """Trains formulas, then structures; see `AbstractModel.train`. The log of formulas lies in `formulas/`."""
        split = load_split(train, val, job.device, angles_outside)
        constants = fit_constants(split.train.crystals)
        facts = {"constants": asdict(constants), "formulas": _bounds(split)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seed(job.seed, 0))
            module = _build(facts, asdict(config)).to(job.device)
        limit = job.max_seconds
        first = replace(job, out=job.out / "formulas", max_seconds=None if limit is None else FORMULAS_SHARE * limit)
        first.out.mkdir(parents=True, exist_ok=True)
        learnt = fit(module.formulas, split.train, split.val, config.of_formulas(), first)
        left = None if limit is None else limit - learnt.progress.seconds
        outcome = fit(module.flow, split.train, split.val, config, replace(job, max_seconds=left))
        write_results("formula_flow", module, outcome, split=split, config=config, job=job, facts=facts)

    def sample(
        self,
        checkpoint: Path,
        wanted: int | Sequence[np.ndarray],
        sampling: FormulaFlowSampling,
        seed: int,
        device: str,
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`. Statuses are FlowMM's.

        Formula and noise of a crystal depend only on the seed and its place, not on batch size or device.
        """
        weights, facts = load_checkpoint(checkpoint, device)
        module = _build(facts, facts["config"])
        weights |= {name.removeprefix("flow."): w for name, w in weights.items() if name.startswith("flow.network.")}
        make_ready(module, weights, device, compiled=sampling.compile)
        if isinstance(wanted, int):
            drawn = module.formulas.draw(wanted, mix_seed(seed, 3), device, sampling.temperature) if wanted else []
            wanted = [np.repeat([*counts], [*counts.values()]) for counts in drawn]
        yield from in_batches(
            wanted,
            sampling.batch_size,
            device,
            lambda batch: finish(module.flow, draw_start(module.flow, batch, seed), batch, sampling),
        )

    def network_evaluations(self, sampling: FormulaFlowSampling) -> int:
        """Returns how often the flow's network is evaluated for one crystal; formulas cost next to nothing."""
        return sampling.steps


def _bounds(split: Split) -> dict[str, Any]:
    """Returns the most elements of a training crystal, and how often each number of atoms occurs."""
    most = max(len(set(crystal.atomic_numbers.tolist())) for crystal in split.train.crystals)
    return {"most": most, "histogram": histogram_of(np.array([c.n_atoms for c in split.train.crystals]))}


def _build(facts: dict[str, Any], config: dict[str, Any]) -> FormulaFlow:
    constants = Constants.from_json(facts["constants"])
    return FormulaFlow(Formulas(**settings_of(config), **facts["formulas"]), build("csp", constants, config))
