"""Stage `distil_training`: trains a small MACE on a teacher's labels.

It runs mace-torch's training program as shipped (`python -m mace.cli.run_train`). This module writes the program's
input files and settings, and stores the trained model as safetensors.
"""

import hashlib
import importlib.metadata
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.mace_safetensors import save_mace
from xtalgen.potentials.types import PotentialError
from xtalgen.runtime.atomic import unfinished
from xtalgen.runtime.bounds import explain_number
from xtalgen.runtime.quiet import quiet

log = logging.getLogger(__name__)
NAME = "student"
HELD_OUT = 0.02  # share of the parent crystals whose configurations are for validation
ELEMENT_WEIGHT = 6.0  # of the energies of elemental crystals, on which every formation energy depends
MIN_CRYSTALS = 2  # needed with an element; the student does not support rarer elements


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters: the shape of the network, and the settings of mace-torch's program under its own names.

    The second stage, which begins at epoch `second_stage`, weights energies more; losses are those of MACE-MP-0 (Huber,
    0.01). most_atoms: larger crystals are left out, since they cost more than they contribute. r_max: in Å; it must
    exceed the nearest-neighbour distance in caesium.
    """

    most_atoms: int = 14
    hidden_irreps: str = "48x0e + 48x1o"
    r_max: float = 5.5
    max_ell: int = 1
    correlation: int = 2
    num_interactions: int = 2
    radial_mlp: str = "[32, 32]"
    epochs: int = 15
    second_stage: int = 8
    batch_size: int = 8
    lr: float = 0.015
    lr_decay: float = 0.82
    second_lr: float = 0.0007
    energy_weight: float = 10.0
    forces_weight: float = 5.0
    stress_weight: float = 20.0
    second_energy_weight: float = 40.0
    ema_decay: float = 0.998


def read_recipe(given: Mapping[str, Any]) -> Recipe:
    """Returns the recipe with the given settings. Raises ValueError, naming the key, for an invalid setting."""
    known = {field.name: field.type for field in fields(Recipe)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"distil.train: there is no {unknown[0]!r}; there are {', '.join(known)}.")
    for key, value in given.items():
        if reason := explain_number(key, value):
            raise ValueError(f"distil.train: {key} {reason}. Give a sensible number.")
    recipe = Recipe(**given)
    if not 0 < recipe.second_stage < recipe.epochs:
        raise ValueError(f"distil.train: second_stage {recipe.second_stage} must lie before epochs {recipe.epochs}.")
    return recipe


def run_distil_training(
    labels: Sequence[Path], *, recipe: Recipe, out: Path, work: Path, seed: int, device: str = "cpu"
) -> None:
    """Writes the potential trained on the labels as safetensors, with their origin in its metadata.

    work: keeps the program's files and checkpoints. A killed training resumes at its last epoch; other labels or
    another recipe start a new training. Raises ContractError when there are too few labels, and PotentialError when the
    program fails (its output is in `work`/training.log).
    """
    tables = [crystals.read_table(path) for path in labels]
    metadata = [crystals.read_metadata(table) for table in tables]
    teachers = {found.get("teacher_sha256") for found in metadata}
    if len(teachers) != 1 or None in teachers:
        raise ContractError(f"{labels[0]} and the other tables come from {len(teachers)} teachers. Label all with one.")
    usable = [row for table in tables for row in crystals.from_table(table) if row.ok]
    rows = known_elements([row for row in usable if row.n_atoms <= recipe.most_atoms])
    learned, held = split(rows, seed)
    if not learned or not held:
        raise ContractError(f"{labels[0]}: {len(rows)} configurations with labels, too few to train on. Label more.")
    key = _key(tables, recipe, seed)
    folder = work / key
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", learned), ("valid", held)):
        if not (folder / f"{name}.xyz").is_file():
            write_configurations(part, folder / f"{name}.xyz")
    log.info("distil: %d configurations to train on, %d held out, in %s", len(learned), len(held), folder)
    _run(folder, recipe, atomic_energies(learned), seed, device)
    model = _trained(folder)
    facts = {
        "teacher": metadata[0]["teacher"],
        "teacher_sha256": metadata[0]["teacher_sha256"],
        "energy_scale": registry.energy_scale(metadata[0]["teacher"]) or "",
        "recipe": json.dumps(asdict(recipe)),
        "mace": importlib.metadata.version("mace-torch"),
        "n_learned": str(len(learned)),
        "n_held_out": str(len(held)),
        "n_crystals": str(len({row.info["parent"] for row in rows})),
        "seed": str(seed),
    }
    save_mace(model, out, **facts)


def known_elements(rows: Sequence[Crystal]) -> list[Crystal]:
    """Returns the rows whose elements all occur in at least two crystals."""
    parents: dict[int, set[str]] = {}
    for row in rows:
        for number in np.unique(row.atomic_numbers):
            parents.setdefault(int(number), set()).add(row.info["parent"])
    rare = {number for number, found in parents.items() if len(found) < MIN_CRYSTALS}
    return [row for row in rows if not rare & {int(number) for number in row.atomic_numbers}]


def split(rows: Sequence[Crystal], seed: int) -> tuple[list[Crystal], list[Crystal]]:
    """Returns the configurations for training and for validation; those of one crystal are never separated.

    A held-out crystal with an element that no training crystal has is moved to the training part.
    """
    parents = sorted({row.info["parent"] for row in rows})
    order = np.random.default_rng(seed).permutation(len(parents))
    held = {parents[index] for index in order[: max(1, round(HELD_OUT * len(parents)))]}
    seen = {int(number) for row in rows if row.info["parent"] not in held for number in row.atomic_numbers}
    held -= {row.info["parent"] for row in rows if not {int(number) for number in row.atomic_numbers} <= seen}
    return [row for row in rows if row.info["parent"] not in held], [row for row in rows if row.info["parent"] in held]


def atomic_energies(rows: Sequence[Crystal]) -> dict[int, float]:
    """Returns an energy per element (eV/atom): the least-squares fit of energies per atom to mole fractions."""
    numbers = sorted({int(number) for row in rows for number in row.atomic_numbers})
    places = {number: index for index, number in enumerate(numbers)}
    shares, energies = np.zeros((len(rows), len(numbers))), np.zeros(len(rows))
    for line, row in enumerate(rows):
        for number in row.atomic_numbers:
            shares[line, places[int(number)]] += 1 / row.n_atoms
        energies[line] = row.info["energy"] / row.n_atoms
    found = np.linalg.lstsq(shares, energies, rcond=None)[0]
    return dict(zip(numbers, found.tolist(), strict=True))


def write_configurations(rows: Sequence[Crystal], path: Path) -> None:
    """Writes labelled configurations as extxyz under the names that mace-torch reads, whole or not at all."""
    from ase import Atoms
    from ase.io import write

    found = []
    for row in rows:
        atoms = Atoms(row.atomic_numbers, cell=row.lattice, scaled_positions=row.frac_coords, pbc=True)
        atoms.info |= {"REF_energy": row.info["energy"], "REF_stress": np.array(row.info["stress"]).reshape(3, 3)}
        if len(set(row.atomic_numbers.tolist())) == 1:
            atoms.info["config_energy_weight"] = ELEMENT_WEIGHT
        atoms.arrays["REF_forces"] = np.array(row.info["forces"]).reshape(-1, 3)
        found.append(atoms)
    with unfinished(path) as part:
        write(part, found, format="extxyz")


def arguments(recipe: Recipe, energies: dict[int, float], seed: int, device: str) -> list[str]:
    """Returns the command line of mace-torch's training program."""
    options = {
        "name": NAME,
        "seed": seed,
        "device": device,
        "default_dtype": "float32",
        "model": "ScaleShiftMACE",
        "train_file": "train.xyz",
        "valid_file": "valid.xyz",
        "E0s": repr(energies),
        "hidden_irreps": recipe.hidden_irreps,
        "r_max": recipe.r_max,
        "max_ell": recipe.max_ell,
        "correlation": recipe.correlation,
        "num_interactions": recipe.num_interactions,
        "radial_MLP": recipe.radial_mlp,
        "loss": "universal",
        "energy_weight": recipe.energy_weight,
        "forces_weight": recipe.forces_weight,
        "stress_weight": recipe.stress_weight,
        "swa_energy_weight": recipe.second_energy_weight,
        "swa_forces_weight": recipe.forces_weight,
        "swa_stress_weight": recipe.stress_weight,
        "batch_size": recipe.batch_size,
        "valid_batch_size": 16,
        "lr": recipe.lr,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": recipe.lr_decay,
        "swa_lr": recipe.second_lr,
        "start_swa": recipe.second_stage,
        "max_num_epochs": recipe.epochs,
        "ema_decay": recipe.ema_decay,
        "clip_grad": 10.0,
        "weight_decay": 1e-8,
        "error_table": "PerAtomMAE",
        "num_workers": 0,
        "skip_evaluate_heads": "train_",
        "plot": "False",
        "pin_memory": "False",
    }
    flags = ["--pair_repulsion", "--swa", "--ema", "--amsgrad", "--restart_latest", "--save_cpu"]
    # Joined by "=", since a value may begin with a minus sign.
    return [f"--{name}={value}" for name, value in options.items()] + flags


def _run(folder: Path, recipe: Recipe, energies: dict[int, float], seed: int, device: str) -> None:
    if _model_file(folder).is_file():
        return
    command = [sys.executable, "-m", "mace.cli.run_train", *arguments(recipe, energies, seed, device)]
    with (folder / "training.log").open("a") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode or not _model_file(folder).is_file():
        last = (folder / "training.log").read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise PotentialError(
            f"mace-torch's training ended with code {done.returncode}: {' '.join(last)}. All of its output: "
            f"{folder / 'training.log'}"
        )


def _model_file(folder: Path) -> Path:
    return folder / f"{NAME}_stagetwo.model"


def _trained(folder: Path) -> object:
    import mace  # noqa: F401 - before e3nn
    import torch

    # A pickle, but the program above has just written it.
    with quiet():
        return torch.load(_model_file(folder), map_location="cpu", weights_only=False)


def _key(tables: Sequence[pa.Table], recipe: Recipe, seed: int) -> str:
    digest = hashlib.sha256(json.dumps([asdict(recipe), seed]).encode())
    for table in tables:
        for name in ("id", "energy"):
            digest.update(json.dumps(table[name].to_pylist()).encode())
    return digest.hexdigest()[:16]
