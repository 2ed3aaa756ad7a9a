"""The workflow as a module of another: `use rule * from xtalgen`, in another folder, with its configuration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtalgen.crystals import read_crystals

SNAKEFILE = """
configfile: "mine.yaml"

module xtalgen:
    snakefile: "{root}/Snakefile"
    config: config

use rule * from xtalgen{renamed}

rule count:
    input: "results/data/aflow_20/test.parquet"
    output: "size.txt"
    shell: "wc -c < {{input}} > {{output}}"
"""


@pytest.mark.parametrize("renamed", ["", " as crystals_*"])
def test_rules_run_in_another_workflow(root, tmp_path, renamed):
    folder = tmp_path / "my study"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=root, renamed=renamed))
    (folder / "mine.yaml").write_text("datasets: {aflow_20: {limit: {test: 3}}}\n")
    program = Path(sys.executable).with_name("snakemake")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, "--cores", "1", "size.txt"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int((folder / "size.txt").read_text()) > 0
    assert len(read_crystals(folder / "results/data/aflow_20/test.parquet")) == 3
