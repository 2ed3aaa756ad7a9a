"""Docstrings agree with the code: names in backticks exist, listed names are arguments, raised errors are listed."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src/xtalgen"
QUOTED = re.compile(r"`([a-z_][a-z_0-9]*)`")  # `frac_coords`
LISTED = re.compile(r"(?:(?<=\n\n)|(?<=\.\n))([a-z_]+_[a-z_0-9]+|[a-z]+)(?:, [a-z_]+)*: ")  # max_steps: what it bounds
ERROR = re.compile(r"\b[A-Z]\w*Error\b")
ELSEWHERE = re.compile(r"(?:[Ee]rrors|Raises)\b[^.]* as (?:in )?`\w+`")


def _words(tree: ast.AST) -> set[str]:
    """Returns every identifier, and every word of a string that is no docstring."""
    found: set[str] = set()
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            docstrings.add(node.body[0].value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            found.update(re.findall(r"\w+", node.value))
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            found.update(str(getattr(node, field, "")).split("."))
    return found


def _faults(source: str, package: set[str]) -> Iterator[str]:
    """Yields what the docstrings of a module's functions name and its code does not know."""
    known = package | _words(ast.parse(source))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        where = f"{node.lineno} {node.name}"
        for name in set(QUOTED.findall(text)) - known:
            yield f"{where}: `{name}` does not exist"
        for name in set(LISTED.findall(text)) - _words(node):
            yield f"{where}: {name}: is no argument, nor a column or field that is made here"
        raises = "\n".join(ast.unparse(each) for each in ast.walk(node) if isinstance(each, ast.Raise))
        raised = {error for error in re.findall(r"raise (\w+)", raises) if ERROR.fullmatch(error)}
        if not node.name.startswith("_") and not ELSEWHERE.search(text):
            documented = {"NotImplementedError", *ERROR.findall(text)}
            for name in raised - documented:
                if not any(base.__name__ in documented for base in getattr(builtins, name, object).__mro__):
                    yield f"{where}: {name} is raised and not documented"
        for name in set(ERROR.findall(text)) - known - set(dir(builtins)):
            yield f"{where}: {name} does not exist"


@pytest.fixture(scope="module")
def package() -> set[str]:
    """Returns the names of the package's modules, functions, classes, fields and columns."""
    found = {path.stem for path in PACKAGE.rglob("*.py")}
    for node in (node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def test_docstrings_agree_with_the_code(package: set[str]) -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    faults = [f"{path.relative_to(PACKAGE)}:{fault}" for path in files for fault in _faults(path.read_text(), package)]
    assert not faults, "\n".join(faults)


def test_drift_is_noticed() -> None:
    text = '"""Returns `old` times two.\n\n    older: gone. Raises GoneError.\n    """'
    faults = list(_faults(f"def f(new):\n    {text}\n    raise ValueError\n", set()))
    assert [fault.split(": ", 1)[1] for fault in faults] == [
        "`old` does not exist",
        "older: is no argument, nor a column or field that is made here",
        "ValueError is raised and not documented",
        "GoneError does not exist",
    ]
