"""Stage `train`: trains a model; writes its checkpoint, learning curve and a record of the training."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from xtalgen import models
from xtalgen.crystals import from_table, read_facts, read_table
from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.locks import alone
from xtalgen.runtime.names import SHARED
from xtalgen.training.contract import check_training
from xtalgen.training.distributed import together
from xtalgen.training.job import Job

logger = logging.getLogger(__name__)


def train(
    model: str,
    task: str,
    *,
    train: Path,
    val: Path,
    settings: dict[str, Any],
    seed: int,
    work: Path,
    out: Path,
    device: str = "auto",
    max_seconds: float | None = None,
) -> None:
    """Trains a model and writes `checkpoint.safetensors`, `log.csv` and `training.json` into `out`.

    task: "shared" for a model whose one checkpoint serves all tasks. train, val: crystal tables; unusable rows are
    counted and left out. settings: values of the model's Config. work: folder of resumable states, kept between
    attempts. device: "cpu", "cuda" or "auto" (cuda when there is one). max_seconds: budget over all attempts, in CPU
    time per thread on a CPU, wall time on a GPU. Under torchrun several processes train together. Raises ValueError for
    an unknown model, task or setting, a wrong device, or a table without usable crystals; ContractError for a wrong
    table; TrainingError when training does not converge to finite numbers; BusyError when another process trains in
    `work`; ModelContractError when the model breaks its contract.
    """
    loaded = models.load(model)
    tasks = (SHARED,) if loaded.shared_checkpoint else loaded.tasks
    if task not in tasks:
        raise ValueError(f"{model} is not trained for the task {task!r}, only for {' and '.join(tasks)}.")
    config = models.build(loaded.Config, settings, f"settings of {model}")
    tables = {path: read_table(path) for path in (train, val)}
    for path, table in tables.items():
        if table.num_rows == 0:
            raise ValueError(f"{path}: holds no crystals. Give a table with at least one usable row.")
    data = read_facts(tables[train])
    job = Job(task, seed, work, out, pick_device(device), max_seconds, data)
    try:
        with together(job.device) as processes, alone(work) if processes.first else nullcontext():
            if processes.first:
                many = f" with {processes.world} processes" if processes.world > 1 else ""
                about = "both tasks" if task == SHARED else task
                logger.info("training %s for %s on %s%s, log in %s", model, about, job.device, many, out / "log.csv")
            loaded.train(from_table(tables[train]), from_table(tables[val]), config, job)
            if processes.first:
                check_training(model, task, out)
    except ValueError as error:
        raise ValueError(f"{model} on {train} and {val}: {error}") from error
