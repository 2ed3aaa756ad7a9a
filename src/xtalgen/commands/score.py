"""The command `xtalgen score`: scores a file of structures without the workflow.

Nothing heavy is imported before the arguments are checked, so that help and errors appear at once.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xtalgen.commands.arguments import add_json, make_parser, positive, to_json
from xtalgen.commands.choices import DATA_SETS, DEFAULT_RECIPE, ENERGIES_OF_HULL, potential_names, recipe_names
from xtalgen.commands.data import describe_fetch
from xtalgen.experiment.places import user_cache
from xtalgen.io.structure_files import FORMATS
from xtalgen.runtime.errors import one_line

if TYPE_CHECKING:
    from xtalgen.commands.functions.scoring import Scored

EXAMPLES = f"""\
examples:
  xtalgen score mine.extxyz
  xtalgen score samples.npz --dataset mp_20 --recipe cdvae --explore
  xtalgen score mine.csv --column structure --dataset mp_20 --source ~/data/mp_20 --out scores
  xtalgen score mine.cif --dataset aflow_20 --relax chgnet
  xtalgen score mine.cif --relax chgnet --hull mp2020 --phase-diagram mp_entries.json.gz
  xtalgen score predictions.zip --dataset mp_20 --task csp

FILE: {", ".join(FORMATS)}; text files also with .gz.
A .npz has the arrays frac_coords, atom_types, num_atoms, lengths and angles.
Without --dataset validity, uniqueness and symmetry are computed, which takes seconds. A data set adds novelty, coverage
and the distances of density and number of elements; it is fetched once (see xtalgen data list).
Broken entries stay in every denominator. Slow results (the parsed data set, fingerprints, relaxed
structures) are cached by content, so a killed run resumes where it stopped.

--task csp: a structure is matched by name to the id of a test crystal (ID, a block data_ID of a CIF, ID.cif or
preds/ID.cif in a zip; ID_1, ID_2, … for several predictions). If no name is a test id, the order of the file
is used: the first k structures are predictions of the first test crystal. Test crystals without a prediction count as
missed.
"""


def main(argv: list[str] | None = None) -> None:
    """Scores the file named on the command line and prints its metrics.

    Ends the program with one line where another command would raise ValueError.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if reason := _contradiction(args):
        parser.error(reason)
    with one_line():
        from xtalgen.stages.import_structures import check_structure_file

        check_structure_file(args.structures)
        if args.dataset not in (None, *DATA_SETS) and args.source is None:
            raise ValueError(
                f"{args.dataset}: no published data set of this name; there are {', '.join(DATA_SETS)}. For your own "
                "give --source, a file or folder: a CSV with the columns material_id and cif."
            )
        sys.stdout.write(_run(args))


def _contradiction(args: argparse.Namespace) -> str | None:
    """Returns which arguments do not fit together; None where all do."""
    if args.dataset is None:
        for name in ("source", "partial"):
            if getattr(args, name):
                return f"--{name} needs --dataset"
        if args.task == "csp":
            return "--task csp compares with a test split: name its --dataset"
        if args.hull == "dft":
            return "--hull dft takes the formation energies of a data set: name it as --dataset"
    if args.hull != ENERGIES_OF_HULL[0] and args.relax is None:
        return f"--hull {args.hull} needs relaxed crystals: name a potential as --relax"
    if (args.hull == "mp2020") != (args.phase_diagram is not None):
        return "--hull mp2020 and --phase-diagram FILE go together"
    return None


def _run(args: argparse.Namespace) -> str:
    if args.dataset and args.source is None and (told := describe_fetch(args.dataset)):
        sys.stderr.write(f"{told}\n")

    from xtalgen.commands.functions.scoring import Request, score_request
    from xtalgen.metrics.protocols import choose_recipe
    from xtalgen.metrics.types import MetricConfig
    from xtalgen.runtime.parallel import available_cores

    settings = MetricConfig(choose_recipe(args.recipe), workers=args.workers or available_cores(), seed=args.seed)
    request = Request(
        args.structures,
        args.dataset,
        args.source,
        args.task,
        settings,
        args.cache.expanduser(),
        args.out or args.structures.parent,
        args.relax,
        hull=args.hull,
        phase_diagram=args.phase_diagram,
        column=args.column,
        partial=args.partial,
    )
    found = score_request(request)
    files = {"metrics": found.metrics, "crystals": found.ledger}
    if args.explore:
        files["page"] = _explore(found, request.name, args.seed)
    return _as_json(found, files) if args.json else _as_text(found, files, args.dataset)


def _explore(found: "Scored", name: str, seed: int) -> Path:
    from xtalgen.commands.functions.exploring import write_page

    return write_page(found.ledger, found.metrics.with_name(f"{name}.html"), metrics=found.metrics, seed=seed)


def _as_json(found: "Scored", files: dict[str, Path]) -> str:
    content = json.loads(found.metrics.read_text(encoding="utf-8"))
    return to_json({**content, "notes": found.notes, "files": files})


def _as_text(found: "Scored", files: dict[str, Path], dataset: str | None) -> str:
    from xtalgen.commands.functions.report import crystal_lines, report

    scores = found.read()
    notes = "".join(f"{note}\n" for note in found.notes)
    if dataset is None:
        notes += f"--dataset mp_20 adds novelty, coverage and distances of distributions. {describe_fetch('mp_20')}\n"
    listed = "".join(f"{file}\n" for file in files.values())
    return f"{report(scores.evaluation)}{crystal_lines(scores.described)}{notes}\n{listed}"


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "score",
        "Scores a file of crystal structures: prints every metric with its interval, writes them as JSON "
        "and the verdicts crystal by crystal as Parquet.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("structures", type=Path, metavar="FILE", help="the structures to score")
    add(
        "--column", metavar="NAME", help="of a table: the column that holds the structures (default: cif, structure, …)"
    )
    known = ", ".join(DATA_SETS)
    add("--dataset", metavar="NAME", help=f"data set to compare with: {known}, or any with --source (default: none)")
    add("--source", type=Path, help="folder with train, val and test of the data set (default: fetched or embedded)")
    add(
        "--recipe",
        choices=recipe_names(),
        default=DEFAULT_RECIPE,
        help="definitions of the metrics (default: %(default)s)",
    )
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
    _add_relaxation(parser)
    add("--explore", action="store_true", help="also write a page that shows the crystals on a map and in 3D")
    add("--out", type=Path, help="output folder (default: that of FILE)")
    add(
        "--cache",
        type=Path,
        default=user_cache(),
        help="folder of intermediate results kept between runs (default: %(default)s)",
    )
    add("--workers", type=positive, help="processes (default: all cores)")
    add("--seed", type=int, default=0, help="seed of random choices and resampling (default: 0)")
    add_json(parser)
    return parser


def _add_relaxation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    potentials = ", ".join(potential_names()[:2])
    add("--relax", metavar="POTENTIAL", help=f"relax with a potential first: {potentials}, a MACE model; for stability")
    add(
        "--hull",
        choices=ENERGIES_OF_HULL,
        default=ENERGIES_OF_HULL[0],
        help="energies on the hull: by the potential, from the data set, or of a phase diagram (default: %(default)s)",
    )
    add("--phase-diagram", type=Path, metavar="FILE", help="with --hull mp2020: entries of the Materials Project, JSON")
