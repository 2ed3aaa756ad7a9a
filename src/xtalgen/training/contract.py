"""The contract of a model, and checks whose errors name the broken rule. contract.yaml lists the rules.

`models.load` checks the class, the stage `train` the results of a training, the stage `sample` every chunk of crystals;
tests/unit/models/test_contract.py checks every rule for every model.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.runtime.names import TRAINED_TASKS

TRAINING, CHECKPOINT, LOG = "training.json", "checkpoint.safetensors", "log.csv"
TRAINING_CONTRACT, CHECKPOINT_CONTRACT = "training/1", "checkpoint/1"
# The only entry of a checkpoint's metadata: safetensors writes several in random order, and equal trainings must give
# equal bytes.
CHECKPOINT_KEY = "xtalgen"
GUIDE = "docs/guides/add-a-model.md"
KINDS: dict[str, Any] = {"text": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict}

TRAITS = ("shared_checkpoint", "needs_bonds", "needs_wyckoff", "needs_base", "takes_prompts")


class ModelContractError(RuntimeError):
    """A model breaks the contract; the message names the model, the rule and what was found."""


@cache
def read_contract() -> dict[str, dict[str, Any]]:
    """Returns the contract: `rules` by name, the keys of `training.json` (type, meaning), the columns of `log.csv`."""
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def broken(model: str, rule: str, found: str) -> NoReturn:
    """Raises ModelContractError for a broken rule. found: what the model did instead."""
    text = read_contract()["rules"][rule]
    raise ModelContractError(f"model {model} breaks the rule {rule!r} of the contract: {found}. {text} See {GUIDE}.")


def check_class(name: str, kind: Any, base: type) -> None:
    """Raises ModelContractError when `kind`, the `Model` of a file (None when it has none), is no model class."""
    if not (isinstance(kind, type) and issubclass(kind, base)):
        found = "it defines no `Model`" if kind is None else f"its `Model` is {kind!r}"
        broken(name, "class", f"{found}, not a subclass of {base.__name__}")
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        broken(name, "class", f"it does not implement {', '.join(missing)}")
    for part in ("Config", "Sampling"):
        settings: Any = getattr(kind, part, None)
        if not is_dataclass(settings) or not getattr(settings, "__dataclass_params__").frozen:  # noqa: B009
            broken(name, "settings", f"{part} is {settings!r}, no frozen dataclass")
        for known in fields(settings):
            if known.default is MISSING and known.default_factory is MISSING:
                broken(name, "settings", f"{part}.{known.name} has no default")
    tasks = getattr(kind, "tasks", ())
    if not tasks or not set(tasks) <= set(TRAINED_TASKS):
        broken(name, "traits", f"tasks is {tasks!r}")
    for trait in TRAITS:
        if not isinstance(getattr(kind, trait), bool):
            broken(name, "traits", f"{trait} is {getattr(kind, trait)!r}, neither True nor False")


def check_training(model: str, task: str, out: Path) -> None:
    """Raises ModelContractError when the results of a training in `out` break a rule. task: of the job, or "shared"."""
    for name in (CHECKPOINT, LOG, TRAINING):
        if not (out / name).is_file():
            broken(model, "files", f"{out / name} is missing")
    facts = _read_json(model, out / TRAINING)
    stated = {"contract": TRAINING_CONTRACT, "model": model, "task": task}
    _check_facts(model, TRAINING, facts, read_contract()[TRAINING], stated)
    if facts["n_skipped"] != sum(sum(reasons.values()) for reasons in facts["left_out"].values()):
        broken(model, TRAINING, f"n_skipped is {facts['n_skipped']}, not the sum of left_out, {facts['left_out']}")
    for name in ("parameters", "n_train", "n_val", "flop", "seconds"):
        if not facts[name] > 0:
            broken(model, TRAINING, f"{name} is {facts[name]}, not above 0")
    with (out / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if missing := [name for name in read_contract()[LOG] if not rows or name not in rows[0]]:
        broken(model, LOG, f"it has no column {missing[0]!r}" if rows else "it has no rows")
    if [row["epoch"] for row in rows] != [str(epoch) for epoch in range(facts["epochs"])]:
        broken(model, LOG, f"its {len(rows)} rows are not the {facts['epochs']} epochs of {TRAINING}, each once")
    kept = {name: read_contract()[TRAINING][name] for name in ("contract", "model", "task", "seed", "config")}
    stated["contract"] = CHECKPOINT_CONTRACT
    _check_facts(model, "checkpoint", _read_metadata(model, out / CHECKPOINT), kept, stated)


def check_sample(
    model: str,
    made: Sequence[Any],
    wanted: int | Sequence[np.ndarray] | Sequence[Crystal] | Sequence[Mapping[str, Any]],
) -> None:
    """Raises ModelContractError when crystals break a rule, or are none.

    made: what `sample` gave; wanted: the argument of this call of `sample`.
    """
    number = wanted if isinstance(wanted, int) else len(wanted)
    if len(made) != number:
        broken(model, "number", f"it was asked for {number} crystals and gave {len(made)}")
    for row, crystal in enumerate(made):
        if not isinstance(crystal, Crystal):
            broken(model, "crystals", f"number {row} is a {type(crystal).__name__}")
        if crystal.ok and (fault := _fault(crystal)):
            broken(model, "crystals", f"number {row} has status ok, but {fault}")
    for row, (crystal, given) in enumerate(zip(made, [] if isinstance(wanted, int) else wanted, strict=False)):
        atoms = given.atomic_numbers if isinstance(given, Crystal) else given
        if crystal.ok and isinstance(atoms, np.ndarray) and not np.array_equal(crystal.atomic_numbers, atoms):
            found = f"number {row} has atoms {crystal.atomic_numbers.tolist()}, not {atoms.tolist()}"
            broken(model, "composition", found)


def describe_contract() -> str:
    """Returns the rules, the keys of training.json and the columns of log.csv as Markdown tables."""
    contract = read_contract()
    lines = [
        "| rule | what it says |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in contract["rules"].items()),
    ]
    lines += ["", f"Keys of `{TRAINING}` (`write_results` adds more):", "", "| key | type | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {meaning} |" for key, (kind, meaning) in contract[TRAINING].items()]
    lines += ["", f"Columns of `{LOG}`:", "", "| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in contract[LOG].items()]
    return "\n".join(lines) + "\n"


def _fault(crystal: Crystal) -> str | None:
    """Returns the fault of the geometry of a crystal with status ok, or None."""
    lattice, coords, numbers = crystal.lattice, crystal.frac_coords, crystal.atomic_numbers
    if any(part is None for part in (lattice, coords, numbers)) or len(numbers) == 0:
        return "its geometry is missing"
    if lattice.shape != (3, 3) or coords.shape != (len(numbers), 3):
        return f"the shapes are {lattice.shape} and {coords.shape} for {len(numbers)} atoms"
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        return "its geometry is not finite"
    if coords.min() < 0 or coords.max() >= 1:
        return f"its coordinates reach from {coords.min()} to {coords.max()}"
    known = numbers.min() >= 1 and numbers.max() <= MAX_ATOMIC_NUMBER
    return None if known else f"its atomic numbers are {numbers.tolist()}"


def _check_facts(
    model: str, rule: str, facts: Mapping[str, Any], keys: Mapping[str, Sequence[str]], stated: Mapping[str, str]
) -> None:
    """Raises ModelContractError when a key is missing, has another type or another value than stated."""
    for key, (kind, meaning) in keys.items():
        if key not in facts:
            broken(model, rule, f"key {key!r} is missing ({meaning})")
        if not isinstance(facts[key], KINDS[kind]) or (isinstance(facts[key], bool) and kind != "boolean"):
            broken(model, rule, f"{key} is {facts[key]!r}, not of type {kind} ({meaning})")
    for key, value in stated.items():
        if facts[key] != value:
            broken(model, rule, f"{key} is {facts[key]!r}, not {value!r}")


def _read_json(model: str, path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        broken(model, TRAINING, f"{path} is not JSON ({error})")
    if not isinstance(facts, dict):
        broken(model, TRAINING, f"{path} holds no object")
    return facts


def _read_metadata(model: str, path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(json.loads((file.metadata() or {}).get(CHECKPOINT_KEY, "{}")))
    except (SafetensorError, ValueError, TypeError) as error:
        broken(model, "checkpoint", f"{path} cannot be read ({error})")
