"""Train, sample, relax, score and show generative models of inorganic crystals.

`score`, `generate`, `predict` and `relax` are what the commands of the same names call. Nothing heavy is imported
before one of them is used; their types are in `__init__.pyi`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"  # the only place: pyproject.toml reads it
__all__ = ["Crystal", "CrystalSet", "Scores", "generate", "predict", "relax", "score"]
_HOMES = {
    "Crystal": "xtalgen.crystals",
    "CrystalSet": "xtalgen.commands.functions.results",
    "Scores": "xtalgen.commands.functions.results",
    "generate": "xtalgen.commands.functions.sampling",
    "predict": "xtalgen.commands.functions.sampling",
    "relax": "xtalgen.commands.functions.relaxing",
    "score": "xtalgen.commands.functions.scoring",
}


def __getattr__(name: str) -> Any:
    """Returns a public function or class, imported when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'xtalgen' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names, those not imported yet included."""
    return sorted({*globals(), *__all__})
