"""What the workflow itself costs: no-op run, dry run and the scheduling of 500 shards, beside bare Snakemake.

    python benchmarks/workflow.py [--shards 125] [--rounds 3]

The bare workflow has the same rules, files and jobs (compared), and nothing else: no checked configuration, no plan, no
code fingerprints, no logs. In both every job is a stand-in that only makes its files. Wall seconds, the least of some
rounds that take turns; nothing is computed, so there is no arithmetic to count.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = """
seed: 0
shards: SHARDS
datasets: {aflow_20: {}}
runs:
  flowmm: {model: flowmm, dataset: aflow_20, tasks: [dng]}
  cdvae: {model: cdvae, dataset: aflow_20, tasks: [csp]}
sample: {n: 10000}
"""
# Makes the files that follow --out, --out-table, --out-json and --csv; three of them for a training.
STAND_IN = """#!/bin/sh
script=$1 flag=
for word in "$@"; do
  case $word in
    --*) flag=$word ;;
    *) case $flag in --out|--out-table|--out-json|--csv)
         case $script in
           */train.py) for name in checkpoint.safetensors log.csv training.json; do echo x > "$word/$name"; done ;;
           *) echo x > "$word" ;;
         esac ;;
       esac ;;
  esac
done
"""
BARE = """
N = SHARDS
SPLITS = ["train", "val", "test"]
SHARD = [f"{i}-of-{N}" for i in range(1, N + 1)]

rule tables:
    input: "results/evaluate/flowmm/dng.json", "results/evaluate/cdvae/csp.json"
    output: "results/tables.md", "results/tables.csv", "results/tables.txt"
    shell: "PYTHON tables.py --out {output}"

rule data:
    output: "results/data/aflow_20/{split}.parquet"
    shell: "PYTHON data.py --out {output}"

rule bonds:
    input: "results/data/aflow_20/{split}.parquet"
    output: "results/bonds/aflow_20/{split}.parquet"
    shell: "PYTHON bonds.py --out {output}"

def training(wildcards):
    stage = "bonds" if wildcards.run == "cdvae" else "data"
    return [f"results/{stage}/aflow_20/{split}.parquet" for split in ("train", "val")]

rule train:
    input: training
    output: multiext("results/train/{run}/{training}/", "checkpoint.safetensors", "log.csv", "training.json")
    shell: "PYTHON data.py --out {output}"

def checkpoint(wildcards):
    training = "shared" if wildcards.run == "cdvae" else wildcards.task
    return f"results/train/{wildcards.run}/{training}/checkpoint.safetensors"

rule sample:
    input: checkpoint, lambda wildcards: [] if wildcards.task == "dng" else "results/data/aflow_20/test.parquet"
    output: "results/sample/{run}/{task}/{shard}.parquet"
    wildcard_constraints: shard=r"[^/]+-of-[^/]+"
    shell: "PYTHON sample.py --out {output}"

rule relax:
    input: "results/sample/{set}/{shard}.parquet"
    output: "results/relax/{set}/{shard}.parquet"
    wildcard_constraints: shard=r"[^/]+-of-[^/]+"
    shell: "PYTHON relax.py --out {output}"

rule fingerprints:
    input: "results/sample/{set}/{shard}.parquet"
    output: "results/fingerprints/{set}/{shard}.parquet"
    wildcard_constraints: shard=r"[^/]+-of-[^/]+"
    shell: "PYTHON fingerprints.py --out {output}"

rule merge:
    input: expand("results/{{stage}}/{{set}}/{shard}.parquet", shard=SHARD)
    output: "results/{stage}/{set}.parquet"
    wildcard_constraints: stage="sample|relax|fingerprints", set="[a-z_]+/[a-z_]+"
    shell: "PYTHON merge.py --parts {input} --out {output}"

rule fingerprints_reference:
    input: "results/data/aflow_20/test.parquet"
    output: "results/fingerprints/reference/aflow_20.parquet"
    shell: "PYTHON fingerprints.py --out {output}"

rule hull:
    input: "results/relax/{set}.parquet", expand("results/data/aflow_20/{split}.parquet", split=SPLITS)
    output: "results/hull/{set}.parquet"
    shell: "PYTHON hull.py --out {output}"

def scored(wildcards):
    files = [f"results/sample/{wildcards.run}/{wildcards.task}.parquet"]
    files += [f"results/data/aflow_20/{split}.parquet" for split in ("train", "test")]
    if wildcards.task == "dng":
        files += [f"results/{stage}/{wildcards.run}/dng.parquet" for stage in ("fingerprints", "relax", "hull")]
        files += ["results/data/aflow_20/val.parquet", "results/fingerprints/reference/aflow_20.parquet"]
    return files

rule evaluate:
    input: scored, lambda wildcards: checkpoint(wildcards).replace("checkpoint.safetensors", "training.json")
    output: "results/evaluate/{run}/{task}.parquet", "results/evaluate/{run}/{task}.json"
    shell: "PYTHON evaluate.py --out {output}"
"""
COUNT = re.compile(r"^(\w+)\s+(\d+)$", re.MULTILINE)


def make_ours(folder, shards):
    """Copies the workflow into a folder, with a stand-in for Python."""
    shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
    for name in ("src", "workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config.yaml").write_text(CONFIG.replace("SHARDS", str(shards)))
    jobs = folder / "workflow/rules/shared/jobs.smk"
    text = jobs.read_text()
    assert "Path(sys.executable).parent" in text
    jobs.write_text(text.replace("Path(sys.executable).parent", f"Path({str(make_stand_in(folder).parent)!r})"))


def make_bare(folder, shards):
    """Writes the bare workflow into a folder."""
    text = BARE.replace("SHARDS", str(shards)).replace("PYTHON", str(make_stand_in(folder)))
    (folder / "Snakefile").write_text(text)


def make_stand_in(folder):
    """Returns a program called python that makes the files it is told to."""
    path = folder / "bin/python"
    path.parent.mkdir()
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def snakemake(folder, *words):
    """Returns the wall seconds of a Snakemake run and what it printed."""
    program = Path(sys.executable).with_name("snakemake")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache")}
    started = time.monotonic()
    done = subprocess.run(
        [program, "--cores", "2", *words, "--", "results/tables.md"],
        cwd=folder, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    return seconds, done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=125, help="of each of the four sharded stages")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    best = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {"ours": Path(name) / "ours", "bare": Path(name) / "bare"}
        for side, folder in folders.items():
            folder.mkdir()
            (make_ours if side == "ours" else make_bare)(folder, arguments.shards)
        for step in range(arguments.rounds):
            planned = {}
            for side, folder in folders.items():
                shutil.rmtree(folder / "results", ignore_errors=True)
                shutil.rmtree(folder / ".snakemake", ignore_errors=True)
                for what, words in (("dry run", ["--dry-run"]), ("run", ["--quiet", "all"]), ("no-op run", [])):
                    seconds, text = snakemake(folder, *words)
                    best[side, what] = min(seconds, best.get((side, what), seconds))
                    if what == "dry run":
                        planned[side] = dict(COUNT.findall(text.partition("Job stats:")[2].partition("total")[0]))
                    assert what != "no-op run" or "Nothing to be done" in text
            assert planned["ours"] == planned["bare"], planned
            jobs = sum(map(int, planned["ours"].values()))
            print(f"round {step + 1} of {arguments.rounds}: {jobs} jobs", file=sys.stderr)
    print(f"{jobs} jobs, {4 * arguments.shards} of them shards; wall seconds\n\nwhat        ours   bare   ratio")
    for what in ("no-op run", "dry run", "run"):
        ours, bare = best["ours", what], best["bare", what]
        print(f"{what:10} {ours:5.1f}  {bare:5.1f}   {ours / bare:.2f}")


if __name__ == "__main__":
    main()
