"""A training step and a sampling step of CDVAE: in dense batches, and the same network crystal by crystal.

Both do the same work on the same crystals with the same weights in one run: a training step is loss and gradient over
all crystals, a sampling step one step of Langevin dynamics of all of them. FLOP and bytes are counted, not estimated.

python benchmarks/cdvae.py --hidden 64 --n 64 --crystals results/bonds/mp_20/train.parquet
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from training_step import Traffic, embedded, synchronise
from xtalgen.bonds import bonds_of
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.models.cdvae import CDVAEConfig, CDVAESampling, build, extra_of
from xtalgen.models.nn.batches import DeviceData, select
from xtalgen.models.nn.crystal_vae import fit_constants
from xtalgen.models.nn.langevin import Start, anneal
from xtalgen.models.nn.periodic_graph import nearest_graph

ONE_STEP = CDVAESampling(levels=1, steps=1)


def with_bonds(crystal):
    if crystal.info.get("bonds") is not None:
        return crystal
    return Crystal(
        crystal.id, "ok", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, {"bonds": bonds_of(crystal)[0]}
    )


def train_step(vae, batches):
    vae.train()
    vae.zero_grad()
    for seed, batch in enumerate(batches):
        vae.loss(batch, torch.Generator(batch.mask.device).manual_seed(seed))[0].backward()


def sample_step(vae, batches):
    vae.eval()
    for seed, batch in enumerate(batches):
        latent = torch.zeros(len(batch), vae.latent, device=batch.mask.device)
        start = Start(latent, batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask, fixed=False)
        anneal(vae, start, ONE_STEP, torch.Generator(batch.mask.device).manual_seed(seed))


def timed(step, vae, batches):
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    step(vae, batches)
    synchronise()
    return time.perf_counter() - wall, time.process_time() - cpu


def counted(step, vae, batches):
    with FlopCounterMode(display=False) as flop:
        step(vae, batches)
    with Traffic() as traffic:
        step(vae, batches)
    return flop.get_total_flops(), traffic.bytes


def slots(batches):
    """Returns slots per atom of the decoder's graph for uniformly random atoms, and edges per atom."""
    found = []
    for seed, batch in enumerate(batches):
        coords = torch.rand(batch.frac_coords.shape, generator=torch.Generator().manual_seed(seed))
        graph = nearest_graph(coords.to(batch.mask.device), batch.lattice, batch.mask)
        found.append((graph.slots, (graph.mask.sum() / batch.mask.sum()).item()))
    return np.mean(found, axis=0)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, help="table with bonds; the embedded AFLOW prototypes without it")
    parser.add_argument("--n", type=int, default=64, help="crystals in a repetition")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--triplet", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crystals, _ = select(read_crystals(options.crystals) if options.crystals else embedded())
    chosen = np.random.default_rng(0).permutation(len(crystals))[: options.n]
    crystals = [with_bonds(crystals[i]) for i in chosen]
    config = CDVAEConfig(hidden=options.hidden, triplet=options.triplet)
    constants = fit_constants(crystals, None)
    vae = build("dng", constants, asdict(config)).to(options.device)
    extra = extra_of("crystal_nn", None, constants)
    dense = list(DeviceData(crystals, options.device, extra).batches(options.batch_size))
    alone = [next(DeviceData([crystal], options.device, extra).batches(1)) for crystal in crystals]
    per_atom = slots(dense)
    print(f"{len(crystals)} crystals of {np.mean([c.n_atoms for c in crystals]):.1f} atoms, hidden {options.hidden}, "
          f"batches of {options.batch_size}, {options.device}, {options.threads} threads, torch {torch.__version__}\n"
          f"decoder: {per_atom[0]:.1f} slots and {per_atom[1]:.1f} edges per atom")  # fmt: skip
    for name, step in (("training", train_step), ("sampling", sample_step)):
        report(name, step, vae, {"dense": dense, "one by one": alone}, options.repeats)


def report(name, step, vae, works, repeats):
    times = {kind: [] for kind in works}
    for repeat in range(repeats + 1):
        for kind in sorted(works, reverse=repeat % 2 == 1):
            times[kind].append(timed(step, vae, works[kind]))
    n = sum(len(batch) for batch in works["dense"])
    for kind, batches in works.items():
        flop, moved = counted(step, vae, batches)
        wall, cpu = (statistics.median(column) for column in zip(*times[kind][1:], strict=True))
        print(f"{name} step, {kind:10}  {wall * 1e3:9.1f} ms ({cpu * 1e3:9.1f} ms of CPU)  {flop / n / 1e6:8.1f} "
              f"MFLOP/crystal  {moved / n / 1e6:7.2f} MB/crystal moved  {flop / wall / 1e9:6.1f} GFLOP/s")  # fmt: skip
    for column, kind in enumerate(("wall", "CPU")):
        ratios = [b[column] / a[column] for a, b in zip(times["dense"][1:], times["one by one"][1:], strict=True)]
        print(f"{name}: one by one / dense, {kind} time: median {statistics.median(ratios):.2f}, "
              f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} repetitions")  # fmt: skip


if __name__ == "__main__":
    main()
