"""Files of frames: extended XYZ, MatterGen's output folder, ASE's databases. A row without a crystal has no place."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.writers.archives import FileNames, zip_writer
from xtalgen.io.writers.encoding import energy_of, name_of, to_atoms
from xtalgen.io.writers.symmetric_cif import HEAD
from xtalgen.runtime.atomic import unfinished

log = logging.getLogger(__name__)
DATA = re.compile(r"^data_.*$", re.MULTILINE)
MATTERGEN = ("generated_crystals.extxyz", "generated_crystals_cif.zip", "energies.npy")


def write_extxyz(rows: Iterable[tuple[Crystal, str]], out: Path) -> None:
    """Writes frames to an extended XYZ file; each has `name` and, where one was given, `energy` (eV)."""
    with _text(out) as file:
        file.writelines(frame for _, frame in rows)


def write_cifs(rows: Iterable[tuple[Crystal, str]], out: Path) -> None:
    """Writes CIFs to a zip archive, or as blocks of one file; each bears the name of its crystal."""
    names, total, symmetric = FileNames(), 0, 0
    with _blocks(out) if out.suffix.lower() == ".cif" else zip_writer(out) as add:
        for crystal, text in rows:
            add(f"{names.of(name_of(crystal))}.cif", text)
            total, symmetric = total + 1, symmetric + text.startswith(HEAD)
    log.info("%s: %d of %d CIFs state a symmetry, the others are P 1", out, symmetric, total)


def write_mattergen(rows: Iterable[tuple[Crystal, tuple[str, str]]], out: Path) -> None:
    """Writes a folder as MatterGen does (microsoft/mattergen, common/utils/eval_utils.py), from frames and CIFs.

    `energies.npy`, one energy (eV) per crystal for `mattergen-evaluate --energies_path`, is left out with a warning
    where a crystal has none.
    """
    frames, cifs, energies = (out / name for name in MATTERGEN)
    given: list[float | None] = []
    with _text(frames) as file, zip_writer(cifs) as add:
        for index, (crystal, (frame, cif)) in enumerate(rows):
            file.write(frame)
            add(f"gen_{index}.cif", cif)
            given.append(energy_of(crystal))
    absent = sum(energy is None for energy in given)
    if absent:
        energies.unlink(missing_ok=True)
        log.warning("%s: not written; %d of %d crystals have no energy", energies, absent, len(given))
        return
    with unfinished(energies) as part, part.open("wb") as binary:
        np.save(binary, np.array(given, dtype=np.float64))


def write_database(rows: Iterable[tuple[Crystal, None]], out: Path) -> None:
    """Writes an ASE database (SQLite); `name` is a key-value pair, the energy (eV) that of a single point."""
    from ase.db import connect

    with unfinished(out) as part, connect(str(part), type="db", use_lock_file=False) as database:
        for crystal, _ in rows:
            atoms = to_atoms(crystal)
            # ASE refuses texts that look like numbers as values of pairs.
            name = atoms.info.pop("name")
            database.write(atoms, name=f"id-{name}" if _is_number(name) else name)


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


@contextlib.contextmanager
def _blocks(path: Path) -> Iterator[Callable[[str, str], None]]:
    """Yields a function that adds a CIF, name and text, to one file; its data block bears the name."""
    with _text(path) as file:

        def add(name: str, text: str) -> None:
            block = DATA.sub(f"data_{name.removesuffix('.cif')}", text, count=1)
            file.write(f"{block.rstrip()}\n\n")

        yield add


@contextlib.contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    with unfinished(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        yield file
