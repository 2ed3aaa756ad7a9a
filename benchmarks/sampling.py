"""DiffCSP and FlowMM: training and sampling in dense batches against the same network, one crystal at a time.

    python benchmarks/sampling.py --model diffcsp --hidden 512 --crystals results/data/mp_20/test.parquet

Both sides take the same crystals in turn, repetition by repetition; ratios are of each repetition's own two times. Time
per epoch and per 1,000 samples is extrapolated from a step: to the 27,136 crystals of MP-20's training split, and to
the network calls that the published sampler makes. The machine's peak is that of its matrix products in the same run.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from xtalgen import models
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.datasets.embedded import all_records
from xtalgen.io.structure_files import read_crystal
from xtalgen.models.diffusion.ddpm import CrystalDiffusion
from xtalgen.models.flow_matching.riemannian_flow import RiemannianFlow, angles_outside, fit_constants
from xtalgen.structure.standard_cell import standardise
from xtalgen.training.batches import DeviceData, select

MP_20 = 27_136


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("diffcsp", "flowmm"), default="diffcsp")
    parser.add_argument("--crystals", type=Path, help="crystal table; the embedded AFLOW prototypes without it")
    parser.add_argument("--n", type=int, default=64, help="crystals in a repetition")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    crystals, _ = select(read_crystals(options.crystals) if options.crystals else embedded(), angles_outside)
    chosen = np.random.default_rng(0).permutation(len(crystals))[: options.n]
    crystals = [crystals[i] for i in chosen]
    shared = {"hidden": options.hidden}
    made = {
        "diffcsp": lambda: CrystalDiffusion("dng", **shared),
        "flowmm": lambda: RiemannianFlow("dng", fit_constants(crystals), **shared),
    }[options.model]()
    module = made.to(options.device)
    dense = list(DeviceData(crystals, options.device).batches(options.batch_size))
    alone = [next(DeviceData([crystal], options.device).batches(1)) for crystal in crystals]
    top = peak(options.device)
    print(
        f"{options.model}, {len(crystals)} crystals of {np.mean([c.n_atoms for c in crystals]):.1f} atoms, hidden "
        f"{options.hidden}, batches of {options.batch_size}, {options.device}, one thread; "
        f"peak {top / 1e9:.0f} GFLOP/s"
    )
    loaded = models.load(options.model)
    calls = loaded.network_evaluations(loaded.Sampling())
    for name, step, part, scale, unit in (
        ("training", train_step, 1, MP_20, "s per epoch of MP-20"),
        ("sampling", sample_step, 0, 1000 * calls, f"s per 1,000 samples of {calls} network calls"),
    ):
        step(module, dense, options.device)
        times = {"dense": [], "one by one": []}
        for _ in range(options.repeats):
            for kind, batches in (("dense", dense), ("one by one", alone)):
                times[kind].append(timed(step, module, batches, options.device))
        ratios = [b / a for a, b in zip(times["dense"], times["one by one"], strict=True)]
        flop = sum(module.flop(batch.mask.shape[1])[part] * len(batch) for batch in dense)
        for kind, values in times.items():
            each = statistics.median(values) / len(crystals)
            share = f", {flop / statistics.median(values) / top:.0%} of peak" if kind == "dense" else ""
            print(f"{name}, {kind:10}: {each * 1e3:8.2f} ms per crystal, {each * scale:10.0f} {unit}{share}")
        print(f"{name}: one by one / dense {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def train_step(module, batches, device):
    generator = torch.Generator(device).manual_seed(0)
    for batch in batches:
        module.zero_grad(set_to_none=True)
        module.loss(batch, generator)[0].backward()


@torch.inference_mode()
def sample_step(module, batches, device):
    generator = torch.Generator(device).manual_seed(0)
    for batch in batches:
        if isinstance(module, CrystalDiffusion):
            levels = torch.full((len(batch),), 500, device=device)
            point, _ = module.diffuse(batch, levels, generator)
            module.predict(point, levels, batch.atomic_numbers, batch.mask)
        else:
            times = torch.full((len(batch),), 0.5, device=device)
            module.velocity(module.base(batch.mask, generator), times, batch.atomic_numbers, batch.mask)


def timed(step, module, batches, device):
    start = time.process_time() if device == "cpu" else time.perf_counter()
    step(module, batches, device)
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.process_time() if device == "cpu" else time.perf_counter()) - start


def peak(device):
    """Returns the FLOP/s of a large matrix product."""
    size = 1024 if device == "cpu" else 8192
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    a @ b
    return max(2 * size**3 / timed(lambda *_: a @ b, None, None, device) for _ in range(5))


def embedded():
    cells = [standardise(read_crystal(record.text)) for record in all_records()]
    return [Crystal(str(i), "ok", c.lattice, c.frac_coords, c.atomic_numbers) for i, c in enumerate(cells)]


if __name__ == "__main__":
    main()
