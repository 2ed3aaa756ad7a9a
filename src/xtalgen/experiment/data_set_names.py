"""The names of the registered data sets, read from the source code without importing it."""

import ast

from xtalgen.runtime.provenance import PACKAGE

LIST = PACKAGE / "datasets/registry.py"


def published_sets() -> tuple[str, ...]:
    """Returns the name of every `DataSet(name="…")` in datasets/registry.py, in order."""
    calls = [node for node in ast.walk(ast.parse(LIST.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "DataSet"]
    names = [keyword.value for call in made for keyword in call.keywords if keyword.arg == "name"]
    return tuple(str(name.value) for name in names if isinstance(name, ast.Constant))
