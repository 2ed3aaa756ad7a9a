"""Data-parallel training by several processes started by torchrun: one per GPU, or several on a CPU.

Each holds the whole model and data set and computes its share of every batch; gradients are summed over all, so that
all take the same steps. Only the first process writes files.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """Rank of this process and number of processes; (0, 1) for a single process."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors of one type by their sums over all processes."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))

    def agree(self, value: float, device: torch.device) -> float:
        """Returns the first process's value, for decisions that must be the same in all processes."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(shared, src=0)
        return float(shared)


def current() -> Processes:
    """Returns rank and number of the processes joined by `together`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Processes()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def together(device: str) -> Iterator[Processes]:
    """Joins the processes started by torchrun for the duration of the context; has no effect without torchrun.

    device: "cpu" or "cuda"; on "cuda" each process uses the GPU of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield current()
    finally:
        distributed.destroy_process_group()
