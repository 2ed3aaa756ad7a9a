"""What a user may give, a structure file or a folder of them; a folder is read recursively as one set."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from operator import truediv
from pathlib import Path

from xtalgen.io.entries import Entry
from xtalgen.io.readers.tables import has_structures
from xtalgen.io.streams import Position
from xtalgen.io.structure_files import FORMATS, check_column, check_suffix, find_suffix, iterate_entries

MATTERGEN = "generated_crystals.extxyz"  # holds all crystals of MatterGen's output folder, beside copies as CIFs
ENERGIES = "energies.npy"  # the energy of each of its crystals, in eV
# Suffixes of one kind of file; the others are kinds of their own.
KINDS = {".xyz": ".extxyz", ".vasp": "POSCAR", ".poscar": "POSCAR", ".contcar": "CONTCAR", ".xdatcar": "XDATCAR"}
# Names that a reader gives to entries without one of their own.
NUMBERED = re.compile(r"(frame|row|line|item|crystal|id) \d+( evaluation \d+)?")
LISTED = 8


def check_structure_file(structures: Path, files: str | None = None) -> None:
    """Raises ValueError or OSError, saying what to do, unless a path is a structure file or a folder of such files.

    Of files only the names are read; files: pattern of those of a folder.
    """
    if structures.is_dir():
        find_files(structures, files)
        return
    if not structures.exists():
        raise FileNotFoundError(f"{structures}: there is no such file.")
    if not structures.is_file():
        raise OSError(f"{structures}: is a pipe or a device. Write its content to a file, and give that.")
    check_suffix(structures)


def iterate_folder(
    folder: Path, column: str | None = None, pattern: str | None = None, position: Position | None = None
) -> Iterator[Entry]:
    """Yields the entries of the files of a folder, in the order of `find_files`; column as in `iterate_entries`.

    Entries without a name of their own bear the path of their file. A file that cannot be read as a whole is one broken
    entry. Raises ValueError as `find_files` does.
    """
    files = find_files(folder, pattern)
    energies = _read_energies(files)
    check_column(files[0], column)
    of_file = position if len(files) == 1 else None
    for number, file in enumerate(files):
        if position is not None and of_file is None:
            position.share = partial(truediv, number, len(files))
        name = file.relative_to(folder).as_posix()
        count = 0
        try:
            for entry in iterate_entries(file, column, of_file):
                given = energies[count] if energies is not None and count < len(energies) else entry.energy
                yield replace(entry, name=_full_name(entry.name, file.name, name), energy=given)
                count += 1
        except (ValueError, OSError) as error:
            reason = str(error).removeprefix(f"{file}: ")
            yield Entry(name if count == 0 else f"{name}:{count}", "broken", reason)


def _full_name(entry: str, file: str, path: str) -> str:
    """Returns the name of an entry within its folder."""
    if entry == file or entry.startswith(f"{file}:"):
        return path + entry.removeprefix(file)
    return f"{path}:{entry}" if NUMBERED.fullmatch(entry) else entry


def find_files(folder: Path, pattern: str | None = None) -> list[Path]:
    """Returns the structure files below a folder, in natural order of their paths: gen_2.cif before gen_10.cif.

    Hidden files, and files of other formats, are left out; so are JSON, and tables without a column of structures,
    beside files of another kind, since they describe those. pattern: of the names to take, such as "*.cif". Of
    MatterGen's output folder, generated_crystals.extxyz is taken alone. Raises ValueError when nothing is left, or when
    there are files of several kinds, listing them: one set is often written in two ways, and would be counted twice.
    """
    every = sorted(_walk(folder), key=_natural)
    files = [file for file in every if find_suffix(file) and (pattern is None or fnmatch(file.name, pattern))]
    if pattern is None and (whole := folder / MATTERGEN) in files:
        return [whole]
    if len({_kind(file) for file in files}) > 1:
        files = [file for file in files if not _describes(file)] or files
    kinds = Counter(map(_kind, files))
    if not files:
        raise ValueError(f"{folder}: no structure file in this folder ({_list_suffixes(every)}). Give {_allowed()}.")
    if len(kinds) > 1:
        listed = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        raise ValueError(
            f"{folder}: holds files of several kinds ({listed}), which may be the same crystals. Give one file, a "
            "folder with one kind, or choose with `xtalgen convert FOLDER --files '*.cif'`."
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(place) / name for name in files if not name.startswith("."))


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _kind(file: Path) -> str:
    suffix = find_suffix(file) or ""
    return KINDS.get(suffix, suffix)


def _describes(file: Path) -> bool:
    """Whether a file beside others holds no crystals but says something about them."""
    found = FORMATS[find_suffix(file) or ""]
    return found.alone or (found.columns and not has_structures(file))


def _list_suffixes(files: Sequence[Path]) -> str:
    if not files:
        return "it is empty"
    kinds = Counter(file.suffix or file.name for file in files).most_common(LISTED)
    return "it holds " + ", ".join(f"{number:,} {kind}" for kind, number in kinds)


def _allowed() -> str:
    return f"a folder with files that end in {', '.join(FORMATS)}, or are called POSCAR, CONTCAR or XDATCAR"


def _read_energies(files: Sequence[Path]) -> Sequence[float] | None:
    """Returns the energies beside MatterGen's crystals, None where there are none."""
    if len(files) != 1 or files[0].name != MATTERGEN or not (beside := files[0].with_name(ENERGIES)).is_file():
        return None
    import numpy as np

    try:
        energies = np.load(beside, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{beside}: not an array of numbers ({error}). Write it with numpy.save.") from error
    if energies.ndim != 1 or energies.dtype.kind not in "fiu":
        raise ValueError(f"{beside}: has shape {energies.shape} of {energies.dtype}, expected one number per crystal.")
    return [float(energy) for energy in energies]
