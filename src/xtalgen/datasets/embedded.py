"""The embedded data set `aflow_20`: crystals of the AFLOW prototype library that pymatgen ships, no download needed."""

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pymatgen.core

from xtalgen.datasets.registry import DATA_SETS
from xtalgen.datasets.sources import Record, Source, SourceError, git_blob_id, rows_sha256

NAME = "aflow_20"
# Read as a file, since importing pymatgen.analysis.prototypes takes ten times longer.
LIBRARY = Path(pymatgen.core.__file__).parent.parent / "analysis" / "prototypes" / "aflow_prototypes.json.gz"
LARGEST_CELL = 20  # atoms
SPLIT_SEED = 0  # part of the data set's definition, hence not an option


def read_embedded(split: str) -> Source:
    """Returns a split of the 250 crystals with at most 20 atoms: 200 train, 25 val, 25 test, drawn with a fixed seed.

    Raises SourceError naming the splits there are.
    """
    sizes = {name: known.n_crystals for name, known in DATA_SETS[NAME].splits.items()}
    if split not in sizes:
        raise SourceError(f"{NAME}: no split {split!r}; there are {', '.join(sizes)}. Ask for one of these.")
    content = _library()
    records = all_records()
    drawn = np.random.default_rng(SPLIT_SEED).permutation(len(records))
    ends = dict(zip(sizes, np.cumsum(list(sizes.values())).tolist(), strict=True))
    chosen = sorted(drawn[ends[split] - sizes[split] : ends[split]].tolist())
    kept = [records[i] for i in chosen]
    sha256 = hashlib.sha256(content).hexdigest()
    return Source(LIBRARY, "embedded", kept, sha256, git_blob_id(content), rows_sha256(kept))


def all_records() -> list[Record]:
    """Returns all 250 crystals as pymatgen JSON texts, in the order of the library.

    The id is the AFLOW label, such as "AB_cF8_225_a_b"; further crystals of the same label get "-2", "-3" and so on.
    The space group's number is the label's third field. Raises SourceError when pymatgen lacks the library.
    """
    seen: Counter[str] = Counter()
    records = []
    for entry in json.loads(gzip.decompress(_library())):
        structure, label = entry["snl"], entry["tags"]["aflow"]
        if len(structure["sites"]) > LARGEST_CELL:
            continue
        seen[label] += 1
        identifier = label if seen[label] == 1 else f"{label}-{seen[label]}"
        text = json.dumps({"lattice": structure["lattice"], "sites": structure["sites"]})
        records.append(Record(identifier, text, {"spg_num": label.split("_")[2]}))
    return records


def _library() -> bytes:
    if not LIBRARY.is_file():
        raise SourceError(
            f"{LIBRARY}: this pymatgen does not ship the AFLOW prototypes. Install the version of requirements.lock."
        )
    return LIBRARY.read_bytes()
