"""A list of crystals that carries the mask of those with a usable geometry, so that it is computed once."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from xtalgen.crystals import Crystal
from xtalgen.structure import geometry
from xtalgen.structure.elements import MAX_VALID_NUMBER


class CrystalList(Sequence[Crystal]):
    """Crystals in order; lists made from it by `take`, `where` and `join` share cached properties."""

    def __init__(self, crystals: Iterable[Crystal], heaviest: Int[np.ndarray, " n"] | None = None) -> None:
        self._crystals = list(crystals)
        if heaviest is not None:
            self.__dict__["heaviest"] = heaviest

    @classmethod
    def of(cls, crystals: Iterable[Crystal]) -> "CrystalList":
        """Returns the same object when it is a CrystalList already, else a new one."""
        return crystals if isinstance(crystals, cls) else cls(crystals)

    @classmethod
    def join(cls, parts: Sequence["CrystalList"]) -> "CrystalList":
        """Returns the crystals of all parts, one part after the other."""
        crystals = [crystal for part in parts for crystal in part]
        return cls(crystals, np.concatenate([np.zeros(0, dtype=int), *(part.heaviest for part in parts)]))

    @functools.cached_property
    def heaviest(self) -> Int[np.ndarray, " n"]:
        """The highest atomic number of each crystal, 0 where its geometry cannot be worked with."""
        return np.array([geometry.heaviest_element(crystal) for crystal in self._crystals], dtype=int)

    @property
    def usable(self) -> Bool[np.ndarray, " n"]:
        """Which crystals are usable in the sense of `geometry.usable`."""
        return self.usable_up_to(MAX_VALID_NUMBER)

    def usable_up_to(self, max_number: int) -> Bool[np.ndarray, " n"]:
        """Returns which crystals have a geometry to work with and elements up to Z = `max_number`."""
        return (self.heaviest > 0) & (self.heaviest <= max_number)

    def take(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> "CrystalList":
        """Returns the crystals of the given rows, in their order."""
        rows = np.asarray(rows, dtype=int)
        return type(self)([self._crystals[row] for row in rows], self.heaviest[rows])

    def where(self, chosen: Bool[np.ndarray, " n"], others: "CrystalList") -> "CrystalList":
        """Returns this list's crystals in the chosen rows, those of a list of the same length elsewhere."""
        crystals = [one if here else other for one, other, here in zip(self, others, chosen, strict=True)]
        return type(self)(crystals, np.where(chosen, self.heaviest, others.heaviest))

    def only(self, chosen: Bool[np.ndarray, " n"]) -> "CrystalList":
        """Returns the same crystals, of which those not chosen count as not usable."""
        return type(self)(self._crystals, np.where(chosen, self.heaviest, 0))

    def __len__(self) -> int:
        return len(self._crystals)

    def __getitem__(self, row: Any) -> Any:  # as a list's
        return self._crystals[row]

    def __iter__(self) -> Iterator[Crystal]:
        return iter(self._crystals)
