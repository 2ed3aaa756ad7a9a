"""What a training is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The task of a training whose checkpoint serves all of them.
SHARED = "shared"


@dataclass(frozen=True)
class Job:
    """What a training needs beside crystals and hyper-parameters.

    work: folder that survives a killed job; out: folder of the results; device: "cpu" or "cuda"; max_seconds: stop (and
    still write a usable checkpoint) when the training has run this long, over all its resumptions: CPU time per thread
    on a CPU, wall time on a GPU; None for no limit; data: metadata of the training table (data set, whether published,
    caveat), passed on to training.json.
    """

    task: str
    seed: int
    work: Path
    out: Path
    device: str = "cpu"
    max_seconds: float | None = None
    data: Mapping[str, str] = field(default_factory=dict)
