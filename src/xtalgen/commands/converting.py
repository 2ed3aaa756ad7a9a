"""Writes a user's structures in another form: reads, draws, encodes and writes them as streams."""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.commands.targets import NOT_PREDICTED, pair
from xtalgen.crystals import Crystal
from xtalgen.io.writers.encoding import name_of
from xtalgen.io.writers.registry import FORMS, TARGET, Form
from xtalgen.runtime.atomic import unfinished
from xtalgen.runtime.parallel import Failure, map_in_chunks, progress_bar
from xtalgen.stages.import_structures import Summary, iterate_structures, parts_of, read_structures

log = logging.getLogger(__name__)
BATCH = 1024  # crystals that are encoded at once
FEW = 200  # crystals that are encoded in this process
SECONDS_PER_CRYSTAL = 60.0


@dataclass(frozen=True)
class Conversion:
    """What to convert, and how.

    structures: file or folder; form: a key of `FORMS`; out: file, or folder, to write. column: of a table, the one that
    holds the crystals; files: pattern of the names of a folder's files. n: number of crystals to draw at random with
    `seed`, None for that of the form, 0 for all. symprec: tolerance of the symmetry in CIFs, in Å, 0 for none. targets:
    file of the crystals that are predicted.
    """

    structures: Path
    form: str
    out: Path
    column: str | None = None
    files: str | None = None
    n: int | None = None
    seed: int = 0
    symprec: float = 0.01
    targets: Path | None = None
    workers: int = 1


@dataclass
class Converted:
    """What was done: rows read, drawn and written; those that are no crystals by status; the file that lists them."""

    out: Path
    read: int = 0
    drawn: int = 0
    written: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed: Path | None = None


def convert(conversion: Conversion) -> Converted:
    """Writes structures in another form, in the order of the file, and returns what was done.

    Rows that are no crystals keep their place where the form has one, and are listed in `OUT.failed.csv` otherwise.
    What was parsed is kept beside `out` until all is written, so that a killed run resumes. Raises ValueError or
    OSError, saying what to do, when a file is wrong as a whole, or when no row is a crystal.
    """
    form, summary = FORMS[conversion.form], Summary(conversion.structures)
    found = Converted(conversion.out)
    parts = parts_of(
        conversion.structures,
        conversion.out.with_name(f".{conversion.out.name}.parts"),
        conversion.column,
        conversion.files,
    )
    crystals = iterate_structures(
        conversion.structures, conversion.workers, conversion.column, files=conversion.files, parts=parts
    )
    rows = _drawn(_counted(crystals, summary), form, conversion)
    if conversion.targets is not None:
        rows = iter(_with_targets(list(rows), read_structures(conversion.targets, conversion.workers)))
    listed = conversion.out.with_name(f"{conversion.out.name}.failed.csv")
    with unfinished(listed) as part, part.open("w", encoding="utf-8", newline="") as file:
        form.write(_written(_encoded(rows, conversion), form, found, csv.writer(file)), conversion.out)
    if found.failures and not form.failed:
        found.failed = listed
    else:
        listed.unlink()
    parts.clear()
    summary.report()
    summary.require_crystals()
    found.read = summary.counts.total()
    return found


def _counted(crystals: Iterable[Crystal], summary: Summary) -> Iterator[Crystal]:
    for crystal in crystals:
        yield from summary.of([crystal])


def _drawn(crystals: Iterable[Crystal], form: Form, conversion: Conversion) -> Iterator[Crystal]:
    """Yields all crystals, or those drawn at random, in the order of the file."""
    n = form.n if conversion.n is None else conversion.n
    if not n:
        yield from crystals
        return
    chosen = draw(crystals, n, conversion.seed)
    if len(chosen) < n:
        log.warning("%d crystals were asked for; %s holds %d", n, conversion.structures, len(chosen))
    yield from chosen


def draw(items: Iterable[Any], n: int, seed: int) -> list[Any]:
    """Returns n items drawn without replacement, each with equal chance, in their order; all where there are fewer.

    One pass that keeps n items (reservoir sampling; Vitter, ACM Trans. Math. Softw. 11, 37, 1985, algorithm R).
    """
    generator = np.random.default_rng(seed)
    kept: list[tuple[int, Any]] = []
    for index, item in enumerate(items):
        if len(kept) < n:
            kept.append((index, item))
        elif (place := int(generator.integers(index + 1))) < n:
            kept[place] = (index, item)
    return [item for _, item in sorted(kept, key=lambda one: one[0])]


def _with_targets(predictions: list[Crystal], targets: list[Crystal]) -> list[Crystal]:
    """Returns the predictions in the order of their targets, those without a prediction with a row of their own.

    Raises ValueError as `targets.pair` does, and where a target is no crystal.
    """
    broken = [target for target in targets if not target.ok]
    if broken:
        raise ValueError(f"target {name_of(broken[0])} is no crystal: {broken[0].info.get('error')}. Leave it out.")
    names = [name_of(target) for target in targets]
    of_target: dict[str, list[Crystal]] = {name: [] for name in names}
    pairing = pair([crystal.info.get("source_name") for crystal in predictions], names)
    for crystal, name in zip(predictions, pairing.targets, strict=True):
        of_target[name].append(crystal)
    return [
        replace(crystal, info={**crystal.info, TARGET: target, "source_name": name})
        for name, target in zip(names, targets, strict=True)
        for crystal in of_target[name] or [Crystal("", NOT_PREDICTED, info={"error": "there is no prediction"})]
    ]


def _encoded(crystals: Iterable[Crystal], conversion: Conversion) -> Iterator[tuple[Crystal, Any]]:
    """Yields crystals and what the form makes of each; one that cannot be encoded has a status and no text."""
    remaining = iter(crystals)
    encode = partial(encode_crystal, conversion.form, conversion.symprec)
    with progress_bar(f"write {conversion.form}") as bar:
        while batch := list(islice(remaining, BATCH)):
            few = len(batch) <= FEW
            timeout = None if few else SECONDS_PER_CRYSTAL
            results = map_in_chunks(encode, batch, workers=1 if few else conversion.workers, timeout=timeout, bar=bar)
            for crystal, result in zip(batch, results, strict=True):
                if isinstance(result, Failure):
                    error = f"cannot be written as {conversion.form}: {result.message}"
                    yield replace(crystal, status="unwritable", info={**crystal.info, "error": error}), None
                else:
                    yield crystal, result


def encode_crystal(form: str, symprec: float, crystal: Crystal) -> Any:
    """Returns what a form makes of a crystal; None of a row that is none."""
    return FORMS[form].encode(crystal, symprec) if crystal.ok or TARGET in crystal.info else None


def _written(
    rows: Iterable[tuple[Crystal, Any]], form: Form, found: Converted, failed: Any
) -> Iterator[tuple[Crystal, Any]]:
    """Yields the rows that are written; those that have no place in the form go to the list of failed ones."""
    failed.writerow(["id", "name", "status", "error"])
    for crystal, encoded in rows:
        found.drawn += 1
        if not crystal.ok:
            found.failures[crystal.status] += 1
            failed.writerow([crystal.id, name_of(crystal), crystal.status, crystal.info.get("error")])
        if crystal.ok or form.failed:
            found.written += 1
            yield crystal, encoded
