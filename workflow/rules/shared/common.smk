"""What all rules share: the checked configuration, the plan, wildcards, input functions. Makes no files."""

import yaml
from snakemake.utils import validate

from xtalgen.experiment.config_values import check_values
from xtalgen.experiment.plan import Plan
from xtalgen.experiment.released_sets import RELEASED
from xtalgen.runtime.names import GENERATION, SHARED, SPLITS, TASKS

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
check_values(config, yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
validate(config, str(SCHEMA))  # sets the defaults
plan = Plan(config)
# Jobs that use a GPU where there may be one.
GPU = int(config["device"] != "cpu")
# What the threads of networks hang on; Snakemake sets these by the cores there are.
THREADS = " ".join(f"{library}_NUM_THREADS={config['threads']}" for library in ("OMP", "MKL", "OPENBLAS"))
# Freed memory is kept: 1.4 times as many steps of a small network on a CPU core. (Only glibc reads these.)
THREADS += " MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456"
RUN = "|".join(map(re.escape, plan.runs)) or "no-run"
# Sets that come as files: released samples, or a user's.
FILE = rf"(?:{'|'.join(map(re.escape, plan.released)) or 'no-set'})/{RELEASED}|[^/]+"


scattergather:
    shards=config["shards"],


wildcard_constraints:
    dataset=r"[^/]+",
    split="|".join(SPLITS),
    run=RUN,
    task="|".join(TASKS),
    training="|".join((*TASKS, SHARED)),
    set=rf"(?:{RUN})/(?:{'|'.join(TASKS)})|{FILE}",
    own=FILE,
    stage="sample|relax|fingerprints",
    point=r"\d+",


def split_of(*splits):
    """Returns an input function for splits of the data set that a set or run is compared with."""
    return lambda wildcards: [plan.split(wildcards.get("set") or wildcards.run, split) for split in splits]


def checkpoint_of(run, task):
    """Returns the checkpoint that samples a task; one that the user gives counts by content, not by date."""
    path = plan.checkpoint(run, task)
    return ancient(path) if plan.given(run, task) else path


def is_generated(wildcards):
    """Whether a set is compared with the test split as a whole, rather than target by target."""
    return plan.task(wildcards.set) in GENERATION


def is_relaxed(wildcards):
    """Whether a set's crystals are relaxed and compared with a hull."""
    return plan.relaxed(wildcards.set)
