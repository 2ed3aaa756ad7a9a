"""Readers of phase diagrams: pymatgen JSON of a phase diagram, a list of entries or a table of them."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import ContractError, Crystal
from xtalgen.io.entries import PICKLES

SUFFIXES = (".json", ".json.gz")
STAND_IN_VOLUME = 20.0  # Å³ per atom


@dataclass(frozen=True)
class PhaseEntry:
    """A competing phase: name, number of atoms by symbol, energy in eV with all corrections.

    corrected: whether it has a correction; None where unknown.
    """

    name: str
    composition: tuple[tuple[str, float], ...]
    energy: float
    corrected: bool | None = None

    @property
    def elements(self) -> frozenset[str]:
        """The symbols of its elements."""
        return frozenset(symbol for symbol, _ in self.composition)


def read_phase_diagram(path: Path) -> list[PhaseEntry]:
    """Returns the entries of a file: .json or .json.gz of a PhaseDiagram, PatchedPhaseDiagram or of computed entries.

    Diagrams contain entries several times; equal ones count once, and repeated names get "#2", "#3", …. Pickles are
    refused: reading one can run code. Raises ContractError, naming file and remedy, also where the oxides of computed
    entries carry no correction, so that the MP2020 scheme cannot have been applied.
    """
    if not path.name.lower().endswith(SUFFIXES):
        pickle = any(path.name.lower().removesuffix(".gz").endswith(suffix) for suffix in PICKLES)
        why = "such a file can run code when it is read, so it is refused" if pickle else "unknown suffix"
        raise ContractError(
            f"{path}: {why}. Load it where you trust it and write its entries as JSON: "
            "json.dump([entry.as_dict() for entry in diagram.all_entries], file)."
        )
    try:
        content = path.read_bytes()
        found = json.loads(gzip.decompress(content) if path.name.lower().endswith(".gz") else content)
    except (OSError, EOFError, ValueError) as error:
        raise ContractError(f"{path}: not readable JSON ({error}). Fetch or write the file again.") from error
    read = dict.fromkeys(_read(values, path) for values in _entries(found))
    if not read:
        raise ContractError(f"{path}: holds no entries. Give a phase diagram or computed entries of pymatgen as JSON.")
    oxides = [each.corrected for each in read if len(each.composition) > 1 and "O" in dict(each.composition)]
    if oxides and all(corrected is False for corrected in oxides):
        raise ContractError(
            f"{path}: none of its {len(oxides)} oxides has a correction. Process the entries with pymatgen's "
            "MaterialsProject2020Compatibility first."
        )
    times: Counter[str] = Counter()
    entries = []
    for each in read:
        times[each.name] += 1
        entries.append(each if times[each.name] == 1 else replace(each, name=f"{each.name}#{times[each.name]}"))
    return entries


def stand_in(entry: PhaseEntry) -> Crystal:
    """Returns a crystal of an entry's composition, for tables that need a geometry; its coordinates have no meaning."""
    from pymatgen.core import Composition, Element

    given = dict(entry.composition)
    formula, _ = Composition(given).get_integer_formula_and_factor()
    counts = {Element(symbol).Z: int(count) for symbol, count in Composition(formula).get_el_amt_dict().items()}
    numbers = np.repeat(list(counts), list(counts.values())).astype(np.uint8)
    edge = (STAND_IN_VOLUME * len(numbers)) ** (1 / 3)
    places = np.repeat(np.arange(len(numbers))[:, None] / len(numbers), 3, axis=1)
    per_atom = entry.energy / sum(given.values())
    return Crystal(entry.name, "ok", np.eye(3) * edge, places, numbers, {"energy": per_atom * len(numbers)})


def _entries(found: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every dictionary that looks like an entry, at any depth."""
    if isinstance(found, dict):
        if "energy" in found and ("composition" in found or "structure" in found):
            yield found
            return
        for value in found.values():
            yield from _entries(value)
    elif isinstance(found, list):
        for value in found:
            yield from _entries(value)


def _read(values: Mapping[str, Any], path: Path) -> PhaseEntry:
    name = str(values.get("entry_id") or values.get("name") or "entry")
    try:
        composition = _composition(values)
        energy = float(values["energy"])
        kind = values.get("@class", "")
        # Computed entries hold VASP's energy and the correction separately, those of phase diagrams the sum.
        correction = float(values.get("correction") or 0.0) if kind.startswith("Computed") else 0.0
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"{path}: entry {name!r} cannot be read ({type(error).__name__}: {error}).") from error
    if not composition or not np.isfinite(energy):
        raise ContractError(f"{path}: entry {name!r} has no composition or no finite energy.")
    corrected = correction != 0 if kind.startswith("Computed") else None
    return PhaseEntry(name, tuple(sorted(composition.items())), energy + correction, corrected)


def _composition(values: Mapping[str, Any]) -> dict[str, float]:
    if "composition" in values:
        given = values["composition"]
        return {symbol: float(n) for symbol, n in given.items() if not symbol.startswith("@") and float(n) > 0}
    counts: dict[str, float] = {}
    for site in values["structure"]["sites"]:
        symbol = site["species"][0]["element"]
        counts[symbol] = counts.get(symbol, 0.0) + 1.0
    return counts
