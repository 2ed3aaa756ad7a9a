"""Docstrings agree with the code: what they put in backticks exists, what they list are arguments, errors are raised."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src/xtalgen"
QUOTED = re.compile(r"`([a-z_][a-z_0-9]*)`")  # `frac_coords`
LISTED = re.compile(r"(?m)^([a-z_]+_[a-z_0-9]+|[a-z]+)(?:, [a-z_]+)*: ")  # max_steps: what it bounds
ERROR = re.compile(r"\b[A-Z]\w*Error\b")


def _words(tree: ast.AST) -> set[str]:
    """Returns every identifier, and every word of a string, outside docstrings."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            found.update(str(getattr(node, field, "")).split("."))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"\w+", node.value))
    return found


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return tree


def _faults(source: str, package: set[str]) -> Iterator[str]:
    """Yields what the docstrings of a module's functions name and its code does not know."""
    known = _words(_without_docstrings(source))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        for name in QUOTED.findall(text):
            if name not in known | package:
                yield f"{node.lineno} {node.name}: `{name}`"
        for name in set(LISTED.findall(text)) - _words(_without_docstrings(ast.unparse(node))):
            yield f"{node.lineno} {node.name}: {name}: is no argument, nor a column or field that is made here"
        raises = "\n".join(ast.unparse(each) for each in ast.walk(node) if isinstance(each, ast.Raise))
        raised = {error for error in re.findall(r"raise (\w+)", raises) if ERROR.fullmatch(error)}
        if not node.name.startswith("_"):
            for name in raised - set(ERROR.findall(text)) - {"NotImplementedError"}:
                yield f"{node.lineno} {node.name}: {name} is raised and not documented"
        for name in ERROR.findall(text):
            if name not in package and not hasattr(builtins, name):
                yield f"{node.lineno} {node.name}: {name} does not exist"


@pytest.fixture(scope="module")
def package() -> set[str]:
    """Returns the names of the package's modules, functions and classes."""
    nodes = (node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return defined | {path.stem for path in PACKAGE.rglob("*.py")}


def test_docstrings_agree_with_the_code(package: set[str]) -> None:
    faults = {path.relative_to(PACKAGE): list(_faults(path.read_text(), package)) for path in PACKAGE.rglob("*.py")}
    print(*(f"{path}:{fault}" for path, found in faults.items() for fault in found), sep="\n")
    assert not any(faults.values())


def test_drift_is_noticed() -> None:
    source = 'def f(new):\n    """Returns `old` times two.\n\n    older: gone. Raises GoneError.\n    """\n    raise ValueError\n'
    assert len(list(_faults(source, set()))) == 4
