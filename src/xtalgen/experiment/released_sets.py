"""Samples that models' authors released: the list of those known by name, and what a configuration says of them.

Read by the Snakefile on every start, so it imports nothing heavy.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from xtalgen.runtime.provenance import PACKAGE

LIST = PACKAGE / "datasets/released.yaml"
RELEASED = "released"  # the second part of the names of such sets, as a task is of those of runs
CHECKSUMS = ("git_blob_id", "sha256")
STATED = ("licence", "citation")
DEFAULTS = {"relaxed": "none", "task": "dng"}
# Keys that only find or describe an entry, not what its crystals are.
OF_THE_PLAN = ("about", "source", "task", "dataset")


@cache
def known_releases() -> Mapping[str, Mapping[str, Any]]:
    """Returns the entries of datasets/released.yaml by name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return entries


def complete(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an entry of `released` with what is known of its name; another address has another checksum."""
    known = dict(known_releases().get(name, {}))
    if "address" in given or set(CHECKSUMS) & set(given):
        known = {key: value for key, value in known.items() if key not in (*CHECKSUMS, "n")}
    return {**DEFAULTS, **known, **given}


def what_is_wrong(entry: Mapping[str, Any]) -> str | None:
    """Returns the key of a complete entry that is wrong and the remedy; None for a good one."""
    missing = [key for key in STATED if not entry.get(key)]
    if missing:
        known = ", ".join(known_releases())
        return f"{missing[0]}: say whose crystals these are; only {known} are known by name."
    source = entry.get("source")
    if source is not None and not Path(source).is_file():
        return f"source: there is no file {source}. Give its path, relative to the working directory."
    if source is None and "address" not in entry:
        return "address: give the https address of the file, at a commit, or its path as `source`."
    if source is None and not any(entry.get(key) for key in CHECKSUMS):
        return "git_blob_id: give it (`git hash-object FILE`) or `sha256`, so that another file is noticed."
    return None


def check_within_reach(releases: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> None:
    """Raises DownloadError, naming address and key, at the first of the released sets that cannot be fetched.

    releases: the entries of a plan; names: of sets, of which those that are not released are left alone.
    """
    from xtalgen.runtime.download import DownloadError, check_answer  # heavy, and needed by nothing else here

    for name, _, kind in (name.partition("/") for name in names):
        entry = releases.get(name, {}) if kind == RELEASED else {}
        if "source" in entry or "address" not in entry:
            continue
        try:
            check_answer(entry["address"])
        except DownloadError as error:
            raise DownloadError(
                f"released.{name}: {error} Or fetch the file elsewhere and give its path as released.{name}.source."
            ) from error


def describe_releases() -> str:
    """Returns the table of the sets known by name as Markdown, for docs/reference/data.md."""
    rows = ["| name | what | crystals | relaxed before | licence | cite |", "|---|---|---|---|---|---|"]
    for name, known in known_releases().items():
        count = f"{known['n']:,}" if "n" in known else "not stated"
        what = f"[{known['about']}]({known['address']})" + (f"; {known['caveat']}" if "caveat" in known else "")
        relaxed = f"by {known['relaxed']}" if "relaxed" in known else "no"
        rows.append(f"| `{name}` | {what} | {count} | {relaxed} | {known['licence']} | {known['citation']} |")
    return "\n".join([*rows, ""])
