"""The results of a training, written to `job.out`: `checkpoint.safetensors` and `training.json`."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

import xtalgen
from xtalgen.training import checkpoint
from xtalgen.training.batches import Split, mix_seed
from xtalgen.training.contract import CHECKPOINT, TRAINING, TRAINING_CONTRACT
from xtalgen.training.distributed import current
from xtalgen.training.job import Job
from xtalgen.training.loop import CLOCKS, WITHOUT_EFFECT, FitConfig, Outcome, Trainable, fit, forget
from xtalgen.training.performance import Precision, mean_flop, peak_flop_per_s, peak_memory

Module = TypeVar("Module", bound=nn.Module)


def initialise(make: Callable[[], Module], job: Job) -> Module:
    """Returns the module that `make` builds, on the job's device; its random weights depend only on the job's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed(job.seed, 0))
        return make().to(job.device)


def train_and_write(
    model: str,
    make: Callable[[], Trainable],
    *,
    split: Split,
    config: FitConfig,
    job: Job,
    facts: Mapping[str, Any],
) -> None:
    """Trains the module that `make` builds and writes its results: `initialise`, `fit` and `write_results`."""
    module = initialise(make, job)
    outcome = fit(module, split.train, split.val, config, job)
    write_results(model, module, outcome, split=split, config=config, job=job, facts=facts)


def write_results(
    model: str,
    module: Trainable,
    outcome: Outcome,
    *,
    split: Split,
    config: FitConfig,
    job: Job,
    facts: Mapping[str, Any],
) -> None:
    """Writes checkpoint and training.json, then removes the resumable state; only in the first process.

    facts: metadata that sampling needs besides weights and configuration (constants, histogram of atom counts).
    Repeated trainings give identical checkpoints.
    """
    if not current().first:
        return
    common = {"model": model, "task": job.task, "seed": job.seed, "config": asdict(config)}
    lasting = {name: value for name, value in asdict(config).items() if name not in WITHOUT_EFFECT}
    checkpoint.save_checkpoint(job.out / CHECKPOINT, module.kept(), {**common, **facts, "config": lasting})
    account = _account(module, outcome, split, job, config.precision)
    checkpoint.write_json(job.out / TRAINING, {"contract": TRAINING_CONTRACT, **common, **account})
    forget(outcome)


def cost(module: Trainable, split: Split, crystals_seen: int, validations: int) -> dict[str, float]:
    """Returns FLOP and bytes of a training, from the formulas of the network (`flop`, `traffic`).

    flop_per_crystal, bytes_per_crystal: one training step divided by its crystals, padding included, averaged over the
    training set; useful_flop_per_crystal: the same without padding; flop: of the whole training with validation.
    """
    padded = split.train.padded_sizes()
    training = mean_flop(module.flop, padded)[1]
    forward = mean_flop(module.flop, split.val.padded_sizes())[0]
    return {
        "flop_per_crystal": training,
        "useful_flop_per_crystal": mean_flop(module.flop, split.train.sizes())[1],
        "bytes_per_crystal": mean_flop(lambda n: (0, module.traffic(n)), padded)[1],
        "flop": training * crystals_seen + forward * validations * len(split.val),
    }


def _held(module: Trainable) -> int:
    """Returns the number of weights held by each process; with sharding, fewer than the model has."""
    # Sharded weights are DTensors, recognised by a method: importing the class would load 516 modules.
    return sum(
        weight.to_local().numel() if hasattr(weight, "to_local") else weight.numel() for weight in module.parameters()
    )


def _account(module: Trainable, outcome: Outcome, split: Split, job: Job, precision: Precision) -> dict[str, Any]:
    progress = outcome.progress
    validations = sum(row["val_loss"] is not None for row in progress.rows)
    costs = cost(module, split, progress.crystals, validations)
    return {
        "dataset": dict(job.data),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "weights_held": _held(module),
        "epochs": progress.epoch,
        "steps": progress.steps,
        "seconds": round(progress.seconds, 3),
        "clock": CLOCKS[split.train.device.type],
        "max_seconds": job.max_seconds,
        "out_of_time": outcome.out_of_time,
        "best_epoch": progress.best_epoch,
        "best_val_loss": progress.best_val_loss,
        "skipped_steps": sum(row["skipped"] for row in progress.rows),
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_skipped": sum(sum(reasons.values()) for reasons in split.left_out.values()),
        "left_out": split.left_out,
        **costs,
        "seconds_saving": round(progress.saving, 3),
        "flop_per_s": costs["flop"] / max(progress.seconds, 1e-9),
        "peak_flop_per_s": peak_flop_per_s(split.train.device.type, precision),
        "peak_memory": peak_memory(split.train.device.type),
        "device": _device_name(split.train.device),
        "threads": torch.get_num_threads(),
        "processes": current().world,
        "torch": torch.__version__,
        "xtalgen": xtalgen.__version__,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
