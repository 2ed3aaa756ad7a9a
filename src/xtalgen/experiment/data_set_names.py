"""The names of the registered data sets, read from the source code without importing it."""

import ast
from functools import cache

from xtalgen.runtime.provenance import PACKAGE

LIST = PACKAGE / "datasets/registry.py"


def published_sets() -> tuple[str, ...]:
    """Returns the name of every `DataSet(name="…")` in datasets/registry.py, in order."""
    return tuple(_entries())


def based_on(name: str) -> str:
    """Returns the data set whose files are read for this one: the one that it regroups, or itself."""
    return _entries().get(name, {}).get("grouped_from", name)


@cache
def _entries() -> dict[str, dict[str, str]]:
    """Returns the texts among the arguments of every `DataSet`, by its name."""
    calls = [node for node in ast.walk(ast.parse(LIST.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    found = {}
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "DataSet":
            given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
            texts = {str(key): value for key, value in given.items() if isinstance(value, str)}
            found[texts["name"]] = texts
    return found
