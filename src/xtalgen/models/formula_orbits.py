"""Formula orbits, xtalgen's own model: a formula, then its space group, Wyckoff positions, cell and coordinates.

P(crystal) = P(formula) P(symmetry | formula) P(cell, coordinates | symmetry, formula). De novo generation draws the
formula from a small model; in structure prediction it is given. docs/models/formula_orbits.md gives the reasons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.orbits.analogues import Analogues, Memory, load_analogues
from xtalgen.models.orbits.contacts import move_apart, pair_distances
from xtalgen.models.orbits.dataset import load_orbits
from xtalgen.models.orbits.formula_model import Formulas
from xtalgen.models.orbits.network import Orbits, Steps
from xtalgen.models.orbits.sampling import atoms_of, draw, to_crystal
from xtalgen.models.orbits.steps import Groups, WyckoffCrystal, formula_of
from xtalgen.models.sampling.requests import RequestBatch, histogram_of, in_batches, make_ready
from xtalgen.training.artifacts import initialise, write_results
from xtalgen.training.batches import MAX_ELEMENT, Data, Split, load_split, mix_seed
from xtalgen.training.checkpoint import CheckpointError, load_checkpoint
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, Trainable, fit

# Largest shares of a time budget spent on formulas and on analogues.
SHARE = 0.1
# Mean number of steps of a crystal of MP-20.
MEAN_STEPS = 14


@dataclass(frozen=True)
class FormulaOrbitsConfig(FitConfig):
    """Hyper-parameters of the network of orbits, and of the formulas and analogues trained before it."""

    # The network of orbits.
    hidden: int = 160
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    # Its training; the same schedule serves formulas and analogues unless overridden below.
    epochs: int = 50
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "cosine_by_step"
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.995
    clip: Literal["value", "norm", "none"] = "norm"
    clip_at: float = 1.0
    val_every: int = 1
    # The model of formulas.
    formula_hidden: int = 96
    formula_layers: int = 3
    formula_heads: int = 4
    formula_dropout: float = 0.1
    formula_epochs: int = 25
    formula_batch_size: int = 256
    formula_learning_rate: float = 3e-3
    # Distances of elements: few parameters, hence the large learning rate.
    analogue_epochs: int = 8
    analogue_batch_size: int = 256
    analogue_learning_rate: float = 2e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in ("", "formula_"):
            hidden, heads, dropout = (getattr(self, part + name) for name in ("hidden", "heads", "dropout"))
            if hidden % heads:
                raise ValueError(f"{part}hidden must be a multiple of {part}heads, not {hidden} and {heads}.")
            if not 0 <= dropout < 1:
                raise ValueError(f"{part}dropout must be at least 0 and below 1, not {dropout}.")

    def of(self, part: str) -> FitConfig:
        """Returns the training settings of "formula" or "analogue": those of the orbits, overridden by its own."""
        shared = {name: getattr(self, name) for name in FitConfig.__dataclass_fields__}
        own = {name: getattr(self, f"{part}_{name}") for name in ("epochs", "batch_size", "learning_rate")}
        return FitConfig(**{**shared, **own, "warmup_steps": 100, "ema_decay": 0.99, "compile": False})


@dataclass(frozen=True)
class FormulaOrbitsSampling:
    """Settings of sampling.

    temperature: of the elements of formulas (1 as trained, below 1 sharper); count_temperature: of their counts;
    structure_temperature: of symmetry, positions, cell and coordinates, 0 for the most likely; candidates: symmetries
    drawn per crystal, of which the most likely is kept; analogues: additional candidates from analogues
    (`orbits.analogues`), 0 for the network alone; contact_steps: maximum number of steps to remove contacts shorter
    than any in the training set (`orbits.contacts`), 0 for none; batch_size: crystals that run together; compile:
    compile the network.
    """

    temperature: float = 1.0
    count_temperature: float = 1.0
    structure_temperature: float = 0.0
    candidates: int = 16
    analogues: int = 8
    contact_steps: int = 100
    batch_size: int = 250
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("temperature", "count_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.structure_temperature < 0:
            raise ValueError(f"structure_temperature must be at least 0, not {self.structure_temperature}.")
        for name, least in (("candidates", 1), ("analogues", 0), ("batch_size", 1), ("contact_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")


class FormulaOrbits(Trainable):
    """All networks, as stored in a checkpoint; `network` is that of the orbits.

    distances: shortest distances of pairs of elements in the training set, in Å.
    """

    distances: Tensor

    def __init__(self, formulas: Formulas, analogues: Analogues, orbits: Orbits) -> None:
        super().__init__()
        self.formulas, self.analogues, self.orbits = formulas, analogues, orbits
        self.register_buffer("distances", torch.zeros(MAX_ELEMENT + 1, MAX_ELEMENT + 1, dtype=torch.float64))

    @property
    def network(self) -> nn.Module:  # type: ignore[override]
        """The network of orbits."""
        return self.orbits.network

    def loss(self, batch: Steps, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the orbits."""
        return self.orbits.loss(batch, generator)

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of the orbits; formulas cost less than a tenth of it."""
        return self.orbits.flop(n_atoms)

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that the orbits move in a training step."""
        return self.orbits.traffic(n_atoms)


@final
class Model(AbstractModel):
    """Formula orbits."""

    Config = FormulaOrbitsConfig
    Sampling = FormulaOrbitsSampling
    shared_checkpoint = True
    needs_wyckoff = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: FormulaOrbitsConfig, job: Job) -> None:
        """Trains formulas, analogues and orbits; see `AbstractModel.train`.

        The logs of formulas and analogues are written to the folders `formulas/` and `analogues/`.
        """
        split, groups = load_orbits(train, val, job.device)
        whole = load_split(train, val, job.device)
        facts = {"groups": groups.to_json(), "formulas": _bounds(whole)}
        module = initialise(lambda: _build(facts, asdict(config), Memory.of(split.train.crystals, groups)), job)
        # Contacts are judged by the training set's own distances, so they are stored with the weights.
        module.distances.copy_(torch.from_numpy(pair_distances(whole.train.crystals)))
        # Three trainings one after the other; the orbits get what is left of the budget.
        spent = _fit_first(module.formulas, (whole.train, whole.val), config.of("formula"), job, "formulas")
        spent += _fit_first(module.analogues, load_analogues(split, groups), config.of("analogue"), job, "analogues")
        left = None if job.max_seconds is None else job.max_seconds - spent
        outcome = fit(module.orbits, split.train, split.val, config, replace(job, max_seconds=left))
        facts["memory"] = module.analogues.sizes()
        write_results("formula_orbits", module, outcome, split=split, config=config, job=job, facts=facts)

    def sample(
        self,
        checkpoint: Path,
        wanted: int | Sequence[np.ndarray],
        sampling: FormulaOrbitsSampling,
        seed: int,
        device: str,
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        Statuses: those of `in_batches`; "no_space_group" where no known space group has positions for the atoms;
        "bad_lattice" where the angles drawn make no cell. Results depend on the seed and a crystal's index.
        Raises CheckpointError for a checkpoint without formulas or analogues.
        """
        weights, facts = load_checkpoint(checkpoint, device)
        if not {"formulas", "memory"} <= facts.keys():
            raise CheckpointError(
                f"{checkpoint}: a checkpoint of {facts.get('model')!r} without formulas and analogues: it belongs to "
                "another model or an older version. Train formula_orbits again."
            )
        module = _build(facts, facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        if isinstance(wanted, int):
            temperatures = (sampling.temperature, sampling.count_temperature)
            drawn = module.formulas.draw(wanted, mix_seed(seed, 3), device, *temperatures) if wanted else []
            # Formulas become atoms, as if the compositions had been given.
            wanted = [np.repeat([*counts], [*counts.values()]) for counts in drawn]
        retrieve = module.analogues.retriever()

        def make(batch: RequestBatch) -> list[Crystal]:
            rows = atoms_of(batch)
            written = draw(
                module.orbits,
                [formula_of(row) for row in rows],
                batch.indices,
                seed=seed,
                device=device,
                temperature=sampling.structure_temperature,
                candidates=sampling.candidates,
                retrieve=retrieve,
                n_analogues=sampling.analogues,
            )
            # Symmetry is kept: contacts are removed along the free coordinates only.
            written = _apart(written, module, sampling.contact_steps, device)
            return [
                to_crystal(row, one, module.orbits.groups, "no_space_group")
                for row, one in zip(rows, written, strict=True)
            ]

        yield from in_batches(wanted, sampling.batch_size, device, make)

    def network_evaluations(self, sampling: FormulaOrbitsSampling) -> int:  # noqa: ARG002 - the same for all settings
        """Returns the number of evaluations of the orbit network per crystal, the mean over MP-20."""
        return MEAN_STEPS


def _fit_first(module: Trainable, data: tuple[Data, Data], config: FitConfig, job: Job, name: str) -> float:
    """Trains formulas or analogues within their share of a time budget; returns the seconds spent.

    data: training and validation sets.
    """
    limit = None if job.max_seconds is None else SHARE * job.max_seconds
    first = replace(job, out=job.out / name, max_seconds=limit)
    first.out.mkdir(parents=True, exist_ok=True)
    return fit(module, *data, config, first).progress.seconds


def _apart(
    written: list[WyckoffCrystal | None], module: FormulaOrbits, steps: int, device: str
) -> list[WyckoffCrystal | None]:
    """Moves atoms that are too close apart and returns the crystals; None stays None."""
    moved = iter(
        move_apart([one for one in written if one], module.orbits.groups, module.distances.cpu().numpy(), steps, device)
    )
    return [next(moved) if one else None for one in written]


def _bounds(split: Split) -> dict[str, Any]:
    """Returns the maximum number of elements of a training crystal, and the histogram of numbers of atoms."""
    most = max(len(set(crystal.atomic_numbers.tolist())) for crystal in split.train.crystals)
    return {"most": most, "histogram": histogram_of(np.array([c.n_atoms for c in split.train.crystals]))}


def _build(facts: dict[str, Any], config: dict[str, Any], memory: Memory | None = None) -> FormulaOrbits:
    """Returns the networks; without a memory, its tensors are empty and have the sizes in `facts`."""
    names = ("hidden", "layers", "heads", "dropout")
    formulas = Formulas(**{name: config[f"formula_{name}"] for name in names}, **facts["formulas"])
    orbits = Orbits(Groups.from_json(facts["groups"]), **{name: config[name] for name in names})
    analogues = Analogues(memory.arrays()) if memory else Analogues.empty(facts["memory"])
    return FormulaOrbits(formulas, analogues, orbits)
