"""CDVAE learns 64 crystals of MP-20 by heart: encoded and decoded, at least 90 % of them must match themselves.

Atom count, cell, elements and coordinates all come out of the latent vector. The crystals are the first of the
validation split with at most six atoms; settings are for a small budget (docs/models/cdvae.md says why). Prints a
report in Markdown, and fails when fewer match; some six minutes of one core.

python benchmarks/cdvae_by_heart.py --record records/cdvae_by_heart.md
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from real_crystals import mp_20  # noqa: E402
from xtalgen.crystals import read_crystals  # noqa: E402
from xtalgen.featurizers.bonds import bonds_of  # noqa: E402
from xtalgen.models.cdvae import CDVAEConfig, Model, reconstruct  # noqa: E402
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling  # noqa: E402
from xtalgen.structure.pymatgen import to_structure  # noqa: E402
from xtalgen.training.job import Job  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
LEAST = 0.9
COPIES = 4  # of each crystal in an epoch
TRAINING = {
    "hidden": 48, "triplet": 8, "latent": 32, "encoder_blocks": 1, "decoder_blocks": 2, "neighbours": 12,
    "epochs": 400, "batch_size": 64, "val_every": 400, "save_seconds": 600.0,
    "schedule": "cosine", "learning_rate": 3e-3, "final_learning_rate": 1e-5, "clip": "norm", "clip_at": 1.0,
    "kl_weight": 1e-3, "teacher_forcing": 10_000,
    "coords_begin": 3.0, "coords_end": 0.05, "types_begin": 0.5, "types_end": 0.05,
}  # fmt: skip
SAMPLING = {"levels": 50, "steps": 40, "step_rate": 0.0025}


def chosen(options):
    """Returns the crystals with their bonds."""
    known = read_crystals(options.table) if options.table else mp_20(SHARED, options.n, options.largest)
    small = [crystal for crystal in known if crystal.ok and crystal.n_atoms <= options.largest][: options.n]
    return [replace(crystal, info={"bonds": bonds_of(crystal)[0]}) for crystal in small]


def compared(crystals, made):
    """Returns what a reconstruction has right, crystal by crystal: name of the part, booleans."""
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)
    distances = [
        matcher.get_rms_dist(to_structure(crystal), to_structure(found)) if found.ok else None
        for crystal, found in zip(crystals, made, strict=True)
    ]
    pairs = list(zip(crystals, made, strict=True))
    right = {
        "all of it (StructureMatcher, 0.5, 10°, 0.3)": [distance is not None for distance in distances],
        "number of atoms": [a.n_atoms == b.n_atoms for a, b in pairs],
        "elements": [sorted(a.atomic_numbers) == sorted(b.atomic_numbers) for a, b in pairs],
        "volume within 5 %": [
            b.ok and abs(np.linalg.det(b.lattice) / np.linalg.det(a.lattice) - 1) < 0.05 for a, b in pairs
        ],
    }
    return right, float(np.mean([distance[0] for distance in distances if distance is not None] or [np.nan]))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="crystal table; MP-20 in ../shared/data without it")
    parser.add_argument("--n", type=int, default=64, help="crystals")
    parser.add_argument("--largest", type=int, default=6, help="most atoms of a crystal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder that survives a killed run, for the next to go on")
    parser.add_argument("--record", type=Path, help="file to keep the report in")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    crystals = chosen(options)
    with tempfile.TemporaryDirectory() as passing:
        folder = options.work or Path(passing)
        job = Job("dng", options.seed, folder / "work", folder / "out")
        spent = [time.process_time()]
        Model().train(crystals * COPIES, crystals, CDVAEConfig(**TRAINING), job)
        spent.append(time.process_time())
        checkpoint = job.out / "checkpoint.safetensors"
        made = reconstruct(checkpoint, crystals, CDVAESampling(**SAMPLING), options.seed, "cpu")
        spent.append(time.process_time())
        facts = json.loads((job.out / "training.json").read_text())
    right, distance = compared(crystals, made)
    text = report(options, crystals, facts, seconds=np.diff(spent), right=right, distance=distance)
    print(text)
    if options.record:
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(text)
    rate = np.mean(next(iter(right.values())))
    if rate < LEAST:
        sys.exit(f"only {rate:.1%} match; at least {LEAST:.0%} must")


def report(options, crystals, facts, *, seconds, right, distance):
    sizes = [crystal.n_atoms for crystal in crystals]
    rows = [f"| {name} | {sum(values)} of {len(values)} ({np.mean(values):.1%}) |" for name, values in right.items()]
    return f"""# CDVAE learns crystals of MP-20 by heart

`python benchmarks/cdvae_by_heart.py --n {options.n} --largest {options.largest} --seed {options.seed}`: {len(crystals)}
crystals of {min(sizes)} to {max(sizes)} atoms, on average {np.mean(sizes):.1f}.
{facts["device"]}, {facts["threads"]} threads, torch {facts["torch"]}, xtalgen {facts["xtalgen"]}.
Training {seconds[0]:.0f} s, reconstruction {seconds[1]:.0f} s of processor time.

| right | share |
|---|---|
{chr(10).join(rows)}

Mean normalised RMSD of those that match: {distance:.3f}.

Training: `{TRAINING}`, each crystal {COPIES} times an epoch. Reconstruction: `{SAMPLING}`.
"""


if __name__ == "__main__":
    main()
