"""Every input of a job is a word of its command, and every program runs in `one_line`.

A job dates those of the files on its command line that are dated in the future (`runtime.dates`); Snakemake deletes
what a job made when one of its inputs is newer, so that none may be left out.
"""

import re

import pytest

JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)(?:Shell command: )?(.*)", re.MULTILINE)
CONFIG = """
seed: 0
shards: 2
datasets: {aflow_20: {}, mine: {source: data}}
runs:
  one: {model: flowmm, dataset: aflow_20, sweep: {slope: [0, 5]}}
  two: {model: cdvae, dataset: aflow_20, tasks: [dng]}
  orbits: {model: formula_orbits, dataset: aflow_20, tasks: [dng]}
  text: {model: crystal_text_llm, dataset: aflow_20, tasks: [dng, csp, conditional, infilling]}
  refined: {model: flowllm, dataset: aflow_20, base: text}
  given: {model: diffcsp, dataset: mine, tasks: [csp], checkpoint: {csp: given.safetensors}}
relax: {potential: chgnet, second_potential: mace-small}
tables: {sets: [own]}
"""


@pytest.mark.slow
def test_every_input_is_a_word_of_the_command(checkout):
    (checkout.folder / "config.yaml").write_text(CONFIG)
    for name in ("given.safetensors", "structures/own.cif"):
        (checkout.folder / name).touch()
    (checkout.folder / "data").mkdir()
    for split in ("train", "val", "test"):
        (checkout.folder / f"data/{split}.csv").touch()
    text = checkout.snakemake("--dry-run", "--printshellcmds", "--cores", "1", "--", "all", "results/distil/card.md")
    jobs = [(rule, facts, command) for rule, facts, command in JOB.findall(text) if rule != "all"]
    assert len({rule for rule, _, _ in jobs}) > 24
    for rule, facts, command in jobs:
        inputs = re.search(r"^    input: (.*)$", facts, re.MULTILINE)
        for name in inputs[1].split(", ") if inputs else ():
            assert name in re.split(r"[ ']", command), f"{rule}: {name} is no word of {command}"


def test_every_program_runs_in_one_line(root):
    for script in (root / "workflow/scripts").glob("*.py"):
        assert "with one_line():" in script.read_text(encoding="utf-8"), script.name
