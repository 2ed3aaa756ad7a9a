"""Several processes that train one model together, started by torchrun: one per GPU, or several on a CPU.

Each holds the whole model and data, computes its share of every batch, and adds up gradients with the others, so all
take the same steps. Only the first writes files.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """This process among all; (0, 1) when it is alone."""

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
        """Returns the first process's value, for decisions that all must take alike."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(shared, src=0)
        return float(shared)


def current() -> Processes:
    """Returns this process among those that `together` has joined."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Processes()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def together(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started, for as long as the context lasts; does nothing without torchrun.

    device: "cpu" or "cuda"; on the latter each process takes the GPU of its place on the node.
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
