"""Commands of jobs, and what their results depend on: fingerprints of code, contents of files. Defines no rules."""

import shlex
import sys
from functools import cache

from xtalgen.experiment.model_traits import model_file
from xtalgen.runtime.provenance import contents, fingerprint

# Every job runs this checkout with the Python that runs Snakemake, unless the user asked for conda environments. Text is
# UTF-8 in any locale. Waiting threads sleep: where cores are shared, spinning ones slow a small network tenfold.
PYTHON = Path(sys.executable).parent
HERE = "" if workflow.deployment_settings.deployment_method else f"export PATH={shlex.quote(str(PYTHON))}:$PATH; "
shell.prefix(
    f"set -euo pipefail; {HERE}export OMP_WAIT_POLICY=passive PYTHONUTF8=1 XTALGEN_JOB=1 "
    f"XTALGEN_DATA={shlex.quote(str(plan.data_root.absolute()))} "
    f"PYTHONPATH={shlex.quote(str(ROOT / 'src'))} SCRIPTS={shlex.quote(str(ROOT / 'workflow/scripts'))}; "
)


def code(stage, run=None):
    """Returns the fingerprint of a stage's code, including the run's model."""
    return code_of(stage, plan.model(run) if run else None)


@cache  # rules ask once for every job
def code_of(stage, model):
    """Returns the fingerprint of a stage's code, including a model's."""
    return fingerprint(ROOT / f"workflow/scripts/{stage}.py", *([model_file(model)] if model else []))


def options(**values):
    """Returns command-line arguments: `--name value …`; `--name` alone for True, nothing for None, False or []."""
    words = []
    for name, value in values.items():
        if value is not None and value is not False and value != []:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else value if isinstance(value, list) else [value]
    return list(map(str, words))


def layers(sets, datasets, sample):
    """Returns the arguments naming the files of the sets on the map and of the data sets beneath them."""
    words = []
    for name in sets:
        words += ["--set", name, f"results/evaluate/{name}.parquet", sample.format(set=name)]
        words += [f"results/embeddings/{name}.parquet", f"results/evaluate/{name}.json"]
    for name in datasets:
        words += ["--reference", f"{name} test", f"results/data/{name}/test.parquet"]
        words += [f"results/embeddings/reference/{name}.parquet"]
    return words
