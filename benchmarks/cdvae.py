"""A training step and a sampling step of CDVAE: in dense batches, and the same network crystal by crystal.

Both do the same work on the same crystals with the same weights in one run: a training step is loss and gradient over
all crystals, a sampling step one step of Langevin dynamics of all of them. FLOP and bytes are counted, not estimated;
an epoch of MP-20 (27,136 crystals) and 1,000 samples (5,000 steps each) are extrapolated from the steps, validation,
optimiser and encoding of nothing included. The machine's peak is that of a large product of matrices in the same run.

python benchmarks/cdvae.py --n 64 --crystals results/bonds/mp_20/train.parquet
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from training_step import Traffic, embedded, synchronise
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.featurizers.bonds import bonds_of
from xtalgen.models.cdvae import CDVAEConfig, build, extra_of
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling, Start, anneal
from xtalgen.models.diffusion.vae import fit_constants
from xtalgen.models.networks.periodic_graph import nearest_graph
from xtalgen.training.batches import DeviceData, select

EPOCH, STEPS = 27_136, 5_000
SIDE = 2048  # of the matrices whose product shows the machine's peak


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


def sample_step(vae, batches, steps=1):
    vae.eval()
    for seed, batch in enumerate(batches):
        latent = torch.zeros(len(batch), vae.latent, device=batch.mask.device)
        start = Start(latent, batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask, fixed=False)
        anneal(vae, start, CDVAESampling(levels=1, steps=steps), torch.Generator(batch.mask.device).manual_seed(seed))


def timed(step, vae, batches, precision):
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    with rounded(batches, precision):
        step(vae, batches)
    synchronise()
    return time.perf_counter() - wall, time.process_time() - cpu


def rounded(batches, precision):
    return torch.autocast(batches[0].mask.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def counted(step, vae, batches, precision):
    with rounded(batches, precision), FlopCounterMode(display=False) as flop:
        step(vae, batches)
    with rounded(batches, precision), Traffic() as traffic:
        step(vae, batches)
    return flop.get_total_flops(), traffic.bytes


def peak(device, precision):
    """Returns FLOP a second of a large product of matrices, the best of ten."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = torch.randn(2, SIDE, SIDE, device=device).to(kind)
    times = []
    for _ in range(10):
        synchronise()
        started = time.perf_counter()
        a @ b
        synchronise()
        times.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(times)


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
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=1, help="of the dynamics in a repetition")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crystals, _ = select(read_crystals(options.crystals) if options.crystals else embedded())
    chosen = np.random.default_rng(0).permutation(len(crystals))[: options.n]
    crystals = [with_bonds(crystals[i]) for i in chosen]
    config = CDVAEConfig(hidden=options.hidden, triplet=options.triplet, precision=options.precision)
    constants = fit_constants(crystals, None)
    vae = build("dng", constants, asdict(config)).to(options.device)
    extra = extra_of("crystal_nn", None, constants)
    dense = list(DeviceData(crystals, options.device, extra).batches(options.batch_size))
    alone = [next(DeviceData([crystal], options.device, extra).batches(1)) for crystal in crystals]
    per_atom = slots(dense)
    best = peak(options.device, options.precision)
    print(
        f"{len(crystals)} crystals of {np.mean([c.n_atoms for c in crystals]):.1f} atoms, hidden {options.hidden}, "
        f"triplet {options.triplet}, {options.precision}, batches of {options.batch_size}, {options.device}, "
        f"{options.threads} threads, torch {torch.__version__}; peak {best / 1e9:.1f} GFLOP/s\n"
        f"decoder: {per_atom[0]:.1f} slots and {per_atom[1]:.1f} edges per atom\n\n"
        "| step | | ms per crystal (CPU) | GFLOP/s, share of peak | MFLOP and MB moved per crystal | extrapolated |\n"
        "|---|---|---|---|---|---|"
    )
    works = {"dense": dense, "one by one": alone}
    ratios = [
        report("training", train_step, vae, works, options, peak=best, whole=(EPOCH, "epoch of MP-20")),
        report(
            "sampling",
            partial(sample_step, steps=options.steps),
            vae,
            works,
            options,
            peak=best,
            whole=(1_000 * STEPS, "1,000 samples"),
            steps=options.steps,
        ),
    ]
    print("", *ratios, sep="\n")


def report(name, step, vae, works, options, *, peak, whole, steps=1):
    times = {kind: [] for kind in works}
    for repeat in range(options.repeats + 1):
        for kind in sorted(works, reverse=repeat % 2 == 1):
            times[kind].append(timed(step, vae, works[kind], options.precision))
    n = sum(len(batch) for batch in works["dense"]) * steps
    for kind, batches in works.items():
        flop, moved = counted(step, vae, batches, options.precision)
        wall, cpu = (statistics.median(column) for column in zip(*times[kind][1:], strict=True))
        spent = wall if options.device == "cuda" else cpu  # other load on the machine hardly changes the second
        print(
            f"| {name} | {kind} | {wall / n * 1e3:.1f} ({cpu / n * 1e3:.1f}) | {flop / spent / 1e9:.1f}, "
            f"{flop / spent / peak:.0%} | {flop / n / 1e6:.0f}, {moved / n / 1e6:.0f} | {whole[1]}: "
            f"{whole[0] * spent / n:,.0f} s |"
        )
    ratios = [b[1] / a[1] for a, b in zip(times["dense"][1:], times["one by one"][1:], strict=True)]
    return (
        f"{name}: one by one / dense, CPU time: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} repetitions"
    )


if __name__ == "__main__":
    main()
