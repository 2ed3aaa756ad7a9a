"""The command `xtalgen score`: scores a file of structures without the workflow.

Nothing heavy is imported before the arguments are checked, so that help and errors appear at once.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xtalgen.io.structure_files import FORMATS
from xtalgen.runtime.errors import one_line
from xtalgen.stages.import_structures import check_structure_file

if TYPE_CHECKING:
    from xtalgen.metrics.result_file import Evaluation

EXAMPLES = f"""\
examples:
  xtalgen score samples.npz --dataset mp_20 --recipe cdvae
  xtalgen score mine.extxyz --dataset mp_20 --source ~/data/mp_20 --out scores
  xtalgen score mine.cif --dataset aflow_20 --relax chgnet
  xtalgen score predictions.zip --dataset mp_20 --task csp

FILE: {", ".join(FORMATS)}; text files also with .gz.
A .csv has a column cif, a .npz the arrays frac_coords, atom_types, num_atoms, lengths and angles.
Broken entries stay in every denominator. Slow results (the parsed data set, fingerprints, relaxed
structures) are cached by content, so a killed run resumes where it stopped.

--task csp: a structure is matched by name to the id of a test crystal (ID, a block data_ID of a CIF, ID.cif or
preds/ID.cif in a zip; ID_1, ID_2, … for several predictions). If no name is a test id, the order of the file
is used: the first k structures are predictions of the first test crystal. Test crystals without a prediction count as
missed.
"""


def main(argv: list[str] | None = None) -> None:
    """Scores the file named on the command line and prints its metrics."""
    args = _parser().parse_args(argv)
    with one_line():
        check_structure_file(args.structures)
        sys.stdout.write(_run(args))


def _run(args: argparse.Namespace) -> str:
    from xtalgen.commands.scoring import Request, score
    from xtalgen.metrics.protocols import choose_recipe
    from xtalgen.metrics.result_file import read_evaluation
    from xtalgen.metrics.types import MetricConfig

    settings = MetricConfig(choose_recipe(args.recipe), workers=args.workers, seed=args.seed)
    request = Request(
        args.structures,
        args.dataset,
        args.source,
        args.task,
        settings,
        args.cache.expanduser(),
        args.out or args.structures.parent,
        args.relax,
        partial=args.partial,
    )
    found = score(request)
    notes = "".join(f"{note}\n" for note in found.notes)
    return f"{report(read_evaluation(found.metrics))}{notes}\n{found.metrics}\n{found.ledger}\n"


def report(evaluation: "Evaluation") -> str:
    """Returns the metrics of a set for a terminal: value, 95 % interval and n of each, funnel, failures, recipe."""
    from xtalgen.metrics.registry import METRICS, for_task
    from xtalgen.report.score_table import ARROWS

    rows = [("", "value", "95 % interval", "n")]
    absent: dict[str | None, list[str]] = {}
    for metric in for_task(evaluation.task):
        found = evaluation.value(metric.name)
        if found.value is None:
            absent.setdefault(found.reason, []).append(METRICS[metric.name].label)
            continue
        scale, unit = (100.0, "%") if metric.percent else (1.0, metric.unit)
        label = f"{metric.label}{f' ({unit})' if unit else ''} {ARROWS[metric.better]}"
        bounds = (
            "" if found.low is None or found.high is None else f"{found.low * scale:.4g} to {found.high * scale:.4g}"
        )
        rows.append((label, f"{found.value * scale:.4g}", bounds, f"{found.n:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    compared = f"compared with {evaluation.dataset}, recipe {evaluation.recipe_name}"
    head = f"{evaluation.set}: {evaluation.n:,} crystals, {compared}"
    facts = ["funnel: " + " > ".join(f"{step} {count:,}" for step, count in evaluation.funnel)]
    facts += [f"failures: {', '.join(f'{name} {count:,}' for name, count in evaluation.failures.items())}"] * bool(
        evaluation.failures
    )
    facts += [f"not computed ({reason}): {', '.join(labels)}" for reason, labels in absent.items()]
    facts += [f"recipe: {evaluation.recipe['about']}"]
    followed = evaluation.recipe.get("not_followed")
    facts += [f"not followed: {followed}"] * bool(followed)
    facts += [f"data: {caveat}" for caveat in evaluation.data.get("caveats") or []]
    return "\n".join([head, "", *lines, "", *facts, ""])


def _parser() -> argparse.ArgumentParser:
    from xtalgen.datasets.registry import DATA_SETS
    from xtalgen.metrics.protocols import DEFAULT, RECIPES
    from xtalgen.runtime.parallel import available_cores

    parser = argparse.ArgumentParser(
        prog="xtalgen score",
        description="Scores a file of crystal structures: prints every metric with its interval, writes them as JSON "
        "and the verdicts crystal by crystal as Parquet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "xtalgen"
    add = parser.add_argument
    add("structures", type=Path, metavar="FILE", help="the structures to score")
    add(
        "--dataset",
        default="mp_20",
        help=f"data set to compare with: {', '.join(DATA_SETS)}, or any with --source",
    )
    add("--source", type=Path, help="folder with train, val and test of the data set (default: downloaded or embedded)")
    add("--recipe", choices=RECIPES, default=DEFAULT, help="definitions of the metrics (default: %(default)s)")
    add(
        "--task",
        choices=("own", "csp"),
        default="own",
        help="own: structures judged as a set; csp: predictions for the test split",
    )
    add(
        "--partial",
        action="store_true",
        help="with --task csp: leave out test crystals without a prediction; otherwise they count as missed",
    )
    add("--relax", metavar="POTENTIAL", help="potential to relax with, chgnet or a MACE model; needed for stability")
    add("--out", type=Path, help="output folder (default: that of FILE)")
    add(
        "--cache",
        type=Path,
        default=cache,
        help="folder of intermediate results kept between runs (default: %(default)s)",
    )
    add("--workers", type=int, default=available_cores(), help="processes (default: all cores)")
    add("--seed", type=int, default=0, help="seed of random choices and resampling (default: 0)")
    return parser
