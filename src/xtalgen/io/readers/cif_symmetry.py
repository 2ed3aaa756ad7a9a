"""The symmetry of a CIF: its operations, read or looked up by the name of the space group, applied to the sites.

Nothing is guessed silently: an unknown name or an open origin is an error that names it, and the atoms must agree with
the chemical formula and the number of formula units where the file states them.
"""

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtalgen.io.checks import atomic_number
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif_syntax import PLACEHOLDERS, Block, read_number
from xtalgen.structure.space_group_settings import SpaceGroupSetting, SymbolError, find_settings, fits_cell, operations

OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz")
SYMBOLS = (
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_full",
    "_symmetry_space_group_name_h-m",
    "_symmetry_space_group_name_h_m",
    "_space_group_name_h-m",
)
HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
TERM = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)?(?:/(\d+))?\*?([xyz]?)")
SAME_SITE = 1e-4  # fractional; closer sites are identical, as in pymatgen
IMPOSSIBLY_CLOSE = 0.3  # Å; closer images of one site are one atom given with few digits
AMOUNT = re.compile(r"([A-Z][a-z]?)\s*(\d+\.?\d*|\.\d+)?\s*")
IDENTITY = np.eye(4)[None]

Affine = Float[np.ndarray, "operations 4 4"]


@dataclass(frozen=True)
class Symmetry:
    """Operations as affine matrices on fractional columns, and assumptions made ("" for none)."""

    affine: Affine
    assumed: str = ""


def read_symmetries(block: Block, lattice: Float[np.ndarray, "3 3"]) -> list[Symmetry]:
    """Returns the possible symmetries of a block: one, or several where its symbol leaves the origin open.

    Operations take precedence over names. Raises CrystalError naming the symbol when it is unknown, contradicts the
    number of the space group, or does not fit the cell.
    """
    given = _given_operations(block)
    if given is not None:
        return [given]
    symbol, hall, number = block.value(*SYMBOLS), block.value(*HALL), block.value(*NUMBER)
    if not (symbol or hall or number):
        return [Symmetry(IDENTITY, "no symmetry is given: P 1 was assumed")]
    name = symbol or hall or f"number {number}"
    try:
        settings = find_settings(symbol=symbol, hall=hall, number=_whole(number) if number else 0)
    except SymbolError as error:
        raise CrystalError("unparsable", f"{error}; give the symmetry operations") from error
    fitting = [setting for setting in settings if fits_cell(operations(setting.hall_number)[:, :3, :3], lattice)]
    if not fitting:
        raise CrystalError("unparsable", f"the space group {name} does not fit the cell")
    return _choices(fitting, name)


def _choices(settings: Sequence[SpaceGroupSetting], name: str) -> list[Symmetry]:
    """Returns the symmetries of settings that fit, alternative origins as alternatives."""
    first = settings[0]
    # Among several unique axes or cell choices the first is standard; among several origins none is.
    origins = [setting for setting in settings if setting.code[:1] in ("1", "2") and setting.symbol == first.symbol]
    assumed = ""
    if len({setting.symbol for setting in settings}) > 1:
        assumed = f"the space group {name} leaves the axes open: {first.name} was assumed"
    found: dict[frozenset[bytes], Symmetry] = {}
    for setting in origins or [first]:
        affine = operations(setting.hall_number)
        told = f"the space group {name} leaves the origin open: {setting.name} agrees with the formula"
        same = frozenset((np.round(operation, 6) + 0.0).tobytes() for operation in affine)
        found.setdefault(same, Symmetry(affine, "; ".join(filter(None, (assumed, told)))))
    if len(found) == 1:
        return [Symmetry(operations(first.hall_number), assumed)]
    return list(found.values())


def choose(
    symmetries: Sequence[Symmetry], build: Callable[[Symmetry], Counter[int]], block: Block
) -> tuple[Symmetry, Counter[int]]:
    """Returns the one symmetry whose atoms agree with the block's formula, and the atoms of each element.

    build: returns the atoms of each element under a symmetry. Raises CrystalError when none agrees or several do.
    """
    outcomes: list[tuple[Symmetry, Counter[int]]] = []
    failure: CrystalError | None = None
    for symmetry in symmetries:
        try:
            counts = build(symmetry)
            check_formula(block, counts)
        except CrystalError as error:
            failure = failure or error
        else:
            outcomes.append((symmetry, counts))
    if not outcomes and failure:
        raise failure
    if len(outcomes) > 1:
        symbol = block.value(*SYMBOLS) or block.value(*HALL) or f"number {block.value(*NUMBER)}"
        raise CrystalError(
            "unparsable", f"the space group {symbol} leaves the origin open; add :1 or :2, or the symmetry operations"
        )
    return outcomes[0]


def check_formula(block: Block, counts: Counter[int]) -> None:
    """Raises CrystalError unless the atoms agree with the formula sum, and with the formula units per cell, as stated.

    With Z the cell must hold the formula Z times, or once (pymatgen writes the content of the cell as the formula);
    without Z in any multiple. Formulas that cannot be read, with brackets or solvents, are not compared.
    """
    formula, units = block.value("_chemical_formula_sum"), block.value("_cell_formula_units_z")
    stated = read_formula_sum(formula)
    if not stated:
        return
    found = {number: float(count) for number, count in counts.items()}
    try:
        multiples = [read_number(units), 1.0] if units else [sum(found.values()) / sum(stated.values())]
    except ValueError:
        multiples = [sum(found.values()) / sum(stated.values())]
    if not any(_agree(found, stated, multiple) for multiple in multiples):
        read = " ".join(f"{_symbol(number)}{count}" for number, count in sorted(counts.items()))
        said = f"{formula!r}" + (f" with Z = {units}" if units else "")
        raise CrystalError("unparsable", f"the formula is {said}, the atoms read are {read}")


@functools.lru_cache(maxsize=10_000)
def read_formula_sum(formula: str) -> dict[int, float]:
    """Returns the amount of each element in a formula such as "Fe2 O3", by atomic number; {} when it is not plain."""
    amounts: defaultdict[int, float] = defaultdict(float)
    end = 0
    for match in AMOUNT.finditer(formula):
        if match.start() != end:
            return {}
        end = match.end()
        try:
            amounts[atomic_number(match[1])] += float(match[2] or 1)
        except CrystalError:
            return {}
    return {number: amount for number, amount in amounts.items() if amount} if end == len(formula) else {}


def unique_images(coordinates: Float[np.ndarray, "sites 3"], affine: Affine) -> Float[np.ndarray, "atoms 3"]:
    """Returns the distinct positions in [0, 1) of the symmetry images of sites, in the order of the operations."""
    found = np.empty((0, 3))
    for coordinate in coordinates:
        images = (affine @ np.append(coordinate, 1.0))[:, :3]
        images -= np.floor(images)
        for image in images:
            if not _near(found, image).any():
                found = np.vstack([found, image])
    return found


def same_place(site: Float[np.ndarray, " 3"], others: Float[np.ndarray, "sites 3"], affine: Affine) -> np.ndarray:
    """Returns which of the other sites coincide with an image of a site."""
    images = (affine @ np.append(site, 1.0))[:, :3]
    apart = others[:, None] - images[None]
    return np.all(np.abs(apart - np.rint(apart)) < SAME_SITE, axis=-1).any(axis=1)


def move_to_special_position(
    site: Float[np.ndarray, " 3"], decimals: int, affine: Affine, lattice: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, " 3"], float]:
    """Returns a site moved to the special position that its digits approximate, and the displacement (Å).

    A site given with few digits (0.333 for 1/3) has nearly coincident images of the same atom. The mean of those within
    the rounding error is invariant under the operations that map it near itself. Raises CrystalError when images remain
    that are closer than 0.3 Å.
    """
    images = (affine @ np.append(site, 1.0))[:, :3]
    apart = images - site
    apart -= np.rint(apart)
    near = np.all(np.abs(apart) <= 2 * 10.0**-decimals, axis=1)
    moved = site
    if np.any(np.abs(apart[near]) >= SAME_SITE):
        moved = site + apart[near].mean(axis=0)
    distinct = unique_images(moved[None], affine)
    between = distinct[0] - distinct[1:]
    distances = np.linalg.norm((between - np.rint(between)) @ lattice, axis=1)
    if distances.size and distances.min() < IMPOSSIBLY_CLOSE:
        raise CrystalError(
            "unparsable",
            f"an atom and its symmetry image are {distances.min():.2g} Å apart; give its coordinates with more digits",
        )
    return moved, float(np.linalg.norm((moved - site) @ lattice))


def _given_operations(block: Block) -> Symmetry | None:
    texts = [text for text in block.column(*OPERATIONS) or [] if text.strip() not in PLACEHOLDERS]
    if texts:
        affine = np.array([read_operation(text) for text in texts])
        named = block.value(*SYMBOLS)
        alone = len(affine) == 1 and re.sub(r"[\s_]", "", named).lower() not in ("", "p1")
        told = f"the one operation given is that of P 1, the space group named is {named}" if alone else ""
    elif block.column(MAGNETIC[0]):
        turns = [read_operation(text) for text in block.column(MAGNETIC[0]) or []]
        shifts = [read_operation(text) for text in block.column(MAGNETIC[1]) or []] or [np.eye(4)]
        affine, told = np.array([shift @ turn for shift, turn in itertools.product(shifts, turns)]), ""
    else:
        return None
    if not np.any(np.all(affine == np.eye(4), axis=(1, 2))):
        affine = np.concatenate([IDENTITY, affine])
    return Symmetry(affine, told)


@functools.lru_cache(maxsize=4096)
def read_operation(text: str) -> Float[np.ndarray, "4 4"]:
    """Returns the affine matrix of an operation such as "-x, y+1/2, z". Raises CrystalError on anything else."""
    parts = re.sub(r"\s", "", text).lower().split(",")
    affine = np.eye(4)
    if len(parts) not in (3, 4):  # magnetic operations end with time reversal
        raise CrystalError("unparsable", f"the symmetry operation {text!r} cannot be read")
    for row, part in enumerate(parts[:3]):
        affine[row] = 0.0
        end = 0
        for match in TERM.finditer(part):
            sign, amount, divisor, axis = match.groups()
            if match.start() != end or not (amount or axis):
                break
            end = match.end()
            value = float(amount or 1) / float(divisor or 1) * (-1 if sign == "-" else 1)
            affine[row, "xyz".index(axis) if axis else 3] += value
        if end != len(part) or not part:
            raise CrystalError("unparsable", f"the symmetry operation {text!r} cannot be read")
    return affine


def _near(others: Float[np.ndarray, "sites 3"], site: Float[np.ndarray, " 3"]) -> np.ndarray:
    apart = others - site
    return np.all(np.abs(apart - np.rint(apart)) < SAME_SITE, axis=1)


def _agree(found: dict[int, float], stated: dict[int, float], multiple: float) -> bool:
    if found.keys() != stated.keys():
        return False
    return all(abs(found[number] - stated[number] * multiple) <= 0.01 * max(1.0, found[number]) for number in found)


def _symbol(number: int) -> str:
    from xtalgen.structure.elements import ALL_SYMBOLS

    return ALL_SYMBOLS[number - 1]


def _whole(text: str) -> int:
    try:
        return int(read_number(text))
    except ValueError:
        raise SymbolError(f"unknown space-group number {text!r}") from None
