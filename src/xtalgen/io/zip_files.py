"""Zip archives of texts with the same bytes on every platform."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from xtalgen.runtime.atomic import unfinished

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


def write_zip(files: Mapping[str, str], path: Path) -> None:
    """Writes texts by name to a zip archive, atomically; the same texts give the same bytes."""
    with unfinished(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            member = zipfile.ZipInfo(name, EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix on every platform, so that the bytes are equal
            member.external_attr = 0o644 << 16
            archive.writestr(member, text)
