"""Command-line arguments shared by several stages."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any


def flag(name: str) -> str:
    """Returns the flag of an argument: `--stable-below` for `stable_below`."""
    return f"--{name.replace('_', '-')}"


def add_job(parser: ArgumentParser) -> None:
    """Adds the arguments of every job with a model: --seed, --device, --work and --out."""
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder of unfinished work, to resume from")
    parser.add_argument("--out", type=Path, required=True, help="file to write; for a training, folder")


def add_model(parser: ArgumentParser) -> None:
    """Adds --model and --settings, the settings that differ from the defaults, parsed into a dictionary."""
    parser.add_argument("--model", required=True, help="name of a file in src/xtalgen/models")
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of the model, as JSON")


def add_potential(parser: ArgumentParser, *, workers: int = 1, timeout: float | None = None) -> None:
    """Adds the arguments of jobs with a potential: --potential, --sha256, --workers, --timeout (s) and --device."""
    parser.add_argument("--potential", required=True, help="name of a potential, or path of a MACE checkpoint")
    parser.add_argument("--sha256", help="SHA-256 that its weights must have")
    parser.add_argument("--workers", type=int, default=workers, help="single-threaded processes (CPU only)")
    parser.add_argument("--timeout", type=float, default=timeout, help="wall-clock limit per crystal, in seconds")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def pick(args: Namespace, *names: str) -> dict[str, Any]:
    """Returns the named arguments by name."""
    return {name: getattr(args, name) for name in names}
