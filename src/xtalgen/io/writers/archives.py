"""Zip archives whose bytes depend on their content alone."""

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xtalgen.runtime.atomic import unfinished

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold
ENDING = re.compile(r"\.(cif|vasp|poscar|contcar|json|xyz|extxyz)$", re.IGNORECASE)


@contextlib.contextmanager
def zip_writer(path: Path) -> Iterator[Callable[[str, str], None]]:
    """Yields a function that adds a member, name and text, to an archive; it is whole or absent when the block ends."""
    with unfinished(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, text: str) -> None:
            member = zipfile.ZipInfo(name, EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix on every platform, so that the bytes are equal
            member.external_attr = 0o644 << 16
            archive.writestr(member, text)

        yield add


def write_zip(files: Mapping[str, str], path: Path) -> None:
    """Writes an archive of files: name → text."""
    with zip_writer(path) as add:
        for name, text in files.items():
            add(name, text)


class FileNames:
    """Names of files, each given once; two crystals of one name get mp-1 and mp-1_2."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def of(self, name: str) -> str:
        """Returns the name for a file without its suffix: letters, digits and ._- of the name, and a number."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", ENDING.sub("", name)).lstrip(".")[:150] or "crystal"
        count = self._counts.get(stem, 0) + 1
        self._counts[stem] = count
        if count == 1:
            return stem
        return self.of(f"{stem}_{count}")
