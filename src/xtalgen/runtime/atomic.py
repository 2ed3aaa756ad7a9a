"""Atomic writing: files are either whole or absent, even if the process dies."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it becomes `path` when the block ends, and is deleted when it raises.

    Creates the folder. The name begins with a dot, keeps the suffix, and differs between processes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8 atomically, without changing line ends."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes bytes atomically."""
    with unfinished(path) as part:
        part.write_bytes(content)
