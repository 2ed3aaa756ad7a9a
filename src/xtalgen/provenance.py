"""Content fingerprints of code, so that the workflow reruns exactly what an edit can change."""

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent.parent
DIGITS = 12


def fingerprint(script: Path, *extra: Path) -> str:
    """Returns a hash of the syntax trees of a script and of every package module that it imports, transitively.

    `extra` adds modules that are imported by name only, such as a run's model. Comments, docstrings and layout do not
    count. Nothing is imported; the cost is one parse of each file (about 2 ms each, cached in memory).
    """
    found: dict[Path, str] = {}
    pending = [script, *extra]
    while pending:
        path = pending.pop().resolve()
        if path not in found:
            found[path], imported = _parse(path)
            pending += imported
    digest = hashlib.sha256()
    for path in sorted(found, key=lambda path: (path.name, str(path))):
        digest.update(path.name.encode() + b"\0" + found[path].encode() + b"\0")
    return digest.hexdigest()[:DIGITS]


def model_file(model: str) -> Path:
    """Returns the file of a model."""
    return PACKAGE / "models" / f"{model}.py"


def shares_checkpoint(model: str) -> bool:
    """Whether the model's class says `shared_checkpoint = True`: one training serves both tasks."""
    return _says_true(model, "shared_checkpoint")


def needs_bonds(model: str) -> bool:
    """Whether the model's class says `needs_bonds = True`: its training tables pass through the stage `bonds`."""
    return _says_true(model, "needs_bonds")


def needs_base(model: str) -> bool:
    """Whether the model's class says `needs_base = True`: it starts from the crystals of another run."""
    return _says_true(model, "needs_base")


def takes_prompts(model: str) -> bool:
    """Whether the model's class says `takes_prompts = True`: it can be asked by property, and for hidden elements."""
    return _says_true(model, "takes_prompts")


def tasks_of(model: str, every: Sequence[str]) -> tuple[str, ...]:
    """Returns which tasks the model's class says it is for (`tasks = ("csp",)`); all of them where it says nothing."""
    said = _said(model, "tasks")
    return tuple(every) if said is None else tuple(ast.literal_eval(said))


def _says_true(model: str, name: str) -> bool:
    said = _said(model, name)
    return isinstance(said, ast.Constant) and said.value is True


def _said(model: str, name: str) -> ast.expr | None:
    # Read from the source, without importing torch.
    classes = [node for node in ast.parse(model_file(model).read_text()).body if isinstance(node, ast.ClassDef)]
    for node in (statement for known in classes for statement in known.body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    return None


_parsed: dict[tuple[Path, int], tuple[str, list[Path]]] = {}


def _parse(path: Path) -> tuple[str, list[Path]]:
    key = (path, path.stat().st_mtime_ns)
    if key not in _parsed:
        tree = ast.parse(path.read_text(), filename=str(path))
        imported = [file for node in ast.walk(tree) for file in _imported(node)]
        for node in ast.walk(tree):
            _drop_docstring(node)
        _parsed[key] = (ast.dump(tree), imported)
    return _parsed[key]


def _imported(node: ast.AST) -> list[Path]:
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        dotted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return []
    return [file for name in dotted if name.split(".")[0] == PACKAGE.name for file in _files(name)]


def _files(dotted: str) -> list[Path]:
    parts = dotted.split(".")[1:]
    packages = [PACKAGE.joinpath(*parts[:depth]) / "__init__.py" for depth in range(1, len(parts) + 1)]
    candidates = [*packages, PACKAGE.joinpath(*parts).with_suffix(".py")] if parts else []
    return [file for file in candidates if file.is_file()]


def _drop_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:]
