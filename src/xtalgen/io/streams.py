"""Users' files as streams, plain or packed, of text in whichever encoding, in constant memory."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase, TextIOBase
from pathlib import Path

PIECE = 1 << 20  # bytes read at once
MAX_LINE = 64 * 1024**2  # bytes
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


class NotTextError(ValueError):
    """Bytes that are no text in any encoding."""


@dataclass
class Position:
    """How much of a file or folder was read: a function that returns the share, from 0 to 1."""

    share: Callable[[], float] = float


@contextlib.contextmanager
def opened(
    path: Path,
    limit: int,
    remedy: str,
    *,
    binary: bool = False,
    lines: bool = False,
    position: Position | None = None,
) -> Iterator[tuple[BufferedIOBase, str | None]]:
    """Yields the bytes of a file, unpacked if it ends in .gz, and its encoding; None where it is no text.

    Unless it is binary, it is read once to the end before. lines: whether it is text that is read line by line. Raises
    ValueError, naming the remedy, when it is empty, cannot be unpacked, unpacks to more bytes than the limit, or has a
    line that is too long to be read.
    """
    packed = path.name.lower().endswith(".gz")
    total = max(1, path.stat().st_size)
    with path.open("rb") as plain, gzip.open(plain) if packed else plain as file:
        if binary and not file.peek(1):
            raise ValueError(f"{path} is empty. Put crystals into it.")
        encoding = None if binary else _check(path, file, limit, remedy, lines=lines)
        file.seek(0)
        if position is not None:
            position.share = lambda: 1.0 if plain.closed else plain.tell() / total
        yield file, encoding


def _check(path: Path, file: BufferedIOBase, limit: int, remedy: str, *, lines: bool) -> str | None:
    """Returns the encoding of a file. Raises ValueError as `opened` does."""
    try:
        found = _survey(file, limit)
    except (OSError, EOFError, zlib.error) as error:
        if not path.name.lower().endswith(".gz"):
            raise
        raise ValueError(f"{path}: not a readable gzip file ({error}). Pack it again.") from error
    if found.size > limit:
        raise ValueError(f"{path}: unpacks to more than {limit} bytes. {remedy}.")
    if found.blank:
        raise ValueError(f"{path} is empty. Put crystals into it.")
    if lines and found.encoding is not None and found.longest > MAX_LINE:
        raise ValueError(f"{path}: has a line of more than {MAX_LINE} bytes. Check what the file is.")
    return found.encoding


def text_stream(raw: BufferedIOBase, encoding: str | None, newline: str | None) -> TextIOBase:
    """Returns a stream of bytes as one of text. Raises NotTextError where it is none."""
    if encoding is None:
        raise NotTextError("holds NUL bytes, so it is no text.")
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline=newline)  # type: ignore[type-var]


def decoded(content: bytes) -> str:
    """Returns bytes as text, in Latin-1 where nothing else fits. Raises NotTextError where that does not either."""
    with io.BytesIO(content) as file:
        encoding = _survey(file, len(content)).encoding
    if encoding is None:
        raise NotTextError("holds NUL bytes, so it is no text.")
    return content.decode(encoding, errors="replace")


@dataclass
class _Survey:
    """What one pass over a stream finds: size and longest line in bytes, blankness, encoding."""

    size: int = 0
    blank: bool = True
    encoding: str | None = None
    longest: int = 0


def _survey(file: BufferedIOBase, limit: int) -> _Survey:
    """Surveys a stream to its end, or to the limit, or to a NUL byte, since only UTF-16 has some in text."""
    found = _Survey()
    begun, has_nul, is_utf_8 = 0, False, True
    first = b""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while found.size <= limit and (piece := file.read(PIECE)):
        first = first or piece[:2]
        # Where the last line of the pieces before began, at least.
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        found.longest = max(found.longest, found.size - begun)
        begun = begun if end < 0 else found.size + end + 1
        found.size += len(piece)
        found.blank = found.blank and not piece.strip()
        has_nul = has_nul or b"\0" in piece
        if has_nul and first not in BYTE_ORDER_MARKS:
            break
        is_utf_8 = is_utf_8 and _decodes(decoder, piece, final=False)
    found.longest = max(found.longest, found.size - begun)
    is_utf_8 = is_utf_8 and _decodes(decoder, b"", final=True)
    if first.startswith(BYTE_ORDER_MARKS) and found.size % 2 == 0:
        found.encoding = "utf-16"
    elif not has_nul:
        # Old CIFs carry authors' names in Latin-1.
        found.encoding = "utf-8-sig" if is_utf_8 else "latin-1"
    return found


def _decodes(decoder: codecs.IncrementalDecoder, piece: bytes, *, final: bool) -> bool:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        return False
    return True
