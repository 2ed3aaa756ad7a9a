"""The columns of the explorer: properties of each crystal besides geometry, set and id. `COLUMNS` is the only list.

The stage packs the columns that the sets have. Their descriptions go into the page's header, from which the page
derives colours, filters, facts and CSV. See docs/guides/add-an-explorer-column.md.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.explorer.encoding import MISSING, scaled


class Kind(StrEnum):
    """Type of a column: a flag or a number; both may be unknown."""

    FLAG = "flag"
    NUMBER = "number"


class Colour(StrEnum):
    """How a column colours the map: not at all, by a scale, by yes and no, or by categories that the page defines."""

    NONE = ""
    SCALE = "scale"
    YES_NO = "yes_no"
    VALIDITY = "validity"
    STABILITY = "stability"
    ELEMENT_COUNT = "element_count"
    CRYSTAL_SYSTEM = "crystal_system"


class Shown(StrEnum):
    """Where the value is listed: not by itself, among the verdicts, in the panel, or in panel and card."""

    NOWHERE = ""
    VERDICT = "verdict"
    PANEL = "panel"
    CARD = "card"


def computed_by_page(_: Crystal) -> None:
    """Marks a column that the page computes from the geometry: no values are stored."""


@dataclass(frozen=True)
class Column:
    """One property of every crystal.

    name: column of the evaluated table. label: name in menus and lists. unit, step, digits: for numbers, which are
    stored as multiples of `step` and shown with `digits` decimals. yes, no: text of a flag when true and when false; ""
    for none. implied_by: a flag that makes this verdict redundant when true. needs: a property without which the
    table's false means that the flag was not evaluated. filter: whether there is a button that
    keeps only crystals with the flag true. colour, ends, reverse: how to colour the map; ends of the scale (None: 2nd
    and 98th percentile), low values bright. shown: where the value is listed. value: returns the value of a crystal;
    None takes the table's column called `name`.
    """

    name: str
    kind: Kind
    label: str
    unit: str = ""
    step: float = 1.0
    digits: int = 0
    yes: str = ""
    no: str = ""
    implied_by: str = ""
    needs: str = ""
    filter: bool = False
    colour: Colour = Colour.NONE
    ends: tuple[float, float] | None = None
    reverse: bool = False
    shown: Shown = Shown.NOWHERE
    value: Callable[[Crystal], float | bool | None] | None = None

    @property
    def block(self) -> str:
        """Name of the column's block in the payload."""
        return f"is_{self.name}" if self.kind is Kind.FLAG else self.name

    def values(self, rows: Sequence[Crystal]) -> list[Any]:
        """Returns the value of each crystal, None where unknown."""
        return [self._value(row) for row in rows]

    def _value(self, row: Crystal) -> Any:
        found = self.value(row) if self.value else row.info.get(self.name)
        unknown = self.needs in row.info and row.info[self.needs] is None
        return None if unknown and found is False else found

    def describe(self) -> dict[str, Any]:
        """Returns the column's entry in the page's header."""
        return {
            "name": self.name,
            "kind": self.kind,
            "block": self.block,
            "label": self.label,
            "unit": self.unit,
            "step": self.step,
            "digits": self.digits,
            "yes": self.yes,
            "no": self.no,
            "implied_by": self.implied_by,
            "filter": self.filter,
            "colour": self.colour,
            "ends": self.ends,
            "reverse": self.reverse,
            "shown": self.shown,
        }


def energy_gain(row: Crystal) -> float | None:
    """Returns the energy that relaxation released, in eV/atom; None without relaxation."""
    first, last = row.info.get("e_initial"), row.info.get("energy")
    return None if first is None or last is None or not row.n_atoms else (first - last) / row.n_atoms


_ENERGY: dict[str, Any] = {"unit": "eV/atom", "step": 1e-4, "digits": 3}

# In the order of menus, filters and lists on the page.
COLUMNS: tuple[Column, ...] = (
    Column(
        "e_above_hull", Kind.NUMBER, "energy above hull", **_ENERGY, colour=Colour.SCALE, ends=(0.0, 0.5), reverse=True
    ),
    Column("gain", Kind.NUMBER, "energy released by relaxation", **_ENERGY, value=energy_gain),
    Column("sun", Kind.FLAG, "stable, unique and novel", yes="S.U.N.", shown=Shown.VERDICT),
    Column("msun", Kind.FLAG, "metastable, unique and novel", yes="M.S.U.N.", implied_by="sun", shown=Shown.VERDICT),
    Column(
        "stable",
        Kind.FLAG,
        "stability",
        yes="stable",
        needs="e_above_hull",
        filter=True,
        colour=Colour.STABILITY,
        shown=Shown.VERDICT,
    ),
    Column(
        "metastable",
        Kind.FLAG,
        "metastability",
        yes="metastable",
        no="not metastable",
        implied_by="stable",
        needs="e_above_hull",
        filter=True,
        shown=Shown.VERDICT,
    ),
    Column(
        "unique",
        Kind.FLAG,
        "uniqueness",
        yes="unique",
        no="duplicate",
        filter=True,
        colour=Colour.YES_NO,
        shown=Shown.VERDICT,
    ),
    Column(
        "novel", Kind.FLAG, "novelty", yes="novel", no="known", filter=True, colour=Colour.YES_NO, shown=Shown.VERDICT
    ),
    Column("valid", Kind.FLAG, "validity", yes="valid", filter=True, colour=Colour.VALIDITY),
    Column("struct_valid", Kind.FLAG, "structural validity", yes="structure valid"),
    Column("comp_valid", Kind.FLAG, "compositional validity", yes="composition valid"),
    Column("converged", Kind.FLAG, "convergence of the relaxation", yes="converged", no="not converged", filter=True),
    Column(
        "matched",
        Kind.FLAG,
        "match with its target",
        yes="matched",
        no="not matched",
        filter=True,
        colour=Colour.YES_NO,
        shown=Shown.CARD,
    ),
    Column(
        "rmsd",
        Kind.NUMBER,
        "RMSD to relaxed structure",
        "Å",
        1e-3,
        2,
        colour=Colour.SCALE,
        ends=(0.0, 1.0),
        shown=Shown.PANEL,
    ),
    Column("n_steps", Kind.NUMBER, "relaxation steps"),
    Column("n_elements", Kind.NUMBER, "number of elements", colour=Colour.ELEMENT_COUNT, value=computed_by_page),
    Column("crystal_system", Kind.NUMBER, "crystal system", colour=Colour.CRYSTAL_SYSTEM, value=computed_by_page),
    Column(
        "density",
        Kind.NUMBER,
        "density",
        "g/cm³",
        step=1e-4,
        digits=2,
        colour=Colour.SCALE,
        shown=Shown.CARD,
        value=computed_by_page,
    ),
    Column("n_atoms", Kind.NUMBER, "atoms per cell", colour=Colour.SCALE, shown=Shown.CARD, value=computed_by_page),
)


def column_blocks(
    rows: Sequence[Crystal], available: Collection[str]
) -> tuple[list[Column], dict[str, tuple[str, np.ndarray]]]:
    """Returns the columns present, and the blocks of those that are stored. available: columns of the tables.

    A flag is kept when a table has it, a number when at least one crystal has a value. Flags are stored as 0 (unknown),
    1 (false) and 2 (true), numbers as multiples of their step.
    """
    kept: list[Column] = []
    blocks: dict[str, tuple[str, np.ndarray]] = {}
    for column in COLUMNS:
        if column.value is computed_by_page:
            kept.append(column)
            continue
        values = column.values(rows)
        if column.kind is Kind.FLAG:
            if column.name not in available and column.value is None:
                continue
            numbers = [0 if value is None else 1 + bool(value) for value in values]
            blocks[column.block] = ("uint8", np.array(numbers, dtype="u1"))
        else:
            multiples = scaled(values, column.step)
            if not (multiples != MISSING).any():
                continue
            blocks[column.block] = ("int32", multiples)
        kept.append(column)
    return kept, blocks
