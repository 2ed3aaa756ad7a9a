"""Performance of networks: compilation, precision of products, and measured FLOP/s and memory."""

import contextlib
import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

Precision = Literal["float32", "tf32", "bfloat16"]
MOST_PROGRAMS = 64
# Size of the square matrices whose product benchmarks a device, and number of repetitions.
PEAK_SIDE, PEAK_TIMES = {"cpu": 512, "cuda": 8192}, 5


def compile_network(network: nn.Module, cache: Path | None = None) -> None:
    """Compiles a network in place, one program per padded number of atoms, for any batch size.

    On a GPU each program is recorded as a CUDA graph for each size of batch. cache: folder for compiled programs, for a
    training that may be killed: each attempt has its own, so that half-written files are not reused.
    """
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-", dir=cache)
    # Beyond the default limit of eight, torch silently falls back to uncompiled code.
    torch.compiler.config.recompile_limit = MOST_PROGRAMS
    on_gpu = next(network.parameters()).is_cuda
    # A graph break would cost what compilation gains: raise an error instead.
    network.compile(fullgraph=True, dynamic=True, mode="reduce-overhead" if on_gpu else None)


@contextlib.contextmanager
def products(precision: Precision, device: str) -> Iterator[None]:
    """Context in which matrix products have this precision; everything else, geometry included, is float32.

    "tf32" computes float32 products with a mantissa of 10 bits on a GPU, and is float32 on a CPU.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" and device == "cuda" else "highest")
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def peak_flop_per_s(device: str, precision: Precision) -> float:
    """Returns the FLOP/s of large square matrix products in a precision, an upper bound for networks.

    The best of five, measured in 10 ms; on a CPU with PyTorch's number of threads.
    """
    side = PEAK_SIDE[device]
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(side, side, dtype=kind, device=device) for _ in range(2))
    best = float("inf")
    with torch.no_grad(), products("float32" if precision == "bfloat16" else precision, device):
        for _ in range(PEAK_TIMES):
            _wait(device)
            started = time.perf_counter()
            torch.mm(one, other)
            _wait(device)
            best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def peak_memory(device: str) -> int:
    """Returns the peak memory in bytes: of tensors on a GPU, of this process on a CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mean_flop(flop: Callable[[int], tuple[int, int]], sizes: np.ndarray) -> tuple[float, float]:
    """Returns the mean FLOP of crystals of these sizes: (forward, forward and backward); see `Trainable.flop`."""
    found, counts = np.unique(sizes, return_counts=True)
    values = np.array([flop(int(size)) for size in found], dtype=float)
    forward, training = np.average(values, axis=0, weights=counts)
    return float(forward), float(training)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
