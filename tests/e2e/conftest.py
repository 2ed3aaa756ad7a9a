"""A folder of its own for a real run of the workflow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


class Experiment:
    """A folder with a config.yaml, in which the repository's workflow is run for real."""

    def __init__(self, root: Path, folder: Path, config: str) -> None:
        self.root = root
        self.folder = folder
        (folder / "config.yaml").write_text(config)

    def snakemake(self, *words: str, fails: bool = False, cores: int = 2) -> str:
        """Returns what Snakemake prints; asserts that it succeeds, or fails."""
        program = Path(sys.executable).with_name("snakemake")
        command = [program, "--snakefile", self.root / "Snakefile", "--directory", self.folder, "--cores", str(cores)]
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            [*command, "--resources", "gpu=1", "--show-failed-logs", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=self.root,
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text


@pytest.fixture(scope="module")
def make_experiment(root, tmp_path_factory):
    return lambda config: Experiment(root, tmp_path_factory.mktemp("experiment"), config)
