"""Pages of crystals for commands: the explorer on one or more tables."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from xtalgen.commands.functions.inputs import write_given
from xtalgen.crystals import read_facts
from xtalgen.explorer.crystal_sets import Files
from xtalgen.explorer.projection import UmapConfig
from xtalgen.stages.explorer import Options, write_explorer


def write_page(table: Path, out: Path, *, metrics: Path | None = None, seed: int = 0) -> Path:
    """Writes the page of a table of crystals, with its metrics where there are some, and returns its path.

    Raises ContractError when a file is not the expected table.
    """
    return _write([Files(out.stem, table, metrics=metrics)], out, out.stem, seed)


def explore(
    structures: Sequence[str | Path], out: str | Path = "explorer.html", *, workers: int, seed: int = 0
) -> Path:
    """Writes the page of files of structures, one set for each file or folder, and returns its path.

    Crystal tables (.parquet), also those with verdicts, are shown with all their columns. Raises ValueError or OSError,
    saying what to do, when a file is wrong as a whole.
    """
    page = Path(out)
    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        sets = []
        for index, given in enumerate(map(Path, structures)):
            table = given if _is_table(given) else Path(folder) / f"{index}.parquet"
            if table != given:
                write_given(given, table, workers=workers)
            sets.append(Files(given.absolute().name.split(".")[0], table))
        return _write(sets, page, page.stem, seed)


def _is_table(path: Path) -> bool:
    """Whether a file is a crystal table of this package."""
    if path.suffix != ".parquet":
        return False
    try:
        read_facts(path)
    except ValueError:
        return False
    return True


def _write(sets: list[Files], out: Path, title: str, seed: int) -> Path:
    write_explorer(sets, [], options=Options(title, seed=seed), umap=UmapConfig(seed=seed), cache=None, out=out)
    return out
