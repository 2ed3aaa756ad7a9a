"""Resumable maps over items: results are kept in parts in a work folder until the stage is finished."""

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xtalgen.runtime.atomic import seal, unseal, write_text
from xtalgen.runtime.parallel import Failure, map_items

log = logging.getLogger(__name__)
PART = 100  # results per file


def content_key(*files: Path, **settings: Any) -> str:
    """Returns a hash of the contents of files and of settings, the key of the parts made from them.

    Of a folder, the names and contents of all files below it count.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        if file.is_dir():
            below = sorted(path for path in file.rglob("*") if path.is_file())
            digest.update(content_key(*below, names=[path.relative_to(file).as_posix() for path in below]).encode())
            continue
        with file.open("rb") as opened:
            digest.update(b"\0" + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def map_resumably(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    work: Path,
    key: str,
    workers: int,
    timeout: float | None,
    label: str,
    initializer: Callable[..., None] | None = None,
) -> list[Any]:
    """Returns the results of `map_items`, saving every hundred of them in `work`.

    function: returns JSON values (floats are kept exactly). Parts with another `key` are computed again, with a
    warning. Delete the parts with `clear` once the stage's output is written.
    """
    done = _finished(work, key, len(items))
    if done:
        log.info("%s: resumes after %d of %d from %s", label, len(done), len(items), work)
    results = map_items(
        function, items[len(done) :], workers=workers, timeout=timeout, label=label, initializer=initializer
    )
    while batch := list(itertools.islice(results, PART)):
        _write(work / f"part-{len(done):08d}.json", [key, [_encode(result) for result in batch]])
        done += batch
    return done


def clear(work: Path) -> None:
    """Deletes the parts in a work folder, and the folder when nothing else is in it."""
    for part in work.glob("part-*.json"):
        part.unlink(missing_ok=True)
    if work.is_dir() and not any(work.iterdir()):
        work.rmdir()


def _finished(work: Path, key: str, n: int) -> list[Any]:
    results: list[Any] = []
    while len(results) < n and (part := work / f"part-{len(results):08d}.json").is_file():
        try:
            kept, encoded = unseal(part.read_text(encoding="utf-8", errors="replace"))
        except (ValueError, TypeError):
            log.warning("%s: damaged; computed again", part)
            break
        if kept != key:
            log.warning("%s: made from another input or configuration; computed again", part)
            break
        results += [_decode(result) for result in encoded]
    return results


def _write(path: Path, content: list[Any]) -> None:
    write_text(path, seal(content))


def _encode(result: Any) -> Any:
    return {"failure": result.kind, "message": result.message} if isinstance(result, Failure) else {"result": result}


def _decode(entry: dict[str, Any]) -> Any:
    return Failure(entry["failure"], entry["message"]) if "failure" in entry else entry["result"]
