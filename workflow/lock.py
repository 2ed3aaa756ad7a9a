"""Writes requirements.lock and envs/*.yaml from requirements.in (`make lock`).

Needs uv and a package index. The lock holds names and versions only, no addresses, and torch without a local suffix: so
the same file installs a CPU build where one is found and the CUDA build elsewhere.
"""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {"models": ("models", "language"), "crystals": ("models", "crystals")}


def read_groups(text: str) -> dict[str, list[str]]:
    """Returns the requirements below each `# [group]` line, without their comments."""
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"# \[(\w+)\]", line):
            current = groups.setdefault(head[1], [])
        elif wanted := line.partition("#")[0].strip():
            current.append(wanted)
    return groups


def resolve(wanted: list[str], constraints: list[str]) -> list[str]:
    """Returns `name==version` of the wanted packages and all their dependencies."""
    uv = Path(sys.executable).with_name("uv")
    constraint_file = ROOT / ".venv/constraints.txt"
    constraint_file.write_text("\n".join(constraints))
    command = [str(uv), "pip", "compile", "--quiet", "--python-version", "3.11", "--no-annotate", "--no-header"]
    command += ["--constraint", str(constraint_file), "-"]
    done = subprocess.run(command, input="\n".join(wanted), text=True, check=True, capture_output=True)
    return [line.replace("+cpu", "") for line in done.stdout.splitlines() if "==" in line]


def environment(pins: list[str]) -> str:
    """Returns the text of a conda environment made of pip pins."""
    lines = "".join(f"      - {pin}\n" for pin in pins)
    head = "# Written by `make lock` from requirements.in; used with --sdm conda.\n"
    return f"{head}channels: [conda-forge]\ndependencies:\n  - python =3.11\n  - pip\n  - pip:\n{lines}"


def main() -> None:
    """Writes the lock and the environments; locked versions are kept where still compatible."""
    groups = read_groups((ROOT / "requirements.in").read_text())
    lock = ROOT / "requirements.lock"
    pinned = set(chain.from_iterable(groups.values()))
    names = {pin.partition("==")[0] for pin in pinned}
    before = lock.read_text().split() if lock.is_file() else []
    locked = resolve(sorted(pinned), [pin for pin in before if pin.partition("==")[0] not in names])
    lock.write_text("\n".join(locked) + "\n")
    for name, used in ENVIRONMENTS.items():
        pins = resolve(list(chain.from_iterable(groups[group] for group in used)), locked)
        (ROOT / f"envs/{name}.yaml").write_text(environment(pins))


if __name__ == "__main__":
    main()
