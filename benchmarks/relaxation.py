"""Relaxing with CHGNet on a CPU: processes against threads, side by side, on the same real crystals.

    python benchmarks/relaxation.py [--crystals 8] [--steps 5] [--rounds 2]

Each way runs in fresh processes that load the potential before the clock starts; the crystals are dealt out in turn.
A step is one evaluation of energy, forces and stress, and one move of atoms and cell. FLOP are those of matrix
products, bytes those of the activations kept for the derivatives, as torch counts them.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from xtalgen import potentials
from xtalgen.embedded import all_records
from xtalgen.parsing import read_crystal
from xtalgen.relax import Settings, relax_crystal

WAYS = ((1, 1), (1, 2), (2, 1))  # processes, threads of each
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=8, help="of the embedded set, evenly spread")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--part", type=int, nargs=3, help=argparse.SUPPRESS)  # started by this program itself
    arguments = parser.parse_args()
    if arguments.part:
        work(arguments, *arguments.part)
        return
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; best of {arguments.rounds} rounds in turn")
    count(arguments)
    found = [[measure(arguments, *way) for way in WAYS] for _ in range(arguments.rounds)]
    print(f"\n{'processes':>10}{'threads':>9}{'crystals/s':>12}{'steps/s':>9}{'processor ms/step':>19}")
    for place, (processes, threads) in enumerate(WAYS):
        clock, processor, steps = min(times[place] for times in found)
        rates = f"{arguments.crystals / clock:>12.2f}{steps / clock:>9.1f}{1000 * processor / steps:>19.0f}"
        print(f"{processes:>10}{threads:>9}{rates}")


def load(arguments):
    records = all_records()
    chosen = records[:: len(records) // arguments.crystals][: arguments.crystals]
    return [read_crystal(record.text) for record in chosen]


def count(arguments):
    import torch
    from pymatgen.core import Lattice, Structure
    from torch.utils.flop_counter import FlopCounterMode

    kept, pairs, atoms, flop = [0], 0, 0, 0

    def keep(tensor):
        kept[0] += tensor.nbytes
        return tensor

    with potentials.quiet():
        model = potentials.load("chgnet").calculator.model
        for crystal in load(arguments):
            structure = Structure(Lattice(crystal.lattice), crystal.atomic_numbers.tolist(), crystal.frac_coords)
            graph = model.graph_converter(structure)
            counter = FlopCounterMode(display=False)
            with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model.predict_graph(graph, task="efs")
            pairs, atoms, flop = pairs + len(graph.atom_graph), atoms + len(structure), flop + counter.get_total_flops()
    n = arguments.crystals
    print(f"{n} crystals, {atoms / n:.1f} atoms and {pairs / n:.0f} neighbour pairs each")
    print(f"one evaluation: {flop / n / 1e6:.0f} MFLOP, {kept[0] / n / 1e6:.0f} MB on average")


def measure(arguments, processes, threads):
    options = ["--crystals", str(arguments.crystals), "--steps", str(arguments.steps)]
    environment = os.environ | dict.fromkeys(LIBRARIES, str(threads))
    started = [
        subprocess.Popen(
            [sys.executable, __file__, *options, "--part", str(part), str(processes), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for part in range(processes)
    ]
    for process in started:
        process.stdout.readline()
    start = time.perf_counter()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for process in started]
    clock = time.perf_counter() - start
    for process in started:
        process.communicate()
    return clock, sum(answer[0] for answer in answers), sum(answer[1] for answer in answers)


def work(arguments, part, processes, threads):
    import torch

    torch.set_num_threads(threads)
    potential, crystals = potentials.load("chgnet"), load(arguments)[part::processes]
    relax_crystal(crystals[0], potential, Settings(0.05, 1, None))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.process_time()
    outcomes = [relax_crystal(crystal, potential, Settings(1e-6, arguments.steps, None)) for crystal in crystals]
    steps = sum((outcome.n_steps or 0) + 1 for outcome in outcomes)
    print(json.dumps([time.process_time() - start, steps]), flush=True)


if __name__ == "__main__":
    main()
