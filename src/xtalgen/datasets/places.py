"""Where the files of a data set are: embedded, a user's copy, fetched before, or still to be fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from xtalgen.datasets.registry import DATA_SETS, DataSet
from xtalgen.datasets.sources import SourceError, find_copy
from xtalgen.experiment.places import DOWNLOADS
from xtalgen.runtime.download import fetch
from xtalgen.runtime.names import SPLITS

MEGABITS = 10  # per second, of the connection for which times are told


class State(StrEnum):
    """Where the files of a data set are."""

    EMBEDDED = "embedded"
    COPY = "your copy"
    FETCHED = "fetched"
    ABSENT = "to be fetched"


@dataclass(frozen=True)
class Place:
    """Where the files of a data set are; folder: None where it is embedded."""

    state: State
    folder: Path | None


def find_data_set(name: str, root: Path) -> Place:
    """Returns where the files of a known data set are. Raises SourceError, listing the known ones, for another name."""
    known = base_of(name)
    if known.embedded:
        return Place(State.EMBEDDED, None)
    if all(find_copy(root, known.name, split) for split in SPLITS):
        return Place(State.COPY, root / known.name)
    folder = root / DOWNLOADS / known.name
    there = all((folder / f"{split}.csv").is_file() for split in SPLITS)
    return Place(State.FETCHED if there else State.ABSENT, folder)


def describe_place(name: str, root: Path) -> str:
    """Returns a sentence that says where a data set is, or how large the download is, how long it takes, and where to.

    Imports and fetches nothing.
    """
    place, size = find_data_set(name, root), base_of(name).megabytes
    if place.state is State.EMBEDDED:
        return f"{name} comes with xtalgen: nothing is downloaded."
    if place.state is not State.ABSENT:
        return f"{name} is at {place.folder}: nothing is downloaded."
    told = f"{size} MB, {_duration(size)} at {MEGABITS} Mbit/s" if size else "its size is told when it begins"
    return f"{name} is downloaded once ({told}) to {place.folder}."


def fetch_data_set(name: str, root: Path, splits: Sequence[str] = SPLITS) -> list[Path]:
    """Returns the published files of a data set, downloaded where they are not there, with the right checksums.

    Raises SourceError for a name that is not known, or is embedded; DownloadError when a file cannot be fetched.
    """
    known = base_of(name)
    if known.embedded:
        raise SourceError(f"{name}: comes with xtalgen; there is nothing to fetch.")
    files = [root / DOWNLOADS / known.name / f"{split}.csv" for split in splits]
    for split, file in zip(splits, files, strict=True):
        fetch(known.address(split), file, git_blob_id=known.splits[split].git_blob_id)
    return files


def base_of(name: str) -> DataSet:
    """Returns the data set whose files are read for this one: itself, or the one that it regroups.

    Raises SourceError, listing the known ones, for another name.
    """
    if name not in DATA_SETS:
        raise SourceError(f"{name}: no data set of this name; there are {', '.join(DATA_SETS)}.")
    known = DATA_SETS[name]
    return DATA_SETS[known.grouped_from] if known.grouped_from else known


def _duration(megabytes: int) -> str:
    seconds = megabytes * 8 / MEGABITS
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
