"""Scores a file of structures: reads it and the data set, relaxes if requested, and caches slow results."""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtalgen.commands.targets import write_with_targets
from xtalgen.crystals import read_facts
from xtalgen.datasets.registry import DATA_SETS
from xtalgen.datasets.sources import find_source
from xtalgen.metrics.choices import Split
from xtalgen.metrics.types import MetricConfig
from xtalgen.runtime.atomic import keep
from xtalgen.runtime.provenance import PACKAGE
from xtalgen.runtime.provenance import fingerprint as code_fingerprint
from xtalgen.runtime.resume import content_key
from xtalgen.stages.data import prepare_data
from xtalgen.stages.evaluate import Sources, evaluate
from xtalgen.stages.fingerprints import compute_fingerprints
from xtalgen.stages.import_structures import write_structures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Options of a scoring run.

    source: folder or file of the data set, None for the embedded or published one; partial: whether test crystals
    without a prediction are left out rather than counted as missed.
    """

    structures: Path
    dataset: str
    source: Path | None
    task: str
    settings: MetricConfig
    cache: Path
    out: Path
    potential: str | None = None
    partial: bool = False
    fingerprint_timeout: float = 20.0


@dataclass(frozen=True)
class Scored:
    """The files written: metrics (JSON) and verdicts per crystal (Parquet). notes: messages for the user."""

    metrics: Path
    ledger: Path
    notes: list[str] = field(default_factory=list)


def score(request: Request) -> Scored:
    """Scores a file of structures and writes metrics and verdicts.

    Raises ValueError, OSError, DownloadError or PotentialError, saying what to do, when a file is wrong as a whole.
    """
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # once per noble gas
    name = request.structures.name.split(".")[0]
    folder = request.cache / "sets" / _key(request)
    sample = keep(folder / "sample.parquet", lambda out: _import(request, out), read_facts)
    splits = {split.value: _split(request, split.value) for split in Split}
    relaxed = hull = None
    notes: list[str] = []
    if request.task == "csp":
        named = folder / f"targets-{request.dataset}.parquet"
        notes = write_with_targets(sample, splits["test"], named, partial=request.partial)
        sample = named
    elif request.potential:
        relaxed, hull = _relax(request, sample, folder, list(splits.values()))
    prints = (
        [None, None] if request.task == "csp" else [_fingerprints(request, each) for each in (sample, splits["test"])]
    )
    sources = Sources(
        sample=sample,
        train=splits["train"],
        test=splits["test"],
        val=splits["val"],
        relaxed=relaxed,
        hull=hull,
        fingerprints=prints[0],
        reference_fingerprints=prints[1],
    )
    metrics, ledger = (request.out / f"{name}-{end}" for end in ("metrics.json", "ledger.parquet"))
    evaluate(
        request.task, sources, request.settings, out_table=ledger, out_json=metrics, name=name, work=folder / "work"
    )
    return Scored(metrics, ledger, notes)


def _key(request: Request) -> str:
    reading = code_fingerprint(PACKAGE / "stages/import_structures.py")
    return content_key(request.structures, name=request.structures.name, reading=reading)[:32]


def _import(request: Request, out: Path) -> None:
    write_structures(request.structures, out, request.settings.workers).require_crystals()


def _split(request: Request, split: str) -> Path:
    """Returns the table of a split of the data set, cached by the content of its source."""
    known = DATA_SETS.get(request.dataset)
    needed = tuple(map(str, Split)) if known and known.grouped_from else (split,)
    files = [] if request.source is None else [find_source(request.source, name) for name in needed]
    code = code_fingerprint(PACKAGE / "stages/data.py")
    key = content_key(*files, dataset=request.dataset, split=split, code=code)[:32]

    def make(out: Path) -> None:
        log.info("%s %s: reading %s", request.dataset, split, request.source or "the published split")
        prepare_data(
            request.dataset,
            split,
            source=request.source,
            out=out,
            workers=request.settings.workers,
            limit=None,
            seed=0,
            downloads=request.cache / "downloads",
        )

    return keep(request.cache / "data" / f"{request.dataset}-{split}-{key}.parquet", make, read_facts)


def _fingerprints(request: Request, crystals: Path) -> Path:
    """Returns the fingerprints of a table, cached by its content."""
    code = code_fingerprint(PACKAGE / "featurizers/fingerprints.py")
    key = content_key(crystals, code=code, timeout=request.fingerprint_timeout)[:32]

    def make(out: Path) -> None:
        compute_fingerprints(
            crystals,
            out=out,
            work=request.cache / "work" / key,
            workers=request.settings.workers,
            timeout=request.fingerprint_timeout,
            limit=None,
            seed=0,
        )

    return keep(request.cache / "fingerprints" / f"{key}.parquet", make, read_facts)


def _relax(request: Request, sample: Path, folder: Path, splits: list[Path]) -> tuple[Path, Path]:
    """Returns the relaxed structures, and the hull of the data set with the same potential."""
    from xtalgen.potentials.registry import identify
    from xtalgen.stages.hull import write_hull
    from xtalgen.stages.relax import relax

    name = request.potential or ""
    key = identify(name, None).sha256[:12]
    shared: dict[str, Any] = {"potential": name, "fmax": 0.05, "workers": request.settings.workers, "timeout": 600.0}
    relaxed = keep(
        folder / f"relaxed-{key}.parquet",
        lambda out: relax(sample, max_steps=500, work=folder / f"relaxing-{key}", out=out, **shared),
        read_facts,
    )
    reference = content_key(*splits, potential=key)[:12]
    return relaxed, keep(
        folder / f"hull-{reference}.parquet",
        lambda out: write_hull(relaxed, splits, relax_steps=500, cache=request.cache / "hull" / key, out=out, **shared),
        read_facts,
    )
