"""The job of a training: task, seed, folders, device, budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """What a training needs besides crystals and hyper-parameters.

    work: folder that survives a killed job; out: folder of the results; device: "cpu" or "cuda"; max_seconds: budget,
    over all resumptions, after which training stops with a usable checkpoint: CPU time per thread on a CPU, wall time
    on a GPU; None for no limit; data: metadata of the training table (data set, whether published, caveat), passed on
    to training.json.
    """

    task: str
    seed: int
    work: Path
    out: Path
    device: str = "cpu"
    max_seconds: float | None = None
    data: Mapping[str, str] = field(default_factory=dict)
