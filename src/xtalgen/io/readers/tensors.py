"""The tensors that CDVAE, DiffCSP and FlowMM save for their samples, in a .pt file; no other pickle is opened.

torch's own unpickler of weights rebuilds tensors, numbers, texts and containers of them and refuses every other name
that a pickle holds, so no code of the file is run (`torch.load(weights_only=True)`).
"""

import argparse
import io
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from xtalgen.io.entries import Entry
from xtalgen.io.readers.npz import MAX_BYTES, NAMES, split_arrays

REFUSED = (
    "such a file can run code when it is read, so only one of plain tensors is ({reason}). Load it where you trust it "
    "and save its arrays frac_coords, atom_types, num_atoms, lengths and angles with numpy.savez as .npz."
)


def read_tensors(raw: bytes, name: str) -> Iterator[Entry]:
    """Yields the crystals of a .pt file: a dictionary with the names and shapes of `npz.read_arrays`.

    Raises ValueError, naming the remedy, when the file holds anything but tensors, or they do not fit each other.
    """
    del name  # crystals have numbers
    content = _load(raw)
    found = {key: array for key in NAMES if (array := _array(content.get(key))) is not None}
    return split_arrays(found, list(map(str, content)))


def _load(raw: bytes) -> dict[str, Any]:
    import torch

    if raw.startswith(b"PK") and _unpacked(raw) > MAX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_BYTES} bytes. Split it into several files.")
    try:
        # DiffCSP keeps the options of its script beside the tensors: a class of attributes, nothing is called.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickles, which are refused or read all the same
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:
        # A pickle can fail in any way; torch's message goes on with advice to run the file's code, which is not ours.
        reason = str(error).replace("Weights only load failed.", "").strip().partition("\n")[0]
        reason = reason.partition("In PyTorch 2.6")[0].rstrip() or "no tensors in it"
        raise ValueError(REFUSED.format(reason=f"{type(error).__name__}: {reason[:200]}")) from error
    return content if isinstance(content, dict) else {}


def _unpacked(raw: bytes) -> int:
    try:
        return sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(raw)).infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter for versions that zipfile cannot read
        raise ValueError(f"not a readable .pt file ({error}). Fetch or copy it again.") from error


def _array(value: Any) -> np.ndarray | None:
    """Returns a tensor, or a list of numbers, as an array; None for anything else."""
    if isinstance(value, list | tuple):
        return np.array(value) if all(isinstance(one, int | float) for one in value) else None
    return value.detach().numpy() if hasattr(value, "detach") else None
