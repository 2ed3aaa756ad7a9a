"""A copy of the workflow whose jobs are played by a stand-in for Python, which writes what a rule promises at once.

So these tests see which jobs Snakemake plans and runs, not what the stages compute (tests/e2e does that).
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

STAND_IN = """#!/bin/sh
script=$1 flag=
shift
case $script in
  -*) ;;
  *) [ -f "$script" ] || { echo "there is no script $script" >&2; exit 2; } ;;
esac
make() {
  mkdir -p "${1%/*}"
  echo "$script $words" > "$1"
}
words="$*"
for word in "$@"; do
  case $word in
    --*) flag=$word ;;
    *) case $flag in --out|--out-table|--out-json|--csv)
         case $script in
           */train.py) for name in checkpoint.safetensors log.csv training.json; do make "$word/$name"; done ;;
           */sweep.py) for end in md csv svg; do make "${word%.md}.$end"; done ;;
           */figures.py) for name in distributions energy_above_hull funnel; do
               make "$word/$name.svg"; make "$word/$name.png"
             done ;;
           *) make "$word" ;;
         esac ;;
       esac ;;
  esac
done
"""
COUNT = re.compile(r"^(\w+)\s+(\d+)$", re.MULTILINE)


class Checkout:
    """A copy of the repository's workflow in a folder of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(root / name, folder / name)
        for name in ("src", "workflow", "profiles", "demo", "envs", "examples"):
            shutil.copytree(
                root / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__", "results", "logs", ".snakemake", "node_modules"),
            )
        (folder / "slurm").symlink_to("profiles/slurm")
        (folder / "records").symlink_to(root / "records")
        (folder / "structures").mkdir()
        stand_in = folder / "bin" / "python"
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        # Jobs run with the Python beside Snakemake's; here they shall meet the stand-in.
        self.edit("workflow/rules/shared/jobs.smk", "Path(sys.executable).parent", f"Path({str(stand_in.parent)!r})")

    def snakemake(self, *words: str, fails: bool = False) -> str:
        """Returns what Snakemake prints; asserts that it succeeds, or fails."""
        program = Path(sys.executable).with_name("snakemake")
        done = subprocess.run(
            [program, *words], cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / ".cache")},
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, *targets: str) -> None:
        """Runs the workflow with the stand-in."""
        # Without hooks: whether released samples can be fetched does not matter to a stand-in.
        self.snakemake("--cores", "2", "--quiet", "rules", "--no-hooks", "--", *targets)

    def planned(self, *targets: str) -> dict[str, int]:
        """Returns how many jobs of each rule a dry run plans."""
        text = self.snakemake("--dry-run", "--cores", "1", "--", *targets)
        table = text.partition("Job stats:")[2].partition("total")[0]
        return {name: int(count) for name, count in COUNT.findall(table)}

    @contextlib.contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """Puts a file back as it was after the block."""
        text = (self.folder / name).read_text()
        yield
        (self.folder / name).write_text(text)

    def append(self, name: str, text: str) -> None:
        """Adds a line at the end of a file."""
        path = self.folder / name
        path.write_text(f"{path.read_text()}{text}\n")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces text that must be there in a file."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))
