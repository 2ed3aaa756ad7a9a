"""The one list of forms that `xtalgen convert` writes. Importing it imports no library of crystals."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.io.writers.encoding import name_of, to_cif, to_dictionary, to_frame, to_json, to_poscar
from xtalgen.io.writers.frames import write_cifs, write_database, write_extxyz, write_mattergen
from xtalgen.io.writers.symmetric_cif import to_symmetric_cif
from xtalgen.io.writers.tables import (
    write_atombench,
    write_csv,
    write_jsonl,
    write_lemat,
    write_matbench,
    write_parquet,
)

TARGET = "target"  # key of a crystal's `info`: the crystal that it predicts
BOARD = 2500  # crystals on LeMat-GenBench's board


@dataclass(frozen=True)
class Form:
    """How crystals are written: each is encoded, possibly in a worker process, then all are written one by one.

    about: what the file is; suffixes: its endings, the first of which names the form, none for a folder. encode:
    crystal and symprec (Å) → what `write` takes with it. failed: whether a row that is no crystal has a place. n:
    number of crystals to draw unless another is asked for.
    """

    about: str
    suffixes: tuple[str, ...]
    encode: Callable[[Crystal, float], Any]
    write: Callable[[Iterable[tuple[Crystal, Any]], Path], None]
    failed: bool = False
    n: int | None = None
    targets: bool = False


def _nothing(crystal: Crystal, symprec: float) -> None:
    del crystal, symprec


def _cif(crystal: Crystal, symprec: float) -> str:
    """Returns a CIF with symmetry, or without where there is none to find or symprec is 0."""
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name_of(crystal))
    return (to_symmetric_cif(crystal, name, symprec) if symprec > 0 else None) or to_cif(crystal)


def _plain(encode: Callable[[Crystal], Any]) -> Callable[[Crystal, float], Any]:
    return lambda crystal, symprec: encode(crystal)  # noqa: ARG005 - the form knows no symmetry


def _mattergen(crystal: Crystal) -> tuple[str, str]:
    return to_frame(crystal), to_cif(crystal)


def _pair(crystal: Crystal) -> tuple[str, str]:
    """Returns the POSCARs of target and prediction; the latter is empty where there is none."""
    return to_poscar(crystal.info[TARGET]), to_poscar(crystal) if crystal.ok else ""


FORMS: dict[str, Form] = {
    "extxyz": Form("extended XYZ, as ASE writes it", (".extxyz", ".xyz"), _plain(to_frame), write_extxyz),
    "csv": Form("a CIF per row, in CDVAE's columns", (".csv", ".csv.gz"), _plain(to_cif), write_csv, failed=True),
    "parquet": Form("a crystal table of xtalgen", (".parquet",), _nothing, write_parquet, failed=True),
    "jsonl": Form(
        "a pymatgen structure per line", (".jsonl", ".jsonl.gz"), _plain(to_dictionary), write_jsonl, failed=True
    ),
    "cif": Form("CIFs with symmetry, in a zip archive or one file", (".zip", ".cif"), _cif, write_cifs),
    "ase": Form("an ASE database", (".db",), _nothing, write_database),
    "mattergen": Form("MatterGen's folder: extxyz, CIFs, energies.npy", (), _plain(_mattergen), write_mattergen),
    "lemat-genbench": Form(
        f"LeMat-GenBench's CSV, {BOARD:,} crystals", (".csv",), _plain(to_json), write_lemat, failed=True, n=BOARD
    ),
    "atombench": Form(
        "AtomBench's CSV of targets and predictions", (".csv",), _plain(_pair), write_atombench, failed=True,
        targets=True,
    ),
    "matbench-discovery": Form(
        "matbench-discovery's relaxed structures", (".jsonl.gz",), _plain(to_dictionary), write_matbench, failed=True
    ),
}  # fmt: skip
# What a suffix stands for where no form is asked for.
USUAL = {suffix: name for name, form in reversed(FORMS.items()) for suffix in form.suffixes}


def describe_forms() -> str:
    """Returns the list of forms as a Markdown table."""
    rows = [
        f"| `{name}` | {form.about} | {', '.join(f'`{suffix}`' for suffix in form.suffixes) or 'folder'} | "
        f"{'keep a row without a structure' if form.failed else 'are listed in `OUT.failed.csv`'} |"
        for name, form in FORMS.items()
    ]
    head = "| form (`--to` of xtalgen convert) | what is written | the file ends in | entries that are no crystals |"
    return "\n".join([head, "|---|---|---|---|", *rows, ""])
