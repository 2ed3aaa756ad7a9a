"""Crystals as dense padded tensors on the device, in buckets of similar numbers of atoms.

All crystals of a batch come from one bucket, which keeps padding small: with the sizes of MP-20, 161 pairs of atoms per
crystal instead of 400 with padding to 20 atoms.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import lattice_to_parameters

MAX_ELEMENT = 100
MAX_ATOMS = 100
# Returns further arrays by name that a model needs, one row per crystal, padded to this number of atoms.
Extra = Callable[[Sequence[Crystal], int], Mapping[str, np.ndarray]]


def no_extra(crystals: Sequence[Crystal], width: int) -> Mapping[str, np.ndarray]:  # noqa: ARG001 - an Extra
    """Returns no arrays: most models need only the geometry."""
    return {}


@dataclass(frozen=True)
class Batch:
    """Crystals padded to the same number of atoms; padding has mask False, atomic number 0 and coordinates 0.

    lattice: row vectors in Å; lengths in Å; angles in degrees; extra: further tensors required by a model.
    """

    frac_coords: Float[Tensor, "batch atoms 3"]
    atomic_numbers: Int[Tensor, "batch atoms"]
    mask: Bool[Tensor, "batch atoms"]
    lattice: Float[Tensor, "batch 3 3"]
    lengths: Float[Tensor, "batch 3"]
    angles: Float[Tensor, "batch 3"]
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, indices: Int[Tensor, "taken"]) -> "Batch":
        """Returns the batch of the crystals at these indices."""
        extra = {name: values.index_select(0, indices) for name, values in self.extra.items()}
        names = [known.name for known in fields(self) if known.name != "extra"]
        return Batch(**{name: getattr(self, name).index_select(0, indices) for name in names}, extra=extra)


@runtime_checkable
class Data(Protocol):
    """A data set as the training loop sees it; its batches have a length and `take`.

    digest: differs between data sets with different batches.
    """

    crystals: list[Crystal]
    device: torch.device
    digest: str

    def __len__(self) -> int: ...

    def plan(self, batch_size: int) -> Sequence[tuple[int, ...]]:
        """Returns the batches of an epoch."""

    def epoch(self, batch_size: int, seed: Sequence[int], skip: int = 0) -> Iterator[Any]:
        """Yields every crystal once, in an order that depends only on the seed, without the first `skip` batches."""

    def batches(self, batch_size: int) -> Iterator[Any]:
        """Yields every crystal once, in a fixed order."""

    def sizes(self) -> np.ndarray:
        """Returns the size of each crystal, as `Trainable.flop` counts it."""

    def padded_sizes(self) -> np.ndarray:
        """Returns the size that each crystal is padded to, in no particular order."""


class Bucketed:
    """A data set on a device, in buckets with a length and `take`; every batch comes from one bucket."""

    buckets: Sequence[Any]
    device: torch.device

    def plan(self, batch_size: int) -> list[tuple[int, int, int]]:
        """Returns the batches of an epoch as (bucket, first index, end index).

        Each bucket is divided into equal parts of at most batch_size crystals, so that no batch is a small remainder.
        """
        cuts = []
        for bucket, crystals in enumerate(self.buckets):
            edges = np.linspace(0, len(crystals), -(-len(crystals) // batch_size) + 1).astype(int).tolist()
            cuts += [(bucket, first, end) for first, end in pairwise(edges)]
        return cuts

    def epoch(self, batch_size: int, seed: Sequence[int], skip: int = 0) -> Iterator[Any]:
        """Yields every crystal once, in an order that depends only on the seed, without the first `skip` batches."""
        generator = torch.Generator().manual_seed(mix_seed(*seed))
        orders = [
            torch.randperm(len(bucket), generator=generator).to(self.device, non_blocking=True)
            for bucket in self.buckets
        ]
        cuts = self.plan(batch_size)
        for step in torch.randperm(len(cuts), generator=generator).tolist()[skip:]:
            bucket, first, end = cuts[step]
            yield self.buckets[bucket].take(orders[bucket][first:end])

    def batches(self, batch_size: int) -> Iterator[Any]:
        """Yields every crystal once, in a fixed order."""
        for bucket, first, end in self.plan(batch_size):
            yield self.buckets[bucket].take(torch.arange(first, end, device=self.device))


class DeviceData(Bucketed):
    """A data set on one device, with one `Batch` per bucket.

    A bucket is padded to its largest number of atoms, so that a data set of one size has no padding.
    """

    def __init__(self, crystals: Sequence[Crystal], device: str, extra: Extra = no_extra) -> None:
        self.crystals = list(crystals)
        self.n_atoms = np.array([crystal.n_atoms for crystal in crystals], dtype=np.int64)
        self.device = torch.device(device)
        ceilings = np.array([bucket_ceiling(int(n)) for n in self.n_atoms], dtype=np.int64)
        self.buckets = [
            _pad([crystals[int(i)] for i in np.flatnonzero(ceilings == ceiling)], self.device, extra)
            for ceiling in np.unique(ceilings)
        ]
        self.digest = _digest(crystals, self.buckets)

    def __len__(self) -> int:
        return len(self.n_atoms)

    def sizes(self) -> np.ndarray:
        """Returns the number of atoms of each crystal."""
        return self.n_atoms

    def padded_sizes(self) -> np.ndarray:
        """Returns the number of atoms each crystal is padded to, in no particular order."""
        return np.concatenate([np.full(len(bucket), bucket.mask.shape[1]) for bucket in self.buckets])


@dataclass(frozen=True)
class Split:
    """Training and validation data on the device. left_out: numbers of rows left out, by split and reason."""

    train: Data
    val: Data
    left_out: dict[str, dict[str, int]]


def load_split(
    train: Sequence[Crystal],
    val: Sequence[Crystal],
    device: str,
    refuse: Callable[[Crystal], str | None] = lambda _: None,
    extra: Extra = no_extra,
) -> Split:
    """Returns the usable crystals of both sets on the device. Raises ValueError with the reasons when one has none."""
    kept, left_out = select_both(train, val, refuse)
    data = {name: DeviceData(crystals, device, extra) for name, crystals in kept.items()}
    return Split(data["train"], data["val"], left_out)


def select_both(
    train: Sequence[Crystal], val: Sequence[Crystal], refuse: Callable[[Crystal], str | None]
) -> tuple[dict[str, list[Crystal]], dict[str, dict[str, int]]]:
    """Returns the usable crystals of "train" and "val", and counts of the rest. Raises ValueError when one has none."""
    kept, left_out = {}, {}
    for name, crystals in (("train", train), ("val", val)):
        kept[name], left_out[name] = select(crystals, refuse)
        if not kept[name]:
            reasons = "; ".join(f"{count} {reason}" for reason, count in left_out[name].items()) or "it is empty"
            raise ValueError(f"{name}: none of its {len(crystals)} crystals can be trained on ({reasons}).")
    return kept, left_out


def bucket_ceiling(n_atoms: int) -> int:
    """Returns the largest number of atoms of the bucket of n_atoms: multiples of 4 up to 20, then steps of 8."""
    if n_atoms <= 20:
        return -(-n_atoms // 4) * 4
    return 20 + -(-(n_atoms - 20) // 8) * 8


def mix_seed(*parts: int) -> int:
    """Returns one seed mixed from several numbers, so that neighbouring seeds give unrelated random numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def select(
    crystals: Sequence[Crystal], refuse: Callable[[Crystal], str | None] = lambda _: None
) -> tuple[list[Crystal], dict[str, int]]:
    """Returns the crystals that can be trained on, and the number left out for each reason.

    refuse: a model's own criterion, which returns the reason to leave a crystal out, or None.
    """
    kept: list[Crystal] = []
    left_out: Counter[str] = Counter()
    for crystal in crystals:
        reason = _unusable(crystal) or refuse(crystal)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(crystal)
    return kept, dict(sorted(left_out.items()))


def mask_of(n_atoms: Int[Tensor, "batch"], width: int) -> Bool[Tensor, "batch {width}"]:
    """Returns the mask of atoms in rows padded to `width`."""
    return torch.arange(width, device=n_atoms.device) < n_atoms.unsqueeze(-1)


def _unusable(crystal: Crystal) -> str | None:
    if not crystal.ok:
        return f"status {crystal.status}"
    if np.any(crystal.atomic_numbers < 1) or np.any(crystal.atomic_numbers > MAX_ELEMENT):
        return f"atomic number outside 1 to {MAX_ELEMENT}"
    if crystal.n_atoms > MAX_ATOMS:
        return f"more than {MAX_ATOMS} atoms"
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return "geometry not finite"
    if not abs(np.linalg.det(crystal.lattice)) > 1e-6:
        return "cell without volume"
    return None


def _digest(crystals: Sequence[Crystal], buckets: Sequence[Batch]) -> str:
    digest = hashlib.sha256()
    for crystal in crystals:
        for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
            digest.update(np.ascontiguousarray(array).tobytes())
    for bucket in buckets:
        for name, values in sorted(bucket.extra.items()):
            digest.update(name.encode() + values.cpu().numpy().tobytes())
    return digest.hexdigest()


def _pad(crystals: Sequence[Crystal], device: torch.device, extra: Extra) -> Batch:
    width = max(crystal.n_atoms for crystal in crystals)
    frac_coords = np.zeros((len(crystals), width, 3), dtype=np.float32)
    numbers = np.zeros((len(crystals), width), dtype=np.int64)
    for row, crystal in enumerate(crystals):
        frac_coords[row, : crystal.n_atoms] = crystal.frac_coords
        numbers[row, : crystal.n_atoms] = crystal.atomic_numbers
    lattice = np.stack([crystal.lattice for crystal in crystals])
    lengths, angles = lattice_to_parameters(lattice)
    return Batch(
        frac_coords=torch.from_numpy(frac_coords).to(device),
        atomic_numbers=torch.from_numpy(numbers).to(device),
        mask=torch.from_numpy(numbers > 0).to(device),
        lattice=torch.from_numpy(lattice.astype(np.float32)).to(device),
        lengths=torch.from_numpy(lengths.astype(np.float32)).to(device),
        angles=torch.from_numpy(angles.astype(np.float32)).to(device),
        extra={name: torch.from_numpy(values).to(device) for name, values in extra(crystals, width).items()},
    )
