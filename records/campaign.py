"""Trains and samples runs one after the other on a bare GPU machine, within a budget, and goes on in the next call.

Needs no Snakemake, only what training and sampling import: torch, numpy, pyarrow, pyyaml, safetensors, jaxtyping, tqdm.

    python3 records/campaign.py --plan records/mp_20.yaml --data results/data/mp_20 --budget 560 --out OUT

`--data` holds the tables of the data stage; `--work` (results/campaign) the state, and must survive between calls. Each
call leaves in OUT what is finished: per run training.json, log.csv, samples, the exact commands, and the weights in
bfloat16, in parts of at most 15 MiB. Evaluate the samples with the workflow, or several trials in one table with
`records/trials.py`. A run may name a folder below `--data` (`data: pairs`), a set crystals there to start from
(`starts: pairs/val_starts.parquet`).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[1]
PART = 15 * 2**20
# Keeps freed memory instead of giving it back to the system and asking again in every step: a training of a small
# network on a CPU core takes 1.4 times as many steps.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**28)}


class OutOfBudgetError(Exception):
    """The call's time is over; the next call goes on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True, help="YAML list of runs")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, val and test.parquet")
    parser.add_argument("--budget", type=float, required=True, help="seconds of this call")
    parser.add_argument("--reserve", type=float, default=20.0, help="seconds of it kept for copying")
    parser.add_argument("--work", type=Path, default=Path("results/campaign"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    options = parser.parse_args()
    end = time.monotonic() + options.budget - options.reserve
    try:
        for run in yaml.safe_load(options.plan.read_text()):
            carry_out(run, options, end)
        print("campaign: all runs are finished")
    except OutOfBudgetError as reason:
        print(f"campaign: {reason}; call again to go on")


def carry_out(run: dict[str, Any], options: argparse.Namespace, end: float) -> None:
    """Trains a run and draws its samples, or goes on where an earlier call stopped. Raises OutOfBudgetError."""
    work, out = options.work / run["name"], options.out / run["name"]
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "trained/checkpoint.safetensors"
    split = {name: options.data / run.get("data", "") / f"{name}.parquet" for name in ("train", "val", "test")}
    if not checkpoint.exists():
        call("train", out, end, {
            "model": run["model"], "task": run["task"], "train": split["train"], "val": split["val"],
            "settings": run["train"], "seed": run.get("seed", 0), "work": work / "state", "out": work / "trained",
            "device": options.device, "max_seconds": run["seconds"],
        })  # fmt: skip
        keep(checkpoint, out)
        for name in ("training.json", "log.csv"):
            shutil.copy(work / "trained" / name, out)
    for set_name, asked in run["samples"].items():
        table = work / f"{set_name}.parquet"
        if table.exists():
            continue
        wanted = {"n": asked["n"]} if "n" in asked else {"targets": split[asked.get("split", "val")]}
        wanted = {"starts": options.data / asked["starts"]} if "starts" in asked else wanted
        wanted |= {"limit": asked["limit"]} if "limit" in asked else {}
        call("sample", out, end, dict(
            model=run["model"], checkpoint=checkpoint, **wanted, settings=asked["settings"],
            seed=run.get("seed", 0), chunk=asked.get("chunk", 2000), prefix=f"{run['name']}-{set_name}",
            device=options.device, work=work / f"chunks-{set_name}", out=table,
        ))  # fmt: skip
        shutil.copy(table, out)
        print(f"campaign: {run['name']}/{set_name} sampled", flush=True)
    facts = {"run": run, "python": platform.python_version(), "torch": torch.__version__, "device": device_name()}
    (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")


def call(stage: str, out: Path, end: float, arguments: dict[str, Any]) -> None:
    """Runs a stage's script; kills it when the time is over (it resumes), raises RuntimeError when it fails."""
    command = [sys.executable, str(ROOT / f"workflow/scripts/{stage}.py")]
    for name, value in arguments.items():
        command += [f"--{name.replace('_', '-')}", json.dumps(value) if isinstance(value, dict) else str(value)]
    with (out / "commands.txt").open("a") as file:
        file.write(" ".join(command) + "\n")
    left = end - time.monotonic()
    if left <= 0:
        raise OutOfBudgetError(f"no time left for {stage} of {out.name}")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")} | MEMORY
    with (out / f"{stage}.log").open("a") as log:
        try:
            subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=left, check=True)
        except subprocess.TimeoutExpired:
            raise OutOfBudgetError(f"{stage} of {out.name} was interrupted and is resumed") from None
        except subprocess.CalledProcessError as error:
            log.flush()
            tail = (out / f"{stage}.log").read_text()[-2000:]
            raise RuntimeError(f"{stage} of {out.name} failed ({error.returncode}):\n{tail}") from error


def keep(checkpoint: Path, out: Path) -> None:
    """Copies a checkpoint in bfloat16, in parts that `cat weights.* > checkpoint.safetensors` joins."""
    sys.path.insert(0, str(ROOT / "src"))
    from xtalgen.training.checkpoint import load_checkpoint, save_checkpoint

    weights, facts = load_checkpoint(checkpoint, "cpu")
    halved = {name: w.bfloat16() if w.is_floating_point() else w for name, w in weights.items()}
    whole = out / "weights"
    save_checkpoint(whole, halved, facts)
    content = whole.read_bytes()
    whole.unlink()
    for number, start in enumerate(range(0, len(content), PART)):
        (out / f"weights.{number:02d}").write_bytes(content[start : start + PART])


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"


if __name__ == "__main__":
    main()
