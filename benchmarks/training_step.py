"""A training step of FlowMM: the dense network against a plain ragged one, on the same crystals and weights.

The ragged network is what graph libraries do: one long list of atoms and one of edges, all inputs of a message
concatenated, messages added up by `index_add`. It lives here only. Both take forward and backward passes over the same
crystals, the dense one in batches from one bucket each, the ragged one in mixed batches of the same size.

python benchmarks/training_step.py --hidden 128 --crystals results/data/mp_20/train.parquet
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from xtalgen.crystals import Crystal, read_crystals
from xtalgen.models.flow_matching.euler import straight_path
from xtalgen.models.flow_matching.riemannian_flow import RiemannianFlow, angles_outside, fit_constants
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import gram_from_parameters, logit_to_angles
from xtalgen.training.batches import DeviceData, select


class Traffic(TorchDispatchMode):
    """Adds up the bytes of the inputs and outputs of every operator that is not a view."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            found = pytree.tree_leaves((args, kwargs, result))
            self.bytes += sum(x.numel() * x.element_size() for x in found if isinstance(x, torch.Tensor))
        return result


class Ragged:
    """Crystals of a batch one after the other: atoms, edges (receiver, sender), the crystal of each."""

    def __init__(self, point, numbers, mask):
        device, sizes = mask.device, mask.sum(1)
        self.sizes, self.owner = sizes, torch.arange(len(mask), device=device).repeat_interleave(sizes)
        self.coords, self.types, self.numbers = point.coords[mask], point.types[mask], numbers[mask]
        starts = torch.cumsum(sizes, 0) - sizes
        pairs = [
            (int(s) + i, int(s) + j)
            for s, n in zip(starts, sizes, strict=True)
            for i in range(int(n))
            for j in range(int(n))
            if i != j
        ]
        self.edges = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).T


def ragged_velocity(flow, ragged, lattice, time_):
    """Returns coordinates' and lattice velocity of the network, written plainly over lists of edges."""
    net, (receiver, sender), owner = flow.network, ragged.edges, ragged.owner
    of_edge = owner[receiver]
    gram = gram_from_parameters(lattice[:, :3], logit_to_angles(lattice[:, 3:]))
    crystal = (lattice - flow.input_mean) / flow.input_std
    shift = torus.log_map(ragged.coords[receiver], ragged.coords[sender])
    vector = (gram[of_edge] @ shift.unsqueeze(-1)).squeeze(-1)
    phases = (shift.unsqueeze(-1) * net.waves).flatten(-2)
    vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    count = functional.one_hot(ragged.sizes - 1, 100).float()
    nodes = ragged.types if flow.n_types else functional.one_hot(ragged.numbers - 1, 100).float()
    embedded = flow.embed_time(time_.unsqueeze(-1))
    atoms = net.embed_both(torch.cat([net.embed_node(nodes), embedded[owner]], -1))
    degree = (ragged.sizes - 1).clamp_min(1)[owner].unsqueeze(-1)
    for layer in net.layers:
        h = layer.norm(atoms)
        inputs = [vector, phases.sin(), h[receiver], h[sender], phases.cos(), crystal[of_edge]]
        edges = layer.edge_in(torch.cat([*inputs, layer.count(count)[of_edge]], -1))
        messages = functional.silu(layer.edge_out(functional.silu(edges)))
        received = torch.zeros_like(h).index_add(0, receiver, messages) / degree
        atoms = atoms + functional.silu(layer.node_out(functional.silu(layer.node_in(torch.cat([h, received], -1)))))
    atoms = net.norm(atoms)
    total = atoms.new_zeros(len(ragged.sizes), atoms.shape[1]).index_add(0, owner, atoms)
    coords = flow.head_coords(atoms) * flow.coords_scale
    mean = coords.new_zeros(len(ragged.sizes), 3).index_add(0, owner, coords) / ragged.sizes.unsqueeze(-1)
    pooled = torch.cat([total / ragged.sizes.unsqueeze(-1), total], -1)
    return coords - mean[owner], flow.head_lattice(pooled) * flow.output_std + flow.output_mean


def points(flow, batch, seed):
    """Returns points of the paths and their times."""
    generator = torch.Generator(batch.mask.device).manual_seed(seed)
    moment = torch.rand(len(batch), device=batch.mask.device, generator=generator)
    point, _ = straight_path(flow.base(batch.mask, generator), flow.encode(batch), moment, batch.mask)
    return point, moment


def dense_step(flow, work):
    for batch, point, moment in work:
        found = flow.velocity(point, moment, batch.atomic_numbers, batch.mask)
        (found.coords.square().sum() + found.lattice.square().sum()).backward()


def ragged_step(flow, work):
    for ragged, lattice, moment in work:
        coords, lattice_velocity = ragged_velocity(flow, ragged, lattice, moment)
        (coords.square().sum() + lattice_velocity.square().sum()).backward()


def mixed(dense, batch_size):
    """Returns the crystals of the dense batches as ragged batches of mixed sizes, prepared outside the timing."""
    width = max(batch.mask.shape[1] for batch, _, _ in dense)

    def pad(x):
        return functional.pad(x, (0, 0) * (x.ndim - 2) + (0, width - x.shape[1]))

    columns = [
        torch.cat(parts)
        for parts in zip(
            *((pad(p.coords), pad(p.types), pad(b.atomic_numbers), pad(b.mask), p.lattice, t) for b, p, t in dense),
            strict=True,
        )
    ]
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0)).to(columns[0].device)
    work = []
    for places in order.split(batch_size):
        coords, types, numbers, mask, lattice, moment = (column[places] for column in columns)
        work.append((Ragged(State(types, coords, lattice), numbers, mask), lattice, moment))
    return work


def check_equal(flow, dense):
    """Returns the largest difference between the two networks' velocities, relative to their size."""
    worst = 0.0
    with torch.no_grad():
        for batch, point, moment in dense:
            found = flow.velocity(point, moment, batch.atomic_numbers, batch.mask)
            coords, lattice = ragged_velocity(
                flow, Ragged(point, batch.atomic_numbers, batch.mask), point.lattice, moment
            )
            for a, b in ((found.coords[batch.mask], coords), (found.lattice, lattice)):
                worst = max(worst, ((a - b).abs().max() / b.abs().max()).item())
    return worst


def measure(step, flow, work):
    """Returns FLOP, bytes moved, and bytes that the backward pass keeps (largest batch)."""
    with FlopCounterMode(display=False) as flop:
        step(flow, work)
    with Traffic() as traffic:
        step(flow, work)
    largest = 0
    for one in work:
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: kept.setdefault(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()) and x,
            lambda x: x,
        ):
            step(flow, [one])
        largest = max(largest, sum(kept.values()))
    return flop.get_total_flops(), traffic.bytes, largest


def timed(step, flow, work):
    flow.zero_grad()
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    step(flow, work)
    synchronise()
    return time.perf_counter() - wall, time.process_time() - cpu


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def embedded():
    from xtalgen.datasets.embedded import all_records
    from xtalgen.io.structure_files import read_crystal
    from xtalgen.structure.standard_cell import standardise

    cells = [standardise(read_crystal(record.text)) for record in all_records()]
    return [Crystal(str(i), "ok", c.lattice, c.frac_coords, c.atomic_numbers) for i, c in enumerate(cells)]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, help="crystal table; the embedded AFLOW prototypes without it")
    parser.add_argument("--n", type=int, default=256, help="crystals in a repetition")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crystals, _ = select(read_crystals(options.crystals) if options.crystals else embedded(), angles_outside)
    crystals = [crystals[i] for i in np.random.default_rng(0).permutation(len(crystals))[: options.n]]
    flow = RiemannianFlow("csp", fit_constants(crystals), hidden=options.hidden, layers=options.layers)
    flow.to(options.device)
    batches = list(DeviceData(crystals, options.device).batches(options.batch_size))
    dense = [(batch, *points(flow, batch, seed)) for seed, batch in enumerate(batches)]
    works = {"dense": (dense_step, dense), "ragged": (ragged_step, mixed(dense, options.batch_size))}
    print(
        f"{len(crystals)} crystals, {options.layers} layers of {options.hidden}, batches of {options.batch_size}, "
        f"{options.device}, {options.threads} threads, torch {torch.__version__}"
    )
    print(f"largest relative difference of the velocities: {check_equal(flow, dense):.1e}")
    times = {name: [] for name in works}
    for repeat in range(options.repeats + 1):
        for name in sorted(works, reverse=repeat % 2 == 1):
            times[name].append(timed(works[name][0], flow, works[name][1]))
    report(flow, works, {name: kept[1:] for name, kept in times.items()}, len(crystals))


def report(flow, works, times, n):
    for name, (step, work) in works.items():
        flop, moved, kept = measure(step, flow, work)
        wall, cpu = (statistics.median(column) for column in zip(*times[name], strict=True))
        print(
            f"{name:6}  {wall * 1e3:8.1f} ms ({cpu * 1e3:8.1f} ms of CPU)  {flop / n / 1e6:8.1f} MFLOP/crystal  "
            f"{moved / n / 1e6:7.2f} MB/crystal moved  {kept / 1e6:7.1f} MB kept  "
            f"{flop / wall / 1e9:6.1f} GFLOP/s"
        )
    for i, kind in enumerate(("wall", "CPU")):
        ratios = [b[i] / a[i] for a, b in zip(times["dense"], times["ragged"], strict=True)]
        print(
            f"ragged / dense, {kind} time: median {statistics.median(ratios):.2f}, "
            f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} repetitions"
        )


if __name__ == "__main__":
    main()
