"""What the arguments of the commands may be, read from sources and folders without importing anything heavy."""

import ast
from pathlib import Path

from xtalgen.experiment.data_set_names import published_sets
from xtalgen.experiment.model_traits import tasks_of
from xtalgen.experiment.plan import WEIGHTS
from xtalgen.runtime.names import SHARED, TRAINED_TASKS
from xtalgen.runtime.provenance import PACKAGE

DATA_SETS = published_sets()
DEFAULT_RECIPE = "xtalgen"
DEFAULT_MODEL = "formula_orbits"
DEVICES = ("auto", "cpu", "cuda")
ENERGIES_OF_HULL = ("consistent", "dft", "mp2020")


def recipe_names() -> list[str]:
    """Returns the names of all recipes, in the order of their list."""
    return _first_arguments(PACKAGE / "metrics/protocols.py", "Recipe")


def potential_names() -> list[str]:
    """Returns the names of all potentials, in the order of their list."""
    return _first_arguments(PACKAGE / "potentials/registry.py", "PotentialEntry")


def shipped_weights(task: str) -> dict[str, Path]:
    """Returns the weights that come with the package for a task, "dng" or "csp", by model."""
    found = {}
    for file in sorted(WEIGHTS.glob("*/*.safetensors")):
        model, trained = file.parent.name, file.stem
        if task == trained or (trained == SHARED and task in tasks_of(model, TRAINED_TASKS)):
            found[model] = file
    return found


def _first_arguments(file: Path, called: str) -> list[str]:
    """Returns the first argument, a text, of each call of a class in a file."""
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if getattr(call.func, "id", "") == called and call.args]
    return [first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)]
