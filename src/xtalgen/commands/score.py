"""Scores a file of structures without the workflow: `python -m xtalgen score FILE --dataset mp_20`."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.datasets.registry import DATA_SETS
from xtalgen.datasets.sources import find_source
from xtalgen.metrics.protocols import DEFAULT, RECIPES, choose_recipe
from xtalgen.metrics.registry import METRICS, for_task
from xtalgen.metrics.result_file import Evaluation, read_evaluation
from xtalgen.metrics.types import Settings
from xtalgen.report.score_table import ARROWS
from xtalgen.runtime.parallel import available_cores
from xtalgen.runtime.provenance import PACKAGE
from xtalgen.runtime.provenance import fingerprint as code_fingerprint
from xtalgen.runtime.resume import content_key
from xtalgen.stages.data import prepare_split
from xtalgen.stages.evaluate import Sources, evaluate
from xtalgen.stages.fingerprints import fingerprint
from xtalgen.stages.import_structures import COLUMNS, read_structures

SPLITS = ("train", "val", "test")
EXAMPLES = """\
examples:
  python -m xtalgen score samples.npz --dataset mp_20 --recipe cdvae
  python -m xtalgen score mine.extxyz --dataset mp_20 --source ~/data/mp_20 --out scores
  python -m xtalgen score mine.cif --dataset aflow_20 --relax chgnet
  python -m xtalgen score predictions.zip --dataset mp_20 --task csp

FILE: .extxyz, .xyz, .cif, .zip of CIFs, .csv with a column cif, pymatgen .json[.gz], or .npz with the arrays
frac_coords, atom_types, num_atoms, lengths and angles. Broken entries stay in every denominator. What takes long (the
parsed data set, fingerprints, relaxed structures) is kept in the cache and found again by content; a killed run goes on
where it stopped. For --task csp every structure predicts the test crystal whose id it bears as its name, or, in order,
the test crystals one by one (with k structures for each: the first k are those of the first crystal).
"""


@dataclass(frozen=True)
class Request:
    """What is asked for; source: folder or file of the data set, None for the embedded or published one."""

    structures: Path
    dataset: str
    source: Path | None
    task: str
    settings: Settings
    cache: Path
    out: Path
    potential: str | None = None
    fingerprint_timeout: float = 20.0


def main(argv: list[str] | None = None) -> None:
    """Scores the file that the command line names and prints its metrics."""
    args = _parser().parse_args(argv)
    try:
        recipe = choose_recipe(args.recipe)
        settings = Settings(recipe, workers=args.workers, seed=args.seed)
        request = Request(
            args.structures, args.dataset, args.source, args.task, settings, args.cache.expanduser(),
            args.out or args.structures.parent, args.relax,
        )  # fmt: skip
        metrics, ledger = score(request)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    sys.stdout.write(report(read_evaluation(metrics)) + f"\n{metrics}\n{ledger}\n")


def score(request: Request) -> tuple[Path, Path]:
    """Returns the files written: the metrics (JSON) and the verdicts crystal by crystal (Parquet).

    Raises ValueError, OSError, DownloadError or PotentialError, saying what to do, when a file is wrong as a whole.
    """
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # once per noble gas
    name = request.structures.name.split(".")[0]
    folder = request.cache / "sets" / _key(request)
    sample = _kept(folder / "sample.parquet", lambda out: _import(request, out))
    splits = {split: _split(request, split) for split in SPLITS}
    relaxed = hull = None
    if request.task == "csp":
        sample = _with_targets(sample, splits["test"], folder / f"targets-{request.dataset}.parquet")
    elif request.potential:
        relaxed, hull = _relax(request, sample, folder, list(splits.values()))
    prints = (
        [None, None] if request.task == "csp" else [_fingerprints(request, each) for each in (sample, splits["test"])]
    )
    sources = Sources(
        sample=sample, train=splits["train"], test=splits["test"], val=splits["val"], relaxed=relaxed, hull=hull,
        fingerprints=prints[0], reference_fingerprints=prints[1],
    )  # fmt: skip
    metrics, ledger = (request.out / f"{name}-{end}" for end in ("metrics.json", "ledger.parquet"))
    evaluate(
        request.task, sources, request.settings, out_table=ledger, out_json=metrics, name=name, work=folder / "work"
    )
    return metrics, ledger


def report(evaluation: Evaluation) -> str:
    """Returns the metrics of a set for a terminal: value, 95 % interval and n of each, funnel, failures, recipe."""
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
    parser = argparse.ArgumentParser(
        prog="python -m xtalgen score",
        description="Scores a file of crystal structures: prints every metric with its interval, writes them as JSON "
        "and the verdicts crystal by crystal as Parquet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "xtalgen"
    add = parser.add_argument
    add("structures", type=Path, metavar="FILE", help="the structures to score")
    add("--dataset", default="mp_20", help=f"what to compare with: {', '.join(DATA_SETS)}, or another with --source")
    add(
        "--source", type=Path, help="folder with train, val and test of the data set; by default downloaded or embedded"
    )
    add("--recipe", choices=RECIPES, default=DEFAULT, help="whose definitions to follow (default: %(default)s)")
    add(
        "--task",
        choices=("own", "csp"),
        default="own",
        help="own: structures as such; csp: predictions of the test split",
    )
    add("--relax", metavar="POTENTIAL", help="relax with chgnet or a MACE model first; without, no stability")
    add("--out", type=Path, help="folder to write to; by default that of FILE")
    add("--cache", type=Path, default=cache, help="folder of what is kept between runs (default: %(default)s)")
    add("--workers", type=int, default=available_cores(), help="processes (default: all cores)")
    add("--seed", type=int, default=0, help="of draws and resampling (default: 0)")
    return parser


def _key(request: Request) -> str:
    if not request.structures.is_file():
        raise FileNotFoundError(f"{request.structures}: there is no such file.")
    reading = code_fingerprint(PACKAGE / "stages/import_structures.py")
    return content_key(request.structures, name=request.structures.name, reading=reading)[:32]


def _kept(path: Path, make: Callable[[Path], None]) -> Path:
    """Returns the path, made first where it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path


def _import(request: Request, out: Path) -> None:
    write_table(to_table(read_structures(request.structures, request.settings.workers), COLUMNS), out)


def _split(request: Request, split: str) -> Path:
    """Returns the table of a split of the data set, parsed once for each content."""
    known = DATA_SETS.get(request.dataset)
    needed = SPLITS if known and known.grouped_from else (split,)
    files = [] if request.source is None else [find_source(request.source, name) for name in needed]
    code = code_fingerprint(PACKAGE / "stages/data.py")
    key = content_key(*files, dataset=request.dataset, split=split, code=code)[:32]

    def make(out: Path) -> None:
        print(f"{request.dataset} {split}: reading {request.source or 'the published split'}", file=sys.stderr)
        prepare_split(
            request.dataset, split, source=request.source, out=out, workers=request.settings.workers, limit=None,
            seed=0, downloads=request.cache / "downloads",
        )  # fmt: skip

    return _kept(request.cache / "data" / f"{request.dataset}-{split}-{key}.parquet", make)


def _fingerprints(request: Request, crystals: Path) -> Path:
    """Returns the fingerprints of a table, computed once for each content."""
    code = code_fingerprint(PACKAGE / "featurizers/fingerprints.py")
    key = content_key(crystals, code=code, timeout=request.fingerprint_timeout)[:32]

    def make(out: Path) -> None:
        fingerprint(
            crystals, out=out, work=request.cache / "work" / key, workers=request.settings.workers,
            timeout=request.fingerprint_timeout, limit=None, seed=0,
        )  # fmt: skip

    return _kept(request.cache / "fingerprints" / f"{key}.parquet", make)


def _relax(request: Request, sample: Path, folder: Path, splits: list[Path]) -> tuple[Path, Path]:
    """Returns the relaxed structures and the hull of the data set by the same potential."""
    from xtalgen.potentials.registry import identify
    from xtalgen.stages.hull import hull
    from xtalgen.stages.relax import relax

    name = request.potential or ""
    key = identify(name, None).sha256[:12]
    shared: dict[str, Any] = {"potential": name, "fmax": 0.05, "workers": request.settings.workers, "timeout": 600.0}
    relaxed = _kept(
        folder / f"relaxed-{key}.parquet",
        lambda out: relax(sample, max_steps=500, work=folder / f"relaxing-{key}", out=out, **shared),
    )
    reference = content_key(*splits, potential=key)[:12]
    return relaxed, _kept(
        folder / f"hull-{reference}.parquet",
        lambda out: hull(relaxed, splits, relax_steps=500, cache=request.cache / "hull" / key, out=out, **shared),
    )


def _with_targets(sample: Path, test: Path, out: Path) -> Path:
    """Writes the sample with the id of each structure's target. Raises ValueError where that cannot be told."""
    crystals, targets = read_crystals(sample), [crystal.id for crystal in read_crystals(test)]
    named = [crystal.info.get("source_name") for crystal in crystals]
    if not set(named) <= set(targets):
        if len(crystals) % len(targets):
            raise ValueError(
                f"{len(crystals)} structures, {len(targets)} test crystals: give each structure the id of its target "
                "as its name, or the same number of structures for every target, in order."
            )
        several = len(crystals) // len(targets)
        named = [target for target in targets for _ in range(several)]
    rows = [
        Crystal(crystal.id, crystal.status, crystal.lattice, crystal.frac_coords, crystal.atomic_numbers,
                {**crystal.info, "target_id": target})
        for crystal, target in zip(crystals, named, strict=True)
    ]  # fmt: skip
    write_table(to_table(rows, COLUMNS | {"target_id": pa.string()}), out)
    return out
