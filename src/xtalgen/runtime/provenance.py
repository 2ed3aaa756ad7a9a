"""Content fingerprints of code, so that the workflow reruns exactly what an edit can change."""

import ast
import contextlib
import hashlib
import json
import os
import sys
from functools import cache
from pathlib import Path

from xtalgen.runtime.atomic import write_text

PACKAGE = Path(__file__).parents[1]
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
    with contextlib.suppress(OSError):
        write_text(_cache_file(), json.dumps(_kept()))


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
