"""Files of a training, written atomically: checkpoints (safetensors), resumable states, JSON and CSV."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from xtalgen.runtime.atomic import write_bytes, write_text
from xtalgen.training.contract import CHECKPOINT_CONTRACT as CONTRACT
from xtalgen.training.contract import CHECKPOINT_KEY as KEY

SUM = "sha256"


class CheckpointError(ValueError):
    """A checkpoint or a resumable state cannot be used; the message names the file and the remedy."""


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes weights and metadata (configuration, constants, task, …, as JSON) to one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    facts = {"contract": CONTRACT, **facts}
    text = json.dumps({**facts, SUM: _sum(tensors, facts)}, sort_keys=True)
    write_bytes(path, save(tensors, {KEY: text}))


def load_checkpoint(path: Path, device: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns weights and metadata. Raises CheckpointError when the file is not a checkpoint of this contract."""
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            facts = dict(json.loads((file.metadata() or {}).get(KEY, "{}")))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error}). Delete it and train again.") from error
    if facts.get("contract") != CONTRACT:
        raise CheckpointError(f"{path}: contract is {facts.get('contract')!r}, expected {CONTRACT!r}. Train again.")
    if facts.pop(SUM, None) != _sum(weights, facts):
        raise CheckpointError(f"{path}: damaged, its checksum differs from the stored one. Delete it and train again.")
    return weights, facts


def check_model(path: Path, model: str) -> None:
    """Raises CheckpointError when a checkpoint was trained by another model; a damaged file is left to its reader."""
    try:
        with safe_open(str(path), framework="pt") as file:
            trained = json.loads((file.metadata() or {}).get(KEY, "{}")).get("model", model)
    except (SafetensorError, ValueError, TypeError, AttributeError):
        return
    if trained != model:
        raise CheckpointError(
            f"{path}: a checkpoint of model {trained}, not of {model}. Name that model, or give another file."
        )


def _sum(weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(name.encode() + b"\0")
        digest.update(weights[name].cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes the state of an unfinished training."""
    content = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(dict(state), content)
    write_bytes(path, content.getbuffer())


def load_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns the state of an unfinished training, or None when there is none. Executes no code.

    Raises CheckpointError when the file is damaged or something else.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not verify the checksums that it writes
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: not a readable training state ({error}). Delete it to start afresh.") from error
    if damaged:
        raise CheckpointError(
            f"{path}: damaged (the checksum of {damaged} differs from the stored one). Delete it to start afresh."
        )
    return state


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes values as indented JSON."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV with a header, an empty file without rows; None becomes an empty cell."""
    write_text(path, csv_text(rows, header=True))


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one row to a CSV file, with a header when the file is still empty."""
    header = path.stat().st_size == 0
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(csv_text([row], header=header))


def csv_text(rows: Sequence[Mapping[str, Any]], *, header: bool) -> str:
    """Returns rows as CSV text; the columns are those of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if header and rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
