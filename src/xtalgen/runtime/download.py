"""Downloads that survive a bad connection: resumed, retried, verified, and either whole or absent."""

import hashlib
import logging
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

log = logging.getLogger(__name__)

BY_HAND = (
    "name its folder: `source` of the data set in config.yaml, or `--source` of xtalgen score, or put it into the "
    "folder of its data set under XTALGEN_DATA"
)
MEGABIT = 1e6 / 8  # bytes
ATTEMPTS = 5  # consecutive failures without a new byte
FIRST_PAUSE = 1.0  # seconds; doubles with each failure
LONGEST_PAUSE = 30.0
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two packets
PIECE = 1 << 13  # bytes; an incomplete piece is lost when the connection breaks
RETRIED = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(RuntimeError):
    """A file could not be downloaded; the message names the address, the file and the remedy."""


class _TryAgainError(Exception):
    """The attempt failed, but another one may succeed."""


@dataclass(frozen=True)
class _Sums:
    """Known checksums of the content; None where unknown."""

    git_blob_id: str | None
    sha256: str | None


def fetch(
    url: str, out: Path, git_blob_id: str | None = None, sha256: str | None = None, *, pause: float = FIRST_PAUSE
) -> None:
    """Downloads `url` to `out`, unless `out` is already there and has the given sums.

    Bytes are collected in `out` + ".part"; a broken or killed download resumes from there if the server supports it.
    Lost connections, short responses and overloaded servers are retried with growing pauses (`pause` seconds first).
    Proxies are taken from HTTPS_PROXY and similar variables. Raises DownloadError, leaving no `out`, when the server
    refuses, the attempts run out, or the content has another git blob id or sha256 sum than given.
    """
    sums = _Sums(git_blob_id, sha256)
    if out.is_file():
        if _mismatch(out, sums) is None:
            return
        log.warning("%s: has the wrong content; downloading it again", out)
        out.unlink()
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    resumed = part.exists()
    _complete(url, out, part, pause)
    mismatch = _mismatch(part, sums)
    if mismatch and resumed:  # the old part may belong to another version of the file
        part.unlink()
        _complete(url, out, part, pause)
        mismatch = _mismatch(part, sums)
    if mismatch:
        part.unlink()
        raise DownloadError(
            f"{out}: {url} delivered other content than expected: {mismatch}. The file was removed. Try again; if it "
            f"happens again the published file has changed or a proxy alters it: fetch it by hand, and {BY_HAND}."
        )
    part.replace(out)


def check_answer(url: str) -> None:
    """Raises DownloadError unless a server offers a file at the address; nothing is downloaded."""
    try:
        with requests.head(url, timeout=TIMEOUT, allow_redirects=True) as response:
            if response.ok or response.status_code in RETRIED:
                return
            found = f"the server answered {response.status_code} {response.reason}"
    except requests.RequestException as error:
        found = _root(error)
    raise DownloadError(f"cannot reach {url} ({found}). Check the network and HTTPS_PROXY and run again.")


def _complete(url: str, out: Path, part: Path, pause: float) -> None:
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, out, part)
        except _TryAgainError as error:
            grown = part.exists() and part.stat().st_size > before
            failures = 1 if grown else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{out}: cannot download {url}: {error} ({failures} attempts). Check the network and HTTPS_PROXY "
                    f"and run again (what arrived is kept and resumed), or fetch the file by hand, and "
                    f"{BY_HAND}."
                ) from error
            wait = min(pause * 2 ** (failures - 1), LONGEST_PAUSE)
            log.warning("%s: %s; trying again in %.0f s", out.name, error, wait)
            time.sleep(wait)
        else:
            return


def _attempt(url: str, out: Path, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    # With compressed transfer, sizes and ranges would not refer to bytes of the file.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # The part is either the whole file, or longer than the file and useless.
                if _total(response) != start:
                    part.unlink()
                    raise _TryAgainError("the partial file is longer than the published one")
                return
            _check_status(response, url, out)
            resumes = response.status_code == requests.codes.partial_content
            if resumes and _first_byte(response) != start:
                part.unlink()
                raise _TryAgainError("the server sent another range than asked for")
            _receive(response, part, start if resumes else 0, out.name)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _TryAgainError(f"the connection failed ({_root(error)})") from error
    except requests.RequestException as error:
        raise DownloadError(f"{out}: cannot download {url}: {error}. Check the address and HTTPS_PROXY.") from error


def _check_status(response: requests.Response, url: str, out: Path) -> None:
    if response.status_code in RETRIED:
        raise _TryAgainError(f"the server answered {response.status_code} {response.reason}")
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        raise DownloadError(
            f"{out}: cannot download {url}: the server answered {response.status_code} {response.reason}. Check that "
            f"the address is right and open to you, or fetch the file by hand, and {BY_HAND}."
        )


def _receive(response: requests.Response, part: Path, start: int, label: str) -> None:
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    expected = start + int(length) if length.isdigit() and not encoded else None
    if expected is not None:
        told = f"{(expected - start) / 1e6:.1f} MB, {(expected - start) / (10 * MEGABIT):.0f} s at 10 Mbit/s"
        log.info("%s: downloading %s to %s", label, told, part.parent)
    quiet = not sys.stderr.isatty()
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(desc=label, initial=start, total=expected, unit="B", unit_scale=True, disable=quiet) as bar,
    ):
        for piece in response.iter_content(PIECE):
            file.write(piece)
            bar.update(len(piece))
    size = part.stat().st_size
    if expected is not None and size != expected:
        raise _TryAgainError(f"the connection ended after {size:,} of {expected:,} bytes")


def _first_byte(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total(response: requests.Response) -> int | None:
    match = re.match(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _mismatch(file: Path, sums: _Sums) -> str | None:
    content_size = file.stat().st_size
    checks = (
        ("git blob id", sums.git_blob_id, hashlib.sha1(b"blob %d\0" % content_size, usedforsecurity=False)),
        ("sha256", sums.sha256, hashlib.sha256()),
    )
    for name, wanted, digest in checks:
        if wanted is None:
            continue
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
        if digest.hexdigest() != wanted:
            return f"{name} {digest.hexdigest()}, expected {wanted}"
    return None


def _root(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {error}"
