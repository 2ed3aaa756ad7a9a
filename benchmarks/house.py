"""Prints the measures of the code base: modules per folder, rooms and arrows of the import graph, sizes.

    python benchmarks/house.py          # the tables
    python benchmarks/house.py --check  # silent; fails above a limit (part of `make lint`)

A room is a folder or a single module of the package's root, an arrow an import between two rooms, a circle a group of
rooms that reach each other.
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/xtalgen"
LINES = {"src/**/*.py": 400, "workflow/scripts/*.py": 40, "workflow/rules/*/*.smk": 60}
FUNCTION, FOLDER = 50, 15
FOLDERS = {"stages": 30}  # stages: one module per rule


def modules() -> dict[str, Path]:
    """Returns the files of the package by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows() -> set[tuple[str, str]]:
    """Returns (importing, imported) for every two rooms, imports inside functions included."""
    known, found = modules(), set()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [target if target in known else node.module for target in named]
            else:
                targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {(_room(name), _room(target)) for target in targets if target in known}
    return {(one, other) for one, other in found if one != other and one and other}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circles(edges: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Returns the groups of rooms that reach each other."""
    reach: dict[str, set[str]] = defaultdict(set)
    for one, other in edges:
        reach[one].add(other)
    for middle in list(reach):
        for targets in reach.values():
            if middle in targets:
                targets.update(reach[middle])
    groups = [{other for other in targets if one in reach.get(other, ())} for one, targets in reach.items()]
    return [group for i, group in enumerate(groups) if group and group not in groups[:i]]


def folders() -> dict[str, int]:
    """Returns the number of modules in each folder of the package, `__init__` not counted."""
    found = {path.parent: 0 for path in PACKAGE.rglob("*.py")}
    return {
        str(folder.relative_to(PACKAGE)): len([path for path in folder.glob("*.py") if path.stem != "__init__"])
        for folder in sorted(found)
    }


def functions() -> dict[str, int]:
    """Returns the number of lines of every function of the package."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


def lengths(pattern: str) -> dict[str, int]:
    """Returns the number of lines of the files of a pattern."""
    return {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.glob(pattern)}


def faults() -> Iterator[str]:
    """Yields everything above its limit."""
    for pattern, limit in LINES.items():
        yield from (f"{path}: {n} lines, at most {limit}" for path, n in lengths(pattern).items() if n > limit)
    yield from (f"{name}: {n} lines, at most {FUNCTION}" for name, n in functions().items() if n > FUNCTION)
    for folder, n in folders().items():
        if n > (limit := FOLDERS.get(folder, FOLDER)):
            yield f"src/xtalgen/{folder}: {n} modules, at most {limit}"
    yield from (f"circle of imports: {', '.join(sorted(group))}" for group in circles(arrows()))


def _spread(values: Iterable[int]) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(list(values), [50, 90, 100]))


def table() -> str:
    """Returns the measures as Markdown."""
    edges = arrows()
    rows = {
        "rooms": len({room for edge in edges for room in edge}),
        "arrows": len(edges),
        "circles": len(circles(edges)),
        "modules / lines": f"{len(modules())} / {sum(lengths('src/**/*.py').values())}",
        "lines of a module: median / p90 / max": _spread(lengths("src/**/*.py").values()),
        "lines of a function: median / p90 / max": _spread(functions().values()),
        "lines of a script: median / p90 / max": _spread(lengths("workflow/scripts/*.py").values()),
        "lines of a rule file: median / p90 / max": _spread(lengths("workflow/rules/*/*.smk").values()),
    }
    parts = ["| measure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    parts += ["", "| folder | modules |", "|---|---|", *(f"| {name} | {n} |" for name, n in folders().items())]
    return "\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print what is above its limit, and fail if anything is")
    if parser.parse_args().check:
        sys.exit("\n".join(faults()) or None)
    sys.stdout.write(table() + "\n")
