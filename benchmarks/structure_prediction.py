"""Formula orbits beside FlowMM: what a training step and a prediction cost on the same crystals, at their defaults.

    python benchmarks/structure_prediction.py --crystals results/data/mp_20/val.parquet

Both take the same crystals in turn, repetition by repetition; ratios are of each repetition's own two times. FLOP are
those of the networks' formulas. Predictions are whole for formula orbits (16 symmetries each, up to eight of analogues
among the same crystals, contacts moved apart); for FlowMM one network call is timed and taken 250 times. Weights are
random, so orbits draw more atoms that are too near than a trained network does.
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from xtalgen.crystals import read_crystals
from xtalgen.models.flow_matching.riemannian_flow import angles_outside, fit_constants
from xtalgen.models.flowmm import FlowMMConfig, build
from xtalgen.models.formula_orbits import FormulaOrbitsConfig, FormulaOrbitsSampling
from xtalgen.models.orbits.analogues import Analogues, Memory
from xtalgen.models.orbits.contacts import move_apart, pair_distances
from xtalgen.models.orbits.dataset import OrbitData
from xtalgen.models.orbits.network import Orbits
from xtalgen.models.orbits.sampling import draw
from xtalgen.models.orbits.steps import Groups, formula_of
from xtalgen.structure.wyckoff import describe
from xtalgen.training.batches import DeviceData, select
from xtalgen.training.performance import mean_flop, peak_flop_per_s

STEPS = 250


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, required=True, help="crystal table")
    parser.add_argument("--n", type=int, default=128, help="crystals in a repetition")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    usable, _ = select(read_crystals(options.crystals), angles_outside)
    chosen = np.random.default_rng(0).permutation(len(usable))[: options.n]
    crystals = [replace(usable[i], info={"wyckoff": describe(usable[i])}) for i in chosen]
    crystals = [crystal for crystal in crystals if crystal.info["wyckoff"]]
    sides = {"formula_orbits": Ours(crystals, options.device), "flowmm": FlowMM(crystals, options.device)}
    atoms, peak = np.mean([c.n_atoms for c in crystals]), peak_flop_per_s(options.device, "float32") / 1e9
    print(f"{len(crystals)} crystals of {atoms:.1f} atoms, one thread; peak {peak:.0f} GFLOP/s in float32")
    for name, side in sides.items():
        forward, training = mean_flop(side.module.flop, side.data.padded_sizes())
        print(
            f"{name}: {sum(p.numel() for p in side.module.parameters()) / 1e6:.2f} M parameters; MFLOP per crystal: "
            f"{training / 1e6:.0f} to train, {forward / 1e6:.0f} forward"
        )
    for what in ("train", "predict"):
        times = {name: [] for name in sides}
        for _ in range(options.repeats + 1):
            for name, side in sides.items():
                times[name].append(timed(getattr(side, what), options.device) / len(crystals))
        for name, values in times.items():
            print(f"{what}, {name}: {statistics.median(values[1:]) * 1e3:.2f} ms per crystal")
        ratios = [b / a for a, b in zip(*(values[1:] for values in times.values()), strict=True)]
        print(
            f"{what}: flowmm / formula_orbits {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        )


class Ours:
    def __init__(self, crystals, device):
        groups = Groups.seen([crystal.info["wyckoff"] for crystal in crystals])
        config = FormulaOrbitsConfig()
        names = ("hidden", "layers", "heads", "dropout")
        self.module = Orbits(groups, **{name: getattr(config, name) for name in names}).to(device)
        self.data, self.device = OrbitData(crystals, groups, device), device
        self.formulas = [formula_of(crystal.atomic_numbers) for crystal in crystals]
        self.distances = pair_distances(crystals)
        self.retrieve = Analogues(Memory.of(crystals, groups).arrays()).to(device).retriever()

    def train(self):
        train_step(self.module, self.data, 64, self.device)

    def predict(self):
        settings = FormulaOrbitsSampling()
        self.module.eval()
        written = draw(
            self.module,
            self.formulas,
            range(len(self.formulas)),
            seed=0,
            device=self.device,
            temperature=0.0,
            candidates=settings.candidates,
            retrieve=self.retrieve,
            n_analogues=settings.analogues,
        )
        move_apart(written, self.module.groups, self.distances, settings.contact_steps, self.device)
        self.module.train()


class FlowMM:
    def __init__(self, crystals, device):
        self.module = build("csp", fit_constants(crystals), asdict(FlowMMConfig())).to(device)
        self.data, self.device = DeviceData(crystals, device), device

    def train(self):
        train_step(self.module, self.data, 256, self.device)

    @torch.inference_mode()
    def predict(self):
        """Takes one of the steps; `timed` multiplies."""
        generator = torch.Generator(self.device).manual_seed(0)
        for batch in self.data.batches(256):
            times = torch.full((len(batch),), 0.5, device=self.device)
            self.module.velocity(self.module.base(batch.mask, generator), times, batch.atomic_numbers, batch.mask)


def train_step(module, data, batch_size, device):
    generator = torch.Generator(device).manual_seed(0)
    for batch in data.batches(batch_size):
        module.zero_grad(set_to_none=True)
        module.loss(batch, generator)[0].backward()


def timed(work, device):
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) * (STEPS if work.__name__ == "predict" and isinstance(work.__self__, FlowMM) else 1)


if __name__ == "__main__":
    main()
