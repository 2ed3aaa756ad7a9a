"""Fingerprints of code and of users' files by content, so that the workflow reruns exactly what a change affects."""

import ast
import hashlib
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from xtalgen.runtime.atomic import seal, unseal, write_text

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent.parent
DIGITS = 12
# Arguments of argparse that only `--help` prints.
HELP = {"help", "description", "epilog", "metavar"}
PARSERS = {"add_argument", "ArgumentParser"}


def fingerprint(script: Path, *extra: Path) -> str:
    """Returns a hash of the syntax trees of a script and of every package module that it imports, transitively.

    `extra` adds modules that are imported by name only, such as a run's model. Imports inside functions count.
    Comments, docstrings, help texts and layout do not. Data files of the package (tables, weights, the explorer's page)
    count with the modules that name them. Nothing is imported; each file is parsed once (10 ms), and the result is kept
    in the user's cache folder.
    """
    digest = hashlib.sha256()
    for path in sorted(closure(script, *extra), key=lambda path: (path.name, str(path))):
        found = content(path) if path.suffix != ".py" else _parse(path)[0]
        digest.update(path.name.encode() + b"\0" + found.encode() + b"\0")
    _keep()
    return digest.hexdigest()[:DIGITS]


def closure(script: Path, *extra: Path) -> set[Path]:
    """Returns the script, all modules of the package that it and `extra` import, and the data files these name."""
    found: set[Path] = set()
    data = _data_files(PACKAGE)
    pending = [path.resolve() for path in (script, *extra)]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            _, imported, words = _parse(path)
            pending += imported
            found |= data.get(path, set()).union(*(data[word] for word in words & data.keys()))
            found |= {file for word in words for file in data.get(path.parent / word, ())}
    return found


def contents(paths: Iterable[Path | str | None]) -> list[str]:
    """Returns `content` of a user's existing files and folders; Snakemake reports missing ones."""
    found = [content(Path(path)) for path in paths if path and Path(path).exists()]
    _keep()
    return found


def content(path: Path) -> str:
    """Returns a hash of a file's bytes, or of the names and bytes of all files below a folder.

    A file is read again only when its size, times or inode change; the hashes are kept in the user's cache folder.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        text = "".join(f"{file.relative_to(path).as_posix()}\0{content(file)}\0" for file in files)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]
    status = path.stat()
    # The inode's change time (ctime) cannot be set, so it differs even for a copy that keeps its date.
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    kept = _kept("contents")
    key = str(path.resolve())
    entry = kept.get(key)
    if not isinstance(entry, list) or entry[:1] != [stamp]:
        with path.open("rb") as file:
            kept[key] = entry = [stamp, hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]]
        _changed.add("contents")
    return str(entry[1])


_changed: set[str] = set()  # kinds of `_kept` with new entries
_parsed: dict[tuple[Path, int], tuple[str, list[Path], frozenset[str]]] = {}


def _parse(path: Path) -> tuple[str, list[Path], frozenset[str]]:
    """Returns the hash of a file's syntax tree, the package's files that it imports, and the file names it contains."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _parsed:
        text = path.read_bytes()
        name = hashlib.sha256(repr(sys.version_info[:2]).encode() + text).hexdigest()
        kept = _kept("syntax_trees")
        if not _is_parsed(kept.get(name)):
            kept[name] = _read(text)
            _changed.add("syntax_trees")
        tree, dotted, words = kept[name]
        _parsed[key] = tree, [file.resolve() for name in dotted for file in _files(name)], frozenset(words)
    return _parsed[key]


def _is_parsed(entry: Any) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 3 and isinstance(entry[0], str)


def _read(text: bytes) -> tuple[str, list[str], list[str]]:
    nodes = list(ast.walk(ast.parse(text)))
    dotted = [name for node in nodes for name in _imported(node)]
    for node in nodes:
        _drop_words(node)
    constants = {node.value for node in ast.walk(nodes[0]) if isinstance(node, ast.Constant)}
    words = sorted(word for word in constants if isinstance(word, str) and word and not set(word) & set(" /\\\n"))
    return hashlib.sha256(ast.dump(nodes[0]).encode()).hexdigest(), list(dict.fromkeys(dotted)), words


@cache
def _data_files(package: Path) -> dict[str | Path, set[Path]]:
    """Returns the package's data files by the strings that refer to them: their name, or the path of a data folder.

    A file with the stem of a module beside it is also listed under that module's path.
    """
    found: dict[str | Path, set[Path]] = {}
    for file in package.resolve().rglob("*.*"):
        if file.suffix not in (".py", ".pyc") and file.name != "py.typed" and file.is_file():
            folder: list[str | Path] = [] if (file.parent / "__init__.py").is_file() else [file.parent]
            for key in (file.name, file.with_suffix(".py"), *folder):
                found.setdefault(key, set()).add(file)
    return found


@cache
def _kept(kind: str) -> dict[str, Any]:
    """Returns cached results by content or path, since every start of Snakemake and of each job needs them."""
    file = _cache_file(kind)
    try:
        found = unseal(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
    except ValueError as error:
        log.warning("%s: %s; it is made again", file, error)
        return {}
    return found if isinstance(found, dict) else {}


def _keep() -> None:
    while _changed:
        kind = _changed.pop()
        # Without a writable cache, files are read again.
        with suppress(OSError):
            write_text(_cache_file(kind), seal(_kept(kind)))


def _cache_file(kind: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtalgen" / f"{kind}.sealed"


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


def _drop_words(node: ast.AST) -> None:
    """Removes a node's docstring, or the help texts of a command line."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in PARSERS:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in HELP]
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:]
