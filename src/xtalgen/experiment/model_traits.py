"""Traits declared by a model's class, read from its source without importing torch."""

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from xtalgen.runtime.provenance import PACKAGE


def model_file(model: str) -> Path:
    """Returns the file of a model."""
    return PACKAGE / "models" / f"{model}.py"


def shares_checkpoint(model: str) -> bool:
    """Whether the model's class says `shared_checkpoint = True`: one training is used for both tasks."""
    return _says_true(model, "shared_checkpoint")


def needs_bonds(model: str) -> bool:
    """Whether the model's class says `needs_bonds = True`: its training tables pass through the stage `bonds`."""
    return _says_true(model, "needs_bonds")


def needs_wyckoff(model: str) -> bool:
    """Whether the model's class says `needs_wyckoff = True`: its training tables pass through the stage `wyckoff`."""
    return _says_true(model, "needs_wyckoff")


def needs_base(model: str) -> bool:
    """Whether the model's class says `needs_base = True`: it refines the crystals of another run."""
    return _says_true(model, "needs_base")


def takes_prompts(model: str) -> bool:
    """Whether the model's class says `takes_prompts = True`: it supports conditional generation and infilling."""
    return _says_true(model, "takes_prompts")


def tasks_of(model: str, every: Sequence[str]) -> tuple[str, ...]:
    """Returns the tasks declared by the model's class (`tasks = ("csp",)`); all of `every` by default."""
    said = _said(model, "tasks")
    return tuple(every) if said is None else tuple(ast.literal_eval(said))


def _says_true(model: str, name: str) -> bool:
    said = _said(model, name)
    return isinstance(said, ast.Constant) and said.value is True


def _said(model: str, name: str) -> ast.expr | None:
    for node in _class_statements(model_file(model), model_file(model).stat().st_mtime_ns):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    return None


@cache
def _class_statements(file: Path, mtime_ns: int) -> list[ast.stmt]:  # noqa: ARG001 - an edited file is read anew
    # Read from the source, without importing torch.
    classes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return [statement for known in classes for statement in known.body]
