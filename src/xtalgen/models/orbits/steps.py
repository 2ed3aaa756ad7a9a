"""A crystal of a given formula as a sequence of steps: space group, Wyckoff positions, cell, free coordinates.

The generator `write` alone defines the order of the steps and their choices. In training it is sent the answers of a
crystal, in sampling those drawn by a network.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from xtalgen.structure.elements import ORDER
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.wyckoff_positions import ELEMENT_RANK, n_centrings, orbit_forms, parse_form, primitive_cell

# Kinds of steps.
# The order matters: discrete kinds come first (up to SITE), coordinates last (from X on).
GROUP, SITE, VOLUME, B_TO_A, C_TO_A, ALPHA, BETA, GAMMA, X, Y, Z = range(11)
KINDS = 11
NOWHERE = -1
# Quantities of a cell and their bounds, which map to 0 and 1: ln(volume per atom / Å³), ln(b / a), ln(c / a), degrees.
BOUNDS = {
    VOLUME: (np.log(3.0), np.log(200.0)),
    B_TO_A: (-2.5, 2.5),
    C_TO_A: (-2.5, 3.0),
    ALPHA: (30.0, 150.0),
    BETA: (30.0, 150.0),
    GAMMA: (30.0, 150.0),
}
# The last space group of each crystal system, and the free quantities of its cells.
SYSTEMS = (
    (2, (VOLUME, B_TO_A, C_TO_A, ALPHA, BETA, GAMMA)),
    (15, (VOLUME, B_TO_A, C_TO_A, BETA)),
    (74, (VOLUME, B_TO_A, C_TO_A)),
    (194, (VOLUME, C_TO_A)),
    (230, (VOLUME,)),
)
# Trigonal and hexagonal groups, on hexagonal axes: γ = 120°.
HEXAGONAL = range(143, 195)
# Group 47 (P m m m) has 27 Wyckoff positions, more than any other.
MOST_LETTERS = 27
REDUCTIONS, HALVES = 100, 1e-4  # of the cell reduction: maximum number of passes; tolerance for halves
REMEMBERED = 1_000_000
FLAT = 1e-6  # volume of a cell with unit lengths below which it is flat

Formula = tuple[tuple[int, int], ...]  # (index in ORDER, atoms in the primitive cell) of each element, by index

Answer = int | float  # a choice, or a number from 0 to 1


@dataclass(frozen=True)
class Position:
    """A Wyckoff position: its letter, its representative "x,2x,1/4", and its atoms in a primitive cell."""

    letter: str
    form: str
    multiplicity: int

    @cached_property
    def axes(self) -> list[int]:
        """The free ones of x, y and z, as 0, 1 and 2."""
        return parse_form(self.form)[3]


@dataclass(frozen=True)
class Group:
    """A space group with its known Wyckoff positions, by letter. first: index of the first one among all positions."""

    spg_num: int
    generators: str
    positions: tuple[Position, ...]
    first: int

    @cached_property
    def cell_kinds(self) -> tuple[int, ...]:
        """The kinds of steps of its cell."""
        return next(kinds for last, kinds in SYSTEMS if self.spg_num <= last)


class Groups(Sequence[Group]):
    """The space groups of a training set, with the Wyckoff positions occupied in it."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = tuple(groups)
        self.indices = {group.spg_num: index for index, group in enumerate(self.groups)}
        self.positions = tuple(position for group in self.groups for position in group.positions)

    def __getitem__(self, index: int) -> Group:  # type: ignore[override]  # no slices
        return self.groups[index]

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def seen(cls, described: Iterable[Mapping[str, Any]]) -> "Groups":
        """Returns the groups and positions that occur in values of the column `wyckoff`."""
        generators: dict[int, str] = {}
        positions: dict[int, dict[str, Position]] = {}
        for one in described:
            number = one["spg_num"]
            generators[number] = one["generators"]
            for letter, form in zip(one["letters"], one["forms"], strict=True):
                if letter not in positions.setdefault(number, {}):
                    members = len(orbit_forms(one["generators"], form)[0])
                    positions[number][letter] = Position(letter, form, members)
        return cls.from_json(
            [
                [number, generators[number], [[p.letter, p.form, p.multiplicity] for _, p in sorted(letters.items())]]
                for number, letters in sorted(positions.items())
            ]
        )

    def to_json(self) -> list[Any]:
        """Returns the groups as JSON values."""
        return [
            [group.spg_num, group.generators, [[p.letter, p.form, p.multiplicity] for p in group.positions]]
            for group in self.groups
        ]

    @classmethod
    def from_json(cls, values: list[Any]) -> "Groups":
        """Returns the groups stored by `to_json`."""
        groups, first = [], 0
        for number, generators, positions in values:
            known = tuple(Position(*position) for position in positions)
            groups.append(Group(number, generators, known, first))
            first += len(known)
        return cls(groups)

    @lru_cache(maxsize=REMEMBERED)  # noqa: B019 - groups live as long as the program
    def possible(self, index: int, slot: int, left: int, rest: tuple[int, ...], used: int) -> bool:
        """Whether all remaining atoms can be placed on positions of a group.

        left: atoms of the present element, for positions from `slot` on; rest: atoms of the elements after it; used:
        bits of the occupied positions without free coordinates.
        """
        # The current element is complete: continue with the next one at the first position.
        if left == 0:
            return not rest or self.possible(index, 0, rest[0], rest[1:], used)
        slots = range(slot, len(self.groups[index].positions))
        return any(
            self.fits(index, further, left, used) and self.completes(index, further, left, rest, used)
            for further in slots
        )

    def fits(self, index: int, slot: int, left: int, used: int) -> bool:
        """Whether a position can be occupied with this number of atoms left."""
        return self.groups[index].positions[slot].multiplicity <= left and not used & self.taken(index, slot)

    def completes(self, index: int, slot: int, left: int, rest: tuple[int, ...], used: int) -> bool:
        """Whether all remaining atoms can be placed after this position is occupied."""
        multiplicity = self.groups[index].positions[slot].multiplicity
        return self.possible(index, slot, left - multiplicity, rest, used | self.taken(index, slot))

    def taken(self, index: int, slot: int) -> int:
        """Returns the bit of a position that can be occupied only once, 0 for one with free coordinates."""
        # Without free coordinates a position is a fixed set of points, so a second orbit would coincide with the first.
        return 0 if self.groups[index].positions[slot].axes else 1 << slot


@dataclass(frozen=True)
class Query:
    """The query of a step with its context.

    group: index of the group; element: index in ORDER; left: its atoms without a position; ordinal: index of the orbit;
    position: index among all positions; choices: possible groups, or slots of the group. NOWHERE where it does not
    apply.
    """

    kind: int
    group: int = NOWHERE
    element: int = NOWHERE
    left: int = 0
    ordinal: int = NOWHERE
    position: int = NOWHERE
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class WyckoffCrystal:
    """A crystal as answers to all steps: group, sites as (index in ORDER, slot in the group), numbers from 0 to 1.

    swelling: ln(volume / volume from the answers), the later enlargement of the cell.
    """

    group: int
    sites: tuple[tuple[int, int], ...]
    cell: tuple[float, ...]
    free: tuple[float, ...]
    swelling: float = 0.0


@dataclass(frozen=True)
class Affine:
    """A crystal whose atoms are at maps @ free + shifts, in fractions of the conventional cell.

    cell: row vectors of the conventional cell in Å; primitive: row vectors of a reduced primitive cell, in fractions of
    the conventional one.
    """

    numbers: Int[np.ndarray, " atoms"]
    maps: Float[np.ndarray, "atoms 3 free"]
    shifts: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    primitive: Float[np.ndarray, "3 3"]


def write(formula: Formula, groups: Groups, *, looking_ahead: bool) -> Generator[Query, Any, WyckoffCrystal | None]:
    """Yields the query of each step, receives the answers, and returns the crystal; None where no group is possible.

    An answer is the index of a group, the slot of a position, or a number from 0 to 1. looking_ahead: offer only
    choices after which all remaining atoms can be placed, rather than all that are valid at this step.
    """
    counts = tuple(count for _, count in formula)
    every = tuple(range(len(groups)))
    if looking_ahead:
        every = tuple(index for index in every if groups.possible(index, 0, 0, counts, 0))
        if not every:
            return None
    index = yield Query(GROUP, choices=every)
    group, used = groups[index], 0
    sites: list[tuple[int, int]] = []
    for number, (element, count) in enumerate(formula):
        left, slot, rest = count, 0, counts[number + 1 :]
        # Positions of an element are chosen in the order of their letters (slots), which makes the sequence unique.
        while left:
            choices = tuple(
                further
                for further in range(slot, len(group.positions))
                if groups.fits(index, further, left, used)
                and (not looking_ahead or groups.completes(index, further, left, rest, used))
            )
            slot = yield Query(SITE, index, element, left, len(sites), choices=choices)
            left -= group.positions[slot].multiplicity
            used |= groups.taken(index, slot)
            sites.append((element, slot))
    numbers = []
    # First the cell, then the free coordinates of each orbit: (cell kinds) + Σ free axes numbers.
    for query in _queries_of_numbers(index, group, sites):
        answer = yield query
        numbers.append(answer)
    n_cell = len(group.cell_kinds)
    return WyckoffCrystal(index, tuple(sites), tuple(numbers[:n_cell]), tuple(numbers[n_cell:]))


def crystal_of_answers(formula: Formula, answers: Sequence[Answer], groups: Groups) -> WyckoffCrystal:
    """Returns the crystal of these answers. Raises ValueError when `write` asks for more."""
    writing = write(formula, groups, looking_ahead=False)
    next(writing)
    try:
        for answer in answers:
            writing.send(answer)
    except StopIteration as end:
        return end.value
    raise ValueError(f"{len(answers)} answers are too few for this formula.")


def _queries_of_numbers(index: int, group: Group, sites: Sequence[tuple[int, int]]) -> Iterator[Query]:
    yield from (Query(kind, index) for kind in group.cell_kinds)
    for ordinal, (element, slot) in enumerate(sites):
        for axis in group.positions[slot].axes:
            yield Query(X + axis, index, element, 0, ordinal, group.first + slot)


def formula_of(atomic_numbers: Int[np.ndarray, " atoms"] | UInt8[np.ndarray, " atoms"]) -> Formula:
    """Returns the formula of the atoms of a cell."""
    indices, counts = np.unique([ELEMENT_RANK[int(number)] for number in atomic_numbers], return_counts=True)
    return tuple(zip(indices.tolist(), counts.tolist(), strict=True))


def answers_of(described: Mapping[str, Any], groups: Groups) -> list[Answer] | None:
    """Returns the answers for a value of the column `wyckoff`; None where the groups lack its group or a position."""
    index = groups.indices.get(described["spg_num"])
    if index is None:
        return None
    group = groups[index]
    slots = {position.letter: slot for slot, position in enumerate(group.positions)}
    if not set(described["letters"]) <= set(slots):
        return None
    sites = [slots[letter] for letter in described["letters"]]
    # Multiplicities refer to the primitive cell, the described cell is the conventional one.
    atoms = sum(group.positions[slot].multiplicity for slot in sites) * n_centrings(group.generators)
    return [index, *sites, *_cell_answers(group, described["cell"], atoms), *described["free"]]


def _cell_answers(group: Group, cell: Sequence[float], atoms: int) -> list[float]:
    a, b, c, *angles = cell
    volume = float(np.linalg.det(lattice_from_parameters(np.array([a, b, c]), np.array(angles))))
    # Logarithms, since volumes and axial ratios vary over orders of magnitude.
    values = {VOLUME: np.log(volume / atoms), B_TO_A: np.log(b / a), C_TO_A: np.log(c / a)}
    values |= dict(zip((ALPHA, BETA, GAMMA), angles, strict=True))
    return [
        float(np.clip((values[kind] - BOUNDS[kind][0]) / (BOUNDS[kind][1] - BOUNDS[kind][0]), 0.0, 1.0))
        for kind in group.cell_kinds
    ]


def affine_of(written: WyckoffCrystal, groups: Groups) -> Affine:
    """Returns the positions of the atoms of a primitive cell as affine functions of the free coordinates."""
    group = groups[written.group]
    numbers, maps, shifts, n_free = [], [], [], 0
    for element, slot in written.sites:
        position = group.positions[slot]
        matrices, members = orbit_forms(group.generators, position.form)
        # A (x, y, z) + t; the free ones of x, y, z are the next columns among the crystal's free coordinates.
        own = np.zeros((len(matrices), 3, len(written.free)))
        own[:, :, n_free : n_free + len(position.axes)] = matrices[:, :, position.axes]
        n_free += len(position.axes)
        maps.append(own)
        shifts.append(members)
        numbers += [ORDER[element]] * len(matrices)
    cell = _conventional_cell(group, written.cell, len(numbers)) * np.exp(written.swelling / 3)
    primitive = _reduced(primitive_cell(group.generators), cell)
    return Affine(np.array(numbers, dtype=np.int64), np.concatenate(maps), np.concatenate(shifts), cell, primitive)


def build(
    written: WyckoffCrystal, groups: Groups
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "atoms 3"], Int[np.ndarray, " atoms"]]:
    """Returns lattice (Å), frac_coords and atomic_numbers of a primitive cell; impossible angles give a flat cell."""
    affine = affine_of(written, groups)
    coords = affine.maps @ np.array(written.free) + affine.shifts
    return affine.primitive @ affine.cell, coords @ np.linalg.inv(affine.primitive) % 1.0, affine.numbers


def _reduced(basis: Float[np.ndarray, "3 3"], cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Returns a pairwise reduced basis, row vectors in fractions of a cell: no vector shortens another."""
    basis, vectors = basis.copy(), basis @ cell
    if abs(np.linalg.det(vectors)) < FLAT:
        return basis
    for _ in range(REDUCTIONS):
        shortened = False
        for i, j in permutations(range(3), 2):
            # v_i ← v_i - m v_j with m = v_i · v_j / |v_j|² rounded. Halves are rounded down, within a tolerance, so
            # that equal crystals get equal cells.
            times = np.ceil(vectors[i] @ vectors[j] / max(vectors[j] @ vectors[j], FLAT) - 0.5 - HALVES)
            if times:
                basis[i] -= times * basis[j]
                vectors = basis @ cell
                shortened = True
        if not shortened:
            break
    return basis


def _conventional_cell(group: Group, answers: Sequence[float], atoms: int) -> Float[np.ndarray, "3 3"]:
    values = {
        kind: BOUNDS[kind][0] + value * (BOUNDS[kind][1] - BOUNDS[kind][0])
        for kind, value in zip(group.cell_kinds, answers, strict=True)
    }
    # A cell with a = 1 and the right shape, scaled afterwards to the volume.
    ratios = np.exp([0.0, values.get(B_TO_A, 0.0), values.get(C_TO_A, 0.0)])
    angles = np.array([values.get(kind, 90.0) for kind in (ALPHA, BETA, GAMMA)])
    if group.spg_num in HEXAGONAL:
        angles[2] = 120.0
    shape = lattice_from_parameters(ratios, angles)
    volume = abs(np.linalg.det(shape))
    if volume < FLAT:
        return shape
    # V_conventional = (volume per atom) · (atoms of the primitive cell) · (centrings)
    return shape * (np.exp(values[VOLUME]) * atoms * n_centrings(group.generators) / volume) ** (1 / 3)
