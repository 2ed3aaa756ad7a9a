"""Substitution, a baseline: the structure of the training crystal with the most similar elements; csp only.

It contains no network. docs/models/substitution.md explains why every structure model should be compared with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.orbits.analogues import Analogues, Memory, Retriever, load_analogues
from xtalgen.models.orbits.dataset import load_orbits
from xtalgen.models.orbits.sampling import atoms_of, to_crystal
from xtalgen.models.orbits.steps import Groups, WyckoffCrystal, crystal_of_answers, formula_of
from xtalgen.models.sampling.requests import RequestBatch, in_batches, make_ready, read_trained
from xtalgen.training.artifacts import initialise, write_results
from xtalgen.training.batches import Split
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit


@dataclass(frozen=True)
class SubstitutionConfig(FitConfig):
    """Hyper-parameters of the distances of elements."""

    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 2e-2
    final_learning_rate: float = 0.0
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "cosine_by_step"
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.99
    clip: Literal["value", "norm", "none"] = "norm"
    clip_at: float = 1.0
    val_every: int = 1


@dataclass(frozen=True)
class SubstitutionSampling:
    """Settings of sampling. batch_size: crystals per batch."""

    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}.")


@final
class Model(AbstractModel):
    """Substitution."""

    Config = SubstitutionConfig
    Sampling = SubstitutionSampling
    tasks: ClassVar[tuple[str, ...]] = ("csp",)
    needs_wyckoff = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: SubstitutionConfig, job: Job) -> None:
        """Learns the distances of elements and stores the training set; see `AbstractModel.train`."""
        orbits, groups = load_orbits(train, val, job.device)
        near, far = load_analogues(orbits, groups)
        module = initialise(lambda: Analogues(Memory.of(near.crystals, groups).arrays()), job)
        outcome = fit(module, near, far, config, job)
        facts = {"groups": groups.to_json(), "memory": module.sizes()}
        split = Split(near, far, orbits.left_out)
        write_results("substitution", module, outcome, split=split, config=config, job=job, facts=facts)

    def sample(
        self,
        checkpoint: Path,
        wanted: int | Sequence[np.ndarray],
        sampling: SubstitutionSampling,
        seed: int,  # noqa: ARG002 - nothing is drawn
        device: str,
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`. The seed has no effect, since nothing is drawn.

        Statuses: those of `in_batches`; "no_analogue" where no training crystal has the same numbers of atoms per
        element, in the order of electronegativity. Raises ValueError when asked for de novo generation.
        """
        weights, facts = read_trained(checkpoint, wanted, device)
        assert not isinstance(wanted, int)  # `read_trained` refuses dng, as no checkpoint is for it
        module, groups = Analogues.empty(facts["memory"]), Groups.from_json(facts["groups"])
        make_ready(module, weights, device, compiled=False)
        retrieve = module.retriever()

        def make(batch: RequestBatch) -> list[Crystal]:
            rows = atoms_of(batch)
            return [to_crystal(row, _substituted(row, retrieve, groups), groups, "no_analogue") for row in rows]

        yield from in_batches(wanted, sampling.batch_size, device, make)

    def network_evaluations(self, sampling: SubstitutionSampling) -> int:  # noqa: ARG002 - there are none to choose
        """Returns 1: the distances of the elements are computed once."""
        return 1


def _substituted(wanted: np.ndarray, retrieve: Retriever, groups: Groups) -> WyckoffCrystal | None:
    """Returns the most similar crystal of the likeliest symmetry with the wanted elements; None without analogues."""
    formula = formula_of(wanted)
    known = retrieve(formula)
    if known is None:
        return None
    # The likeliest symmetry over all analogues, with the numbers of the most similar crystal that has it.
    choices = next(iter(known.symmetries()))
    return crystal_of_answers(formula, (*choices, *known.numbers_of(choices)[0][0]), groups)
