"""The training loop of all models with a loss on batches: resumable, logged, within a time budget.

On CPU a training depends only on configuration, data, seed and number of threads: one that is killed and resumed gives
the same weights, bit by bit. On a GPU it gives them up to rounding. A training ended by a time budget also depends on
the clock and is not reproducible. On a CPU the clock counts CPU time, so that waiting for a busy core costs nothing; on
a GPU it is the wall clock.
"""

import hashlib
import inspect
import json
import logging
import math
import re
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from xtalgen.runtime import provenance
from xtalgen.training import checkpoint
from xtalgen.training.batches import Data, mix_seed
from xtalgen.training.contract import LOG
from xtalgen.training.distributed import current
from xtalgen.training.job import Job
from xtalgen.training.meters import LossMeter
from xtalgen.training.optimizer import Optimiser, cosine
from xtalgen.training.performance import Precision, compile_network, mean_flop, products

STATE = "state.pt"
# Settings that do not change the weights.
WITHOUT_EFFECT = ("save_seconds",)
# Meaning of a training's seconds by kind of device: `clock` in log.csv and training.json.
CLOCKS = {"cpu": "CPU time per thread", "cuda": "wall time"}
# Relative decrease of the validation loss that counts as an improvement for the plateau schedule, as in PyTorch.
PLATEAU_THRESHOLD = 1e-4
# Lag behind the time budget, as a share of all steps, from which the schedule follows the clock.
SLACK = 0.02
logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """A training cannot continue; the message says why and what to do."""


@dataclass(frozen=True)
class FitConfig:
    """Hyper-parameters of the loop; the defaults are FlowMM's on MP-20.

    schedule: "cosine" from learning_rate to final_learning_rate over all epochs, stepped once per epoch;
    "cosine_by_step" the same, stepped once per step; "plateau" multiplies by plateau_factor after plateau_patience
    validations without improvement by 0.01 %, down to final_learning_rate; or "constant". warmup_steps: first steps,
    over which the rate rises to the schedule's; cosine_by_step begins after them. clip: "value", "norm" or "none".
    max_bad_steps: consecutive steps with a loss or gradient that is not finite after which training fails. precision:
    of matrix products (`performance.products`). save_seconds: interval of saving the resumable state. parts: number of
    parts that each batch is computed in, at least the number of processes, over which they are distributed; with equal
    parts any number of processes takes the same steps.
    """

    epochs: int = 2000
    batch_size: int = 256
    learning_rate: float = 3e-4
    final_learning_rate: float = 1e-5
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "cosine"
    warmup_steps: int = 0
    plateau_factor: float = 0.6
    plateau_patience: int = 30
    weight_decay: float = 0.0
    ema_decay: float = 0.999
    clip: Literal["value", "norm", "none"] = "value"
    clip_at: float = 0.5
    val_every: int = 5
    max_bad_steps: int = 100
    precision: Precision = "float32"
    compile: bool = False
    save_seconds: float = 120.0
    parts: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_every", "max_bad_steps", "learning_rate", "clip_at", "parts"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")


class Trainable(nn.Module, ABC):
    """A module that the loop can train.

    network: the part that is compiled; epoch: set by the loop, for losses that depend on it. In evaluation mode the
    loss is the validation loss.
    """

    network: nn.Module
    epoch: int = 0

    @abstractmethod
    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean loss of a batch of the data that it is fitted to, and named parts for the log."""

    def kept(self) -> dict[str, Tensor]:
        """Returns the weights that are stored in a checkpoint."""
        return self.state_dict()

    @abstractmethod
    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward)."""

    @abstractmethod
    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that one crystal padded to n_atoms moves in a training step."""


@dataclass
class Progress:
    """The progress of a training: its state except the weights.

    seconds: time spent over all resumptions, by the clock of the device (`CLOCKS`); saving: the part of it spent on
    storing the resumable state; mark: best validation loss for the plateau schedule.
    """

    epoch: int = 0
    batches: int = 0
    steps: int = 0
    seconds: float = 0.0
    saving: float = 0.0
    epoch_started: float = 0.0
    crystals: int = 0
    rate_scale: float = 1.0
    stale: int = 0
    best_epoch: int | None = None
    best_val_loss: float | None = None
    mark: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A finished training; the module holds the averaged weights of the best validation. folder: of its state."""

    progress: Progress
    folder: Path
    out_of_time: bool


def fit(module: Trainable, train: Data, val: Data, config: FitConfig, job: Job) -> Outcome:
    """Trains the module, resuming an unfinished training of the same identity in `job.work`.

    Writes log.csv into job.out as it goes. With a budget of job.max_seconds that is too short for all epochs, the
    learning rate follows the clock (`CLOCKS`) instead of the epochs, so that its schedule completes. Raises
    TrainingError when config.max_bad_steps consecutive steps were not finite, CheckpointError when the stored state
    cannot be used.
    """
    return _Fit(module, train, val, config, job).run()


def forget(outcome: Outcome) -> None:
    """Removes the states of this and of older trainings from the work folder; called once the results are written."""
    for folder in outcome.folder.parent.iterdir():
        if re.fullmatch(r"[0-9a-f]{16}", folder.name) and (folder / STATE).exists():
            shutil.rmtree(folder)


class _Fit:
    def __init__(self, module: Trainable, train: Data, val: Data, config: FitConfig, job: Job) -> None:
        self.module, self.train, self.val, self.config, self.job = module, train, val, config, job
        self.device = train.device
        self.generator = torch.Generator(self.device)
        self.processes = current()
        self.parts = max(config.parts, self.processes.world)
        self.optimiser = Optimiser(
            module,
            rate=config.learning_rate,
            weight_decay=config.weight_decay,
            ema_decay=config.ema_decay,
            clip=config.clip,
            clip_at=config.clip_at,
        )
        self.progress, self.meter = Progress(), LossMeter(self.device)
        self.best: list[Tensor] | None = None
        self.flop_per_crystal = mean_flop(module.flop, train.padded_sizes())[1]
        self.steps_per_epoch = len(train.plan(config.batch_size))
        self.identity = _identity(module, train, val, config, job)
        self.folder = job.work / hashlib.sha256(self.identity.encode()).hexdigest()[:16]
        self.started, self.saved = self._clock(), time.monotonic()
        self.now = 0.0

    def run(self) -> Outcome:
        progress, config = self._resume(), self.config
        if config.compile:
            compile_network(self.module.network, self.folder)
        quiet = not (sys.stderr.isatty() and self.processes.first)
        with tqdm(total=config.epochs, initial=progress.epoch, desc="train", unit="epoch", disable=quiet) as bar:
            while progress.epoch < config.epochs and not self._out_of_time():
                self._epoch()
                bar.update()
                bar.set_postfix(loss=progress.rows[-1]["loss"], val=progress.best_val_loss)
        out_of_time = self._out_of_time() and progress.epoch < config.epochs
        self._save()
        self.optimiser.set_weights(self.best or self.optimiser.average)
        return Outcome(progress, self.folder, out_of_time)

    def _epoch(self) -> None:
        progress, config = self.progress, self.config
        self.module.train()
        self.module.epoch = progress.epoch
        for batch in self.train.epoch(config.batch_size, (self.job.seed, 0, progress.epoch), skip=progress.batches):
            named: dict[str, Tensor] = {}
            total, finite = self.optimiser.update(self._losses(batch, named), self._rate())
            self.processes.add_up(list(named.values()))
            self.meter.add(total, named, len(batch), finite)
            progress.batches += 1
            progress.steps += 1
            progress.crystals += len(batch)
            if self.job.max_seconds is not None:
                self.now = self.processes.agree(self._clock() - self.started, self.device)
            if self._out_of_time():
                break
            if time.monotonic() - self.saved >= config.save_seconds:
                self._save()
        self._end_epoch()

    def _losses(self, batch: Any, named: dict[str, Tensor]) -> Iterator[Tensor]:
        """Yields this process's parts of the loss of a batch, and adds their named parts to `named`.

        The noise of a part depends on the seed, the step and the part, not on the process that computes it.
        """
        for part in range(self.processes.rank, self.parts, self.processes.world):
            rows = torch.arange(part, len(batch), self.parts, device=self.device)
            share = len(rows) / len(batch)
            if share == 0:  # an empty part still takes part in the sum of gradients
                rows = torch.zeros(1, dtype=torch.long, device=self.device)
            self.generator.manual_seed(mix_seed(self.job.seed, 1, self.progress.steps, part))
            with self._products():
                total, parts = self.module.loss(batch if self.parts == 1 else batch.take(rows), self.generator)
            for name, value in parts.items():
                named[name] = named.get(name, 0.0) + value.detach() * share
            yield total.float() * share

    def _end_epoch(self) -> None:
        progress, config = self.progress, self.config
        self._give_up_when_bad()
        losses, crystals, skipped = self.meter.read()
        seconds, rate = self._seconds(), self._rate()
        if skipped:
            logger.warning("epoch %d: skipped %d steps that were not finite", progress.epoch, skipped)
        last = progress.epoch + 1 == config.epochs or self._out_of_time()
        speed = crystals / max(seconds - progress.epoch_started, 1e-9)
        row = {
            "epoch": progress.epoch,
            "step": progress.steps,
            "seconds": round(seconds, 3),
            "clock": CLOCKS[self.device.type],
            **losses,
            "val_loss": self._validate() if last or (progress.epoch + 1) % config.val_every == 0 else None,
            "lr": rate,
            "skipped": skipped,
            "samples_per_s": round(speed, 1),
            "gflop_per_s": round(speed * self.flop_per_crystal / 1e9, 1),
        }
        progress.rows.append(row)
        if self.processes.first:
            checkpoint.append_row(self.job.out / LOG, row)
        self.meter.clear()
        progress.epoch += 1
        progress.batches = 0
        progress.epoch_started = self._seconds()

    def _validate(self) -> float | None:
        """Returns the mean validation loss of the averaged weights, None when not finite; keeps the best weights.

        The noise is the same each time, so that epochs are comparable.
        """
        progress, config = self.progress, self.config
        generator = torch.Generator(self.device).manual_seed(mix_seed(self.job.seed, 2))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.module.eval()
        with self.optimiser.averaged(), torch.no_grad(), self._products():
            for batch in self.val.batches(config.batch_size):
                total += self.module.loss(batch, generator)[0] * len(batch)
        self.module.train()
        mean = self.processes.agree(float(total / len(self.val)), self.device)
        value = mean if math.isfinite(mean) else None
        if value is not None and (progress.best_val_loss is None or value < progress.best_val_loss):
            progress.best_val_loss, progress.best_epoch = value, progress.epoch
            self.best = [weight.clone() for weight in self.optimiser.average]
        if value is not None and (progress.mark is None or value < progress.mark * (1 - PLATEAU_THRESHOLD)):
            progress.mark, progress.stale = value, 0
            return value
        progress.stale += 1
        if progress.stale > config.plateau_patience:
            progress.rate_scale, progress.stale = progress.rate_scale * config.plateau_factor, 0
        return value

    def _rate(self) -> float:
        steps, warm = self.progress.steps, self.config.warmup_steps
        # Linear warm-up times the schedule.
        return self._scheduled() * min(1.0, (steps + 1) / warm if warm else 1.0)

    def _scheduled(self) -> float:
        progress, config = self.progress, self.config
        if config.schedule == "constant":
            return config.learning_rate
        if config.schedule == "plateau":
            return max(config.learning_rate * progress.rate_scale, config.final_learning_rate)
        all_steps = config.epochs * self.steps_per_epoch
        warm = config.warmup_steps
        by_step = max(progress.steps - warm, 0) / max(all_steps - warm, 1)
        planned = progress.epoch / config.epochs if config.schedule == "cosine" else by_step
        if self.job.max_seconds is not None:
            # A lagging training follows the share of time spent, so that the rate still reaches its end.
            spent = self._seconds() / self.job.max_seconds
            if spent > progress.steps / all_steps + SLACK:
                planned = max(planned, spent)
        return cosine(config.learning_rate, config.final_learning_rate, planned)

    def _seconds(self) -> float:
        # All processes use the clock of the first, so that they make the same decisions.
        shared = self.processes.world > 1 and self.job.max_seconds is not None
        return self.now if shared else self._clock() - self.started

    def _clock(self) -> float:
        # CPU time of this process per thread; child processes, such as compilers, do not count.
        return time.process_time() / torch.get_num_threads() if self.device.type == "cpu" else time.monotonic()

    def _out_of_time(self) -> bool:
        limit = self.job.max_seconds
        return limit is not None and self.progress.steps > 0 and self._seconds() >= limit

    def _products(self) -> AbstractContextManager[None]:
        return products(self.config.precision, self.device.type)

    def _give_up_when_bad(self) -> None:
        bad = self.meter.longest_streak()
        if bad >= self.config.max_bad_steps:
            raise TrainingError(
                f"{self.job.out}: {bad} consecutive steps up to step {self.progress.steps} had a loss or gradient that "
                "is not finite. Lower learning_rate, or look for extreme cells in the training data."
            )

    def _save(self) -> None:
        self._give_up_when_bad()
        self.progress.seconds, began = self._seconds(), self._clock()
        self.saved = time.monotonic()
        if not self.processes.first:
            return
        state = {
            "identity": self.identity,
            "progress": asdict(self.progress),
            "tally": self.meter.state(),
            "optimiser": self.optimiser.state(),
            "best": self.best,
        }
        checkpoint.save_state(self.folder / STATE, state)
        self.progress.saving += self._clock() - began

    def _resume(self) -> Progress:
        path = self.folder / STATE
        state = checkpoint.load_state(path, self.device)
        if state is not None:
            if state.get("identity") != self.identity:
                raise checkpoint.CheckpointError(
                    f"{path}: belongs to another training than its folder. Delete {self.folder} to start afresh."
                )
            self.progress = Progress(**state["progress"])
            self.meter.load(state["tally"])
            self.optimiser.load(state["optimiser"])
            self.best = state["best"]
            self.started = self._clock() - self.progress.seconds
            logger.info("resumed at epoch %d, step %d from %s", self.progress.epoch, self.progress.steps, path)
        if self.processes.first:
            checkpoint.write_rows(self.job.out / LOG, self.progress.rows)
        return self.progress


def _identity(module: Trainable, train: Data, val: Data, config: FitConfig, job: Job) -> str:
    """Returns the identity of a training as text: code, settings, data, seed, kind of device."""
    settings = {name: value for name, value in asdict(config).items() if name not in WITHOUT_EFFECT}
    facts = {
        "code": provenance.fingerprint(Path(inspect.getfile(type(module)))),
        "module": type(module).__name__,
        "task": job.task,
        "seed": job.seed,
        "config": settings,
        "train": train.digest,
        "val": val.digest,
        "device": train.device.type,
    }
    return json.dumps(facts, sort_keys=True)
