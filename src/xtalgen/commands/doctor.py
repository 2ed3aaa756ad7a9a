"""The command `xtalgen doctor`: what is installed and found, for a bug report or a first look."""

import importlib.util
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xtalgen import __version__
from xtalgen.commands.arguments import add_json, make_parser, to_json
from xtalgen.commands.choices import DATA_SETS, potential_names, shipped_weights
from xtalgen.experiment.places import data_root, user_cache
from xtalgen.runtime.names import TRAINED_TASKS

PACKAGES = (
    "torch", "numpy", "pyarrow", "pymatgen", "ase", "smact", "matminer", "moyopy", "pandas", "chgnet", "mace-torch",
    "transformers", "umap-learn", "chemiscope", "snakemake",
)  # fmt: skip
EXAMPLES = """\
examples:
  xtalgen doctor
  xtalgen doctor --json > report.json
"""


def main(argv: list[str] | None = None) -> None:
    """Prints versions, device, weights, potentials, data sets and folders."""
    parser = make_parser("doctor", "Shows versions, devices, weights, potentials, data sets and caches.", EXAMPLES)
    add_json(parser)
    args = parser.parse_args(argv)
    found = look()
    sys.stdout.write(to_json(found) if args.json else _text(found))


def look() -> dict[str, Any]:
    """Returns what is installed and found, by topic."""
    from xtalgen.datasets.places import find_data_set

    return {
        "xtalgen": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(),
        "weights": {task: sorted(shipped_weights(task)) for task in TRAINED_TASKS},
        "potentials": _potentials(),
        "datasets": {name: str(find_data_set(name, data_root()).state) for name in DATA_SETS},
        "folders": {"data": _folder(data_root()), "cache": _folder(user_cache())},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> str:
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    from xtalgen.runtime.devices import device_name, pick_device

    return device_name(pick_device("auto"))


def _potentials() -> dict[str, str]:
    """Returns where the weights of each potential are; nothing is downloaded."""
    from xtalgen.potentials.registry import POTENTIALS

    here = {}
    for name in potential_names():
        entry = POTENTIALS[name]
        package = entry.family.package
        shipped = "weights installed" if entry.weights else "weights are downloaded at first use"
        here[name] = shipped if _version(package) else f"needs {package}: pip install 'xtalgen[relax]'"
    return here


def _folder(path: Path) -> str:
    return f"{path}" if path.is_dir() else f"{path} (not there yet)"


def _text(found: dict[str, Any]) -> str:
    lines = []
    for topic, content in found.items():
        if not isinstance(content, dict):
            lines.append(f"{topic}: {content}")
            continue
        lines.append(f"{topic}:")
        for name, value in content.items():
            shown = ", ".join(value) if isinstance(value, list) else "not installed" if value is None else value
            lines.append(f"  {name}: {shown}")
    return "\n".join(lines) + "\n"
