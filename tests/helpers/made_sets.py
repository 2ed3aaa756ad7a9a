"""Small sets of real crystals with verdicts, written as the stages write them, and what a page holds of them."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.explorer.crystal_sets import Files
from xtalgen.explorer.encoding import TYPES

HOSTILE = "</script><img src=x onerror=window.hacked=1>\"'&\u2028"
KINDS = {
    "struct_valid": pa.bool_(), "comp_valid": pa.bool_(), "valid": pa.bool_(), "unique": pa.bool_(),
    "novel": pa.bool_(),
    "stable": pa.bool_(), "metastable": pa.bool_(), "sun": pa.bool_(), "msun": pa.bool_(), "converged": pa.bool_(),
    "relax_status": pa.string(), "match_id": pa.string(), "duplicate_of": pa.string(), "energy": pa.float64(),
    "e_initial": pa.float64(), "e_above_hull": pa.float64(), "rmsd": pa.float64(), "n_steps": pa.int64(),
}  # fmt: skip

# (atomic numbers, fractional coordinates) of rock salt, perovskite and a layered oxide's primitive cell.
ROCK_SALT = [
    [0, 0, 0],
    [0, 0.5, 0.5],
    [0.5, 0, 0.5],
    [0.5, 0.5, 0],
    [0.5, 0.5, 0.5],
    [0.5, 0, 0],
    [0, 0.5, 0],
    [0, 0, 0.5],
]
PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
LAYERED = [[0.5, 0.5, 0.5], [0, 0, 0], [0.2395, 0.2395, 0.2395], [0.7605, 0.7605, 0.7605]]
PROTOTYPES = [
    ([11] * 4 + [17] * 4, ROCK_SALT, (5.64, 5.64, 5.64, 90, 90, 90)),
    ([12] * 4 + [8] * 4, ROCK_SALT, (4.21, 4.21, 4.21, 90, 90, 90)),
    ([38, 22, 8, 8, 8], PEROVSKITE, (3.905, 3.905, 3.905, 90, 90, 90)),
    ([3, 27, 8, 8], LAYERED, (4.96, 4.96, 4.96, 32.99, 32.99, 32.99)),
    ([3, 28, 8, 8], LAYERED, (5.0, 5.1, 5.2, 33.5, 34.0, 35.0)),
]


def crystal(index: int, identifier: str, **info) -> Crystal:
    """Returns a prototype's crystal, a little different for each index."""
    from xtalgen.structure.lattice import lattice_from_parameters

    numbers, places, cell = PROTOTYPES[index % len(PROTOTYPES)]
    generator = np.random.default_rng(index)
    lengths = np.array(cell[:3]) * (1 + 0.01 * generator.normal())
    lattice = lattice_from_parameters(lengths, np.array(cell[3:], dtype=float))
    moved = (np.array(places) + 0.004 * generator.normal(size=(len(places), 3))) % 1.0
    return Crystal(identifier, "ok", lattice, moved, np.array(numbers, dtype=np.uint8), info)


def evaluated(count: int, prefix: str, *, hostile: bool = False, offset: int = 0) -> list[Crystal]:
    """Returns crystals with verdicts; with `hostile` the second last is so by name, and the last one failed."""
    rows = []
    for index in range(count):
        above, valid, first = 0.02 * index - 0.05, index % 4 != 3, index % 7 != 6
        info = {
            "struct_valid": True, "comp_valid": valid, "valid": valid, "unique": first, "novel": index % 3 != 2,
            "stable": above <= 0, "metastable": above <= 0.1, "sun": False, "msun": False, "converged": index % 5 != 4,
            "relax_status": "ok", "match_id": None if index % 3 != 2 else "train-7",
            "duplicate_of": None if first else f"{prefix}-{index - 1}", "energy": -30.0, "e_initial": -29.0,
            "e_above_hull": above, "rmsd": 0.1 * index, "n_steps": index,
        }  # fmt: skip
        name = HOSTILE if hostile and index == count - 2 else f"{prefix}-{index}"
        rows.append(crystal(index + offset, name, **info))
    if hostile:
        failed = dict.fromkeys(KINDS) | {"valid": False, "struct_valid": False, "comp_valid": False}
        rows[-1] = Crystal(rows[-1].id, "unparsable", info=failed)
    return rows


def write_set(folder: Path, name: str, rows: list[Crystal], *, embedded: bool = True) -> Files:
    """Writes evaluated table, sample, embedding and metrics of a set and returns where they are."""
    stem = name.replace("/", "-")
    files = Files(name, *(folder / f"{stem}-{part}.parquet" for part in ("evaluated", "sample", "embedding")),
                  metrics=folder / f"{stem}.json")  # fmt: skip
    write_table(to_table(rows, KINDS), files.crystals)
    write_table(to_table([_sampled(row) for row in rows]), files.sample)
    if embedded:
        write_embedding(files.embedding, rows)
    files.metrics.write_text(json.dumps(metrics(name, rows)))
    return files if embedded else Files(name, files.crystals, files.sample, None, files.metrics)


def write_reference(folder: Path, count: int) -> Files:
    """Writes reference crystals with descriptors."""
    rows = [crystal(index, f"mp-{index}") for index in range(count)]
    files = Files(
        "made test", folder / "reference.parquet", None, folder / "reference-embedding.parquet", reference=True
    )
    write_table(to_table(rows), files.crystals)
    write_embedding(files.embedding, rows)
    return files


def write_embedding(path: Path, rows: list[Crystal]) -> None:
    """Writes descriptors that know the prototype: elements, counts and volumes."""
    described = []
    for row in rows:
        if row.ok:
            volume = abs(np.linalg.det(row.lattice)) / row.n_atoms
            numbers = row.atomic_numbers.astype(float)
            descriptor = [
                numbers.mean(),
                numbers.std(),
                float(row.n_atoms),
                volume,
                float(np.sin(row.frac_coords).sum()),
            ]
            info = {"descriptor": descriptor, "spg_num": 225 if row.n_atoms == 8 else 1}
        else:
            info = {"descriptor": None, "spg_num": None}
        described.append(Crystal(row.id, row.status, row.lattice, row.frac_coords, row.atomic_numbers, info))
    kinds = {"descriptor": pa.list_(pa.float32()), "spg_num": pa.int64()}
    write_table(to_table(described, kinds), path, embedding="made descriptors")


def metrics(name: str, rows: list[Crystal]) -> dict:
    """Returns a metrics file's content."""
    rates = {
        key: sum(bool(row.info.get(key)) for row in rows) / max(1, len(rows)) for key in ("valid", "unique", "novel")
    }
    values = {key: {"value": value, "n": len(rows), "low": value, "high": value} for key, value in rates.items()}
    values["cov_recall"] = {"value": None, "reason": "no fingerprints were given"}
    funnel = [{"step": "asked for", "count": len(rows)}, {"step": "valid", "count": len(rows) // 2}]
    return {
        "contract": "metrics/1", "set": name, "task": "dng", "n": len(rows), "recipe": {"metastable_below": 0.1},
        "data": {"dataset": "made", "caveats": []}, "funnel": funnel, "failures": {}, "metrics": values, "cost": {},
    }  # fmt: skip


def _sampled(row: Crystal) -> Crystal:
    if not row.ok:
        return Crystal(row.id, row.status)
    moved = (row.frac_coords + 0.02 * np.sin(np.arange(3 * row.n_atoms)).reshape(-1, 3)) % 1.0
    return Crystal(row.id, "ok", row.lattice * 1.03, moved, row.atomic_numbers)


def unpack(text):
    """Reads a payload as the page does."""
    content = gzip.decompress(base64.b85decode(text.replace(",", "<")))
    size = int.from_bytes(content[:4], "little")
    header, body = json.loads(content[4 : 4 + size]), content[4 + size :]
    blocks = {}
    for name, place in header["blocks"].items():
        width = np.dtype(TYPES[place["type"]]).itemsize
        part = body[place["offset"] : place["offset"] + width * place["length"]]
        planes = np.frombuffer(part, "u1").reshape(width, place["length"])
        blocks[name] = np.ascontiguousarray(planes.T).view(TYPES[place["type"]]).ravel()
    return header, blocks
