"""What the commands and functions return: crystals in order, as a table, as structures of other libraries, as files."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtalgen.commands.functions.outputs import check_output, write_crystals
from xtalgen.crystals import Crystal
from xtalgen.metrics.result_file import Evaluation
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.structure.geometry import usable, volume
from xtalgen.structure.matcher import arrays
from xtalgen.structure.space_group import space_group

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from ase import Atoms
    from pymatgen.core import Structure

SHOWN = 20  # rows of a table in a notebook


@dataclass(frozen=True)
class CrystalSet:
    """Crystals in order, failed ones included: those that were asked for, or given."""

    rows: Sequence[Crystal]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Crystal]:
        return iter(self.rows)

    @property
    def structures(self) -> "list[Structure | None]":
        """The crystals as pymatgen structures; None where there is no usable geometry."""
        from xtalgen.structure.pymatgen import to_structure

        return [to_structure(row) if usable(row) else None for row in self.rows]

    @property
    def atoms(self) -> "list[Atoms | None]":
        """The crystals as ASE atoms; None where there is no usable geometry."""
        from xtalgen.io.writers.encoding import to_atoms

        return [to_atoms(row) if usable(row) else None for row in self.rows]

    @cached_property
    def crystals(self) -> "pd.DataFrame":
        """A row for each crystal: id, status, what is computed from its geometry, and all that is known of it.

        Lattices and coordinates are left out; `structures` and `atoms` have them.
        """
        import pandas as pd

        return pd.DataFrame(self.described)

    @cached_property
    def described(self) -> list[dict[str, Any]]:
        """The rows of `crystals` as dictionaries."""
        return [describe(row) for row in self.rows]

    def write(self, out: str | Path) -> Path:
        """Writes the crystals to a file, in the format of its suffix (`outputs.SUFFIXES`), and returns its path.

        Raises ValueError for another suffix.
        """
        path = Path(out)
        check_output(path)
        write_crystals(self.rows, path, self.described)
        return path

    def _repr_html_(self) -> str:
        more = f"<p>{len(self):,} crystals, the first {SHOWN} shown</p>" if len(self) > SHOWN else ""
        return f"{self.crystals.head(SHOWN).to_html(index=False)}{more}"


def describe(crystal: Crystal) -> dict[str, Any]:
    """Returns what a table says of a crystal: id, status, what its geometry gives, then the columns of its row.

    density in g/cm³, volume_per_atom in Å³; both, formula, n_atoms and spg_num are None without usable geometry.
    spg_num is found by moyo with a tolerance of 0.1 Å, unless the row has it.
    """
    from xtalgen.metrics.distributions import density
    from xtalgen.structure.pymatgen import reduced_formula

    facts: dict[str, Any] = dict.fromkeys(("formula", "n_atoms", "spg_num", "density", "volume_per_atom"))
    if usable(crystal):
        facts |= {
            "formula": reduced_formula(crystal.atomic_numbers),
            "n_atoms": crystal.n_atoms,
            "spg_num": crystal.info.get("spg_num") or space_group(arrays(crystal)) or None,
            "density": density(crystal),
            "volume_per_atom": volume(crystal.lattice) / crystal.n_atoms,
        }
    others = {name: value for name, value in crystal.info.items() if name not in facts}
    return {"id": crystal.id, "status": crystal.status, **facts, **others}


@dataclass(frozen=True)
class Scores(CrystalSet):
    """Scored crystals: `metrics`, `funnel`, and in `crystals` the verdicts on each. notes: messages for the user."""

    evaluation: Evaluation
    notes: Sequence[str] = ()

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """Every metric by name: value, n, and its 95 % interval from low to high; without a value, the reason."""
        return self.evaluation.metrics

    @property
    def funnel(self) -> dict[str, int]:
        """How many crystals passed each step and all steps before it."""
        return dict(self.evaluation.funnel)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Every choice behind the numbers."""
        return self.evaluation.recipe

    def __str__(self) -> str:
        from xtalgen.commands.functions.report import report

        return report(self.evaluation)

    def _repr_html_(self) -> str:
        from xtalgen.commands.functions.report import metric_rows

        head, *rows = metric_rows(self.evaluation)[0]
        cells = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
        cells += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        lines = "".join(f"<tr>{line}</tr>" for line in cells)
        title = html.escape(str(self).partition("\n")[0])
        return f"<table><caption>{title}</caption>{lines}</table>"
