"""Samples that the authors of models released: fetched, verified, and described beside their numbers.

Which ones are known by name, `experiment.released_sets` says; here all come with what is to be known of them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlparse

from xtalgen.datasets.registry import join_caveats
from xtalgen.datasets.sources import git_blob_id
from xtalgen.runtime.download import DownloadError, fetch


@dataclass(frozen=True)
class Release:
    """What is known of a file of released samples; the keys of `released` in the configuration.

    relaxed: "none", or what relaxed the crystals before their release. limit: number of crystals to take from its
    start. n: number of crystals in the published file.
    """

    licence: str
    citation: str
    relaxed: str = "none"
    address: str = ""
    git_blob_id: str | None = None
    sha256: str | None = None
    column: str | None = None
    n: int | None = None
    limit: int | None = None
    caveat: str = ""

    @property
    def file(self) -> str:
        """The name of the published file."""
        return Path(urlparse(self.address).path).name


def read_release(text: str) -> Release:
    """Returns the release that a JSON text describes. Raises ValueError when a key is unknown or missing."""
    values = json.loads(text)
    unknown = sorted(set(values) - {field.name for field in fields(Release)})
    if unknown or not {"licence", "citation"} <= set(values):
        raise ValueError(f"no description of a release ({', '.join(unknown) or 'no licence or citation'}): {text}")
    return Release(**values)


def fetch_release(name: str, release: Release, folder: Path) -> Path:
    """Returns the published file in `folder`, downloaded unless it is there; it has the checksum of the release.

    Raises DownloadError, naming the address and the key `source`, when it cannot be fetched.
    """
    out = folder / release.file
    try:
        fetch(release.address, out, git_blob_id=release.git_blob_id, sha256=release.sha256)
    except DownloadError as error:
        raise DownloadError(f"{error} In the configuration that is `released: {{{name}: {{source: …}}}}`.") from error
    return out


def describe_release(release: Release, file: Path, n_found: int) -> tuple[dict[str, str], str]:
    """Returns what the table of a release says of it, and the caveats beside its numbers.

    The first: `released`, the facts as JSON; `source` and `sha256` of the file. n_found: crystals in the file.
    """
    content = file.read_bytes()
    sums = {"git_blob_id": git_blob_id(content), "sha256": hashlib.sha256(content).hexdigest()}
    known = {name: getattr(release, name) for name in sums if getattr(release, name)}
    facts = {key: value for key, value in asdict(release).items() if value not in (None, "")}
    facts |= {"n": n_found, "file": file.name}
    caveats = [release.caveat]
    if known and any(sums[name] != wanted for name, wanted in known.items()):
        caveats.append("read from a copy that is not the published file")
    if release.n not in (None, n_found):
        caveats.append(f"{n_found:,} crystals, the published file has {release.n:,}")
    if release.limit is not None and release.limit < n_found:
        caveats.append(f"the first {release.limit:,} of {n_found:,} crystals")
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return {"released": text, "source": file.name, "sha256": sums["sha256"]}, join_caveats(*caveats)
