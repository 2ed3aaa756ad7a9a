"""Files that are whole or absent whenever the process dies; files of caches, where any change is noticed."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
DIGITS = 16  # of the checksum of a sealed line


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


def seal(content: Any) -> str:
    """Returns JSON values as one line of text that begins with its checksum; see `unseal`."""
    text = json.dumps(content)
    return f"{_sum(text.encode())} {text}"


def unseal(line: str) -> Any:
    """Returns the values of a sealed line. Raises ValueError where anything of it has changed or is missing."""
    found, _, text = line.strip().partition(" ")
    if found != _sum(text.encode("utf-8", "surrogatepass")):
        raise ValueError("its checksum differs from the stored one")
    return json.loads(text)


def keep(path: Path, make: Callable[[Path], None], check: Callable[[Path], object] = Path.stat) -> Path:
    """Returns the path of a file in a cache, made first where it is not there.

    A file that is not as `make` left it, or that `check` refuses with a ValueError, is made again with a warning that
    names it. The checksum stands in a file beside it.
    """
    if path.exists():
        reason = _harm(path, check)
        if reason is None:
            return path
        log.warning("%s: %s; it is made again", path, reason)
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    write_text(_beside(path), file_sum(path))
    return path


def file_sum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _harm(path: Path, check: Callable[[Path], object]) -> str | None:
    """Returns what is wrong with a kept file; None where nothing is."""
    beside = _beside(path)
    if not beside.is_file():
        return "has no checksum beside it"
    if beside.read_text(encoding="utf-8", errors="replace").strip() != file_sum(path):
        return "damaged, its checksum differs from the stored one"
    try:
        check(path)
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:DIGITS]
