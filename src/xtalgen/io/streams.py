"""Users' files as streams, plain or packed, of text in whichever encoding, in constant memory."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from io import BufferedIOBase, TextIOBase
from pathlib import Path

PIECE = 1 << 20  # bytes read at once
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


class NotTextError(ValueError):
    """Bytes that are no text in any encoding."""


@contextlib.contextmanager
def opened(path: Path, limit: int, remedy: str) -> Iterator[tuple[BufferedIOBase, str | None]]:
    """Yields the bytes of a file, unpacked if it ends in .gz, and its encoding; None where it is no text.

    It is read once to the end before. Raises ValueError, naming the remedy, when it is empty, cannot be unpacked, or
    unpacks to more bytes than the limit.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            size, blank, encoding = _survey(file, limit)
        except (OSError, EOFError, zlib.error) as error:
            if not packed:
                raise
            raise ValueError(f"{path}: not a readable gzip file ({error}). Pack it again.") from error
        if size > limit:
            raise ValueError(f"{path}: unpacks to more than {limit} bytes. {remedy}.")
        if blank:
            raise ValueError(f"{path} is empty. Put crystals into it.")
        file.seek(0)
        yield file, encoding


def text_stream(raw: BufferedIOBase, encoding: str | None, newline: str | None) -> TextIOBase:
    """Returns a stream of bytes as one of text. Raises NotTextError where it is none."""
    if encoding is None:
        raise NotTextError("holds NUL bytes, so it is no text.")
    return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline=newline)  # type: ignore[type-var]


def decoded(content: bytes) -> str:
    """Returns bytes as text, in Latin-1 where nothing else fits. Raises NotTextError where that does not either."""
    with io.BytesIO(content) as file:
        encoding = _survey(file, len(content))[2]
    if encoding is None:
        raise NotTextError("holds NUL bytes, so it is no text.")
    return content.decode(encoding, errors="replace")


def _survey(file: BufferedIOBase, limit: int) -> tuple[int, bool, str | None]:
    """Returns size, whether there is nothing but white space, and encoding of a stream, of its beginning if larger."""
    size, blank, has_nul, is_utf_8 = 0, True, False, True
    first = b""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while size <= limit and (piece := file.read(PIECE)):
        first = first or piece[:2]
        size += len(piece)
        blank = blank and not piece.strip()
        has_nul = has_nul or b"\0" in piece
        is_utf_8 = is_utf_8 and _decodes(decoder, piece, final=False)
    is_utf_8 = is_utf_8 and _decodes(decoder, b"", final=True)
    if first.startswith(BYTE_ORDER_MARKS) and size % 2 == 0:
        return size, blank, "utf-16"
    # Old CIFs carry authors' names in Latin-1.
    return size, blank, None if has_nul else "utf-8-sig" if is_utf_8 else "latin-1"


def _decodes(decoder: codecs.IncrementalDecoder, piece: bytes, *, final: bool) -> bool:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        return False
    return True
