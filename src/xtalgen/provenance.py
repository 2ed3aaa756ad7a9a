"""Content fingerprints of code, so that the workflow reruns exactly what an edit can change."""

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent.parent
DIGITS = 12


def fingerprint(script: Path, *extra: Path) -> str:
    """Returns a hash of the syntax trees of a script and of every package module that it imports, transitively.

    `extra` adds modules that are imported by name only, such as a run's model. Comments, docstrings and layout do not
    count. Nothing is imported; the cost is one parse of each file (10 ms each), kept in the user's cache folder.
    """
    found: dict[Path, str] = {}
    pending = [path.resolve() for path in (script, *extra)]
    while pending:
        path = pending.pop()
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


def needs_wyckoff(model: str) -> bool:
    """Whether the model's class says `needs_wyckoff = True`: its training tables pass through the stage `wyckoff`."""
    return _says_true(model, "needs_wyckoff")


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
    for node in _class_statements(model_file(model), model_file(model).stat().st_mtime_ns):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    return None


@cache
def _class_statements(file: Path, mtime_ns: int) -> list[ast.stmt]:  # noqa: ARG001 - an edited file is read anew
    # Read from the source, without importing torch.
    classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    return [statement for known in classes for statement in known.body]


_parsed: dict[tuple[Path, int], tuple[str, list[Path]]] = {}


def _parse(path: Path) -> tuple[str, list[Path]]:
    """Returns the hash of a file's syntax tree and the package's files that it imports."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _parsed:
        content = path.read_bytes()
        name = hashlib.sha256(repr(sys.version_info[:2]).encode() + content).hexdigest()
        if name not in _kept():
            _kept()[name] = _read(content)
            _keep()
        tree, dotted = _kept()[name]
        _parsed[key] = tree, [file.resolve() for name in dotted for file in _files(name)]
    return _parsed[key]


def _read(content: bytes) -> tuple[str, list[str]]:
    nodes = list(ast.walk(ast.parse(content)))
    dotted = [name for node in nodes for name in _imported(node)]
    for node in nodes:
        _drop_docstring(node)
    return hashlib.sha256(ast.dump(nodes[0]).encode()).hexdigest(), list(dict.fromkeys(dotted))


@cache
def _kept() -> dict[str, tuple[str, list[str]]]:
    """Returns what was found in files of a content before: every start of Snakemake, and of each job, asks again."""
    try:
        found = json.loads(_cache_file().read_text())
        return {str(name): (str(tree), [str(one) for one in dotted]) for name, (tree, dotted) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep() -> None:
    # Where nothing can be kept, files are parsed anew.
    unfinished = _cache_file().with_name(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(_kept()))
        unfinished.replace(_cache_file())


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtalgen" / "syntax_trees.json"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        dotted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return []
    return [name for name in dotted if name.split(".")[0] == PACKAGE.name]


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
