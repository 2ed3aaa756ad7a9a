"""What all rules share: the checked configuration, the plan, code fingerprints, wildcards. Makes no files."""

import json
import shlex
import sys
from functools import cache

from snakemake.utils import validate

from xtalgen.plan import GENERATION, SHARED, SPLITS, TASKS, Plan, own_file
from xtalgen.provenance import fingerprint, model_file

validate(config, "../schemas/config.schema.yaml")
plan = Plan(config)
# Jobs that use a GPU where there may be one.
GPU = int(config["device"] != "cpu")
# What the threads of networks hang on; Snakemake sets these by the cores there are.
THREADS = " ".join(f"{library}_NUM_THREADS={config['threads']}" for library in ("OMP", "MKL", "OPENBLAS"))
# Freed memory is kept instead of given back to the system and asked for again in every step: 1.4 times as many steps of a
# small network on a CPU core. (glibc reads these; other systems do not mind.)
THREADS += " MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456"
RUN = "|".join(map(re.escape, plan.runs)) or "no-run"

# Every job runs this checkout with the Python that runs Snakemake, unless the user asked for conda environments. Waiting
# threads sleep: where cores are shared, spinning ones slow the training of a small network tenfold.
HERE = "" if workflow.deployment_settings.deployment_method else f"export PATH='{Path(sys.executable).parent}':$PATH; "
shell.prefix(
    f"set -euo pipefail; {HERE}export OMP_WAIT_POLICY=passive PYTHONPATH='{ROOT}/src' SCRIPTS='{ROOT}/workflow/scripts'; "
)


scattergather:
    shards=config["shards"],


wildcard_constraints:
    dataset=r"[^/]+",
    split="|".join(SPLITS),
    run=RUN,
    task="|".join(TASKS),
    training="|".join((*TASKS, SHARED)),
    set=rf"(?:{RUN})/(?:{'|'.join(TASKS)})|[^/]+",
    own=r"[^/]+",
    stage="sample|relax|fingerprints",
    point=r"\d+",


def code(stage, run=None):
    """Returns the fingerprint of a stage's code, with the run's model where it takes part."""
    return code_of(stage, plan.model(run) if run else None)


@cache  # rules ask once for every job
def code_of(stage, model):
    """Returns the fingerprint of a stage's code, with a model's."""
    return fingerprint(ROOT / f"workflow/scripts/{stage}.py", *([model_file(model)] if model else []))


def split_of(*splits):
    """Returns an input function for splits of the data set that a set or run is compared with."""
    return lambda wildcards: [plan.split(wildcards.get("set") or wildcards.run, split) for split in splits]


def is_generated(wildcards):
    """Whether a set is compared with the test split as a whole, rather than target by target."""
    return plan.task(wildcards.set) in GENERATION


def is_relaxed(wildcards):
    """Whether a set's crystals are relaxed and compared with a hull."""
    return plan.relaxed(wildcards.set)
