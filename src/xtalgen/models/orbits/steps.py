"""A crystal of a given formula as steps: its space group, its atoms' Wyckoff positions, its cell, free coordinates.

`write` is the one place that knows the order of the steps and what is possible at each; training sends it what a
crystal has, sampling what a network draws.
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
GROUP, SITE, VOLUME, B_TO_A, C_TO_A, ALPHA, BETA, GAMMA, X, Y, Z = range(11)
KINDS = 11
NOWHERE = -1
# What is told of a cell, each as a number from 0 to 1 within these bounds: ln of Å³ per atom, of ratios; degrees.
BOUNDS = {
    VOLUME: (np.log(3.0), np.log(200.0)),
    B_TO_A: (-2.5, 2.5),
    C_TO_A: (-2.5, 3.0),
    ALPHA: (30.0, 150.0),
    BETA: (30.0, 150.0),
    GAMMA: (30.0, 150.0),
}
# The last space group of each crystal system, and what a cell of it may choose.
SYSTEMS = (
    (2, (VOLUME, B_TO_A, C_TO_A, ALPHA, BETA, GAMMA)),
    (15, (VOLUME, B_TO_A, C_TO_A, BETA)),
    (74, (VOLUME, B_TO_A, C_TO_A)),
    (194, (VOLUME, C_TO_A)),
    (230, (VOLUME,)),
)
HEXAGONAL = range(143, 195)
MOST_LETTERS = 27
REDUCTIONS, HALVES = 100, 1e-4  # of a cell: passes at most; how near a half counts as one
REMEMBERED = 1_000_000
FLAT = 1e-6  # volume of a cell of length 1 that is taken for none

Formula = tuple[tuple[int, int], ...]  # (place in ORDER, atoms in the primitive cell) of each element, by place

Answer = int | float  # a choice, or a number from 0 to 1


@dataclass(frozen=True)
class Position:
    """A Wyckoff position: its letter, its representative "x,2x,1/4", and its atoms in a primitive cell."""

    letter: str
    form: str
    multiplicity: int

    @cached_property
    def axes(self) -> list[int]:
        """Which of x, y and z are free."""
        return parse_form(self.form)[3]


@dataclass(frozen=True)
class Group:
    """A space group with the Wyckoff positions that are known of it, by letter. first: place of the first among all."""

    spg_num: int
    generators: str
    positions: tuple[Position, ...]
    first: int

    @cached_property
    def cell_kinds(self) -> tuple[int, ...]:
        """The steps that tell its cell."""
        return next(kinds for last, kinds in SYSTEMS if self.spg_num <= last)


class Groups(Sequence[Group]):
    """The space groups that crystals of a training set have, with the positions they occupy."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = tuple(groups)
        self.places = {group.spg_num: place for place, group in enumerate(self.groups)}
        self.positions = tuple(position for group in self.groups for position in group.positions)

    def __getitem__(self, place: int) -> Group:  # type: ignore[override]  # nobody takes slices
        return self.groups[place]

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def seen(cls, described: Iterable[Mapping[str, Any]]) -> "Groups":
        """Returns what occurs in values of the column `wyckoff`."""
        generators: dict[int, str] = {}
        found: dict[int, dict[str, Position]] = {}
        for one in described:
            number = one["spg_num"]
            generators[number] = one["generators"]
            for letter, form in zip(one["letters"], one["forms"], strict=True):
                if letter not in found.setdefault(number, {}):
                    members = len(orbit_forms(one["generators"], form)[0])
                    found[number][letter] = Position(letter, form, members)
        return cls.from_json(
            [
                [number, generators[number], [[p.letter, p.form, p.multiplicity] for _, p in sorted(letters.items())]]
                for number, letters in sorted(found.items())
            ]
        )

    def to_json(self) -> list[Any]:
        """Returns everything as JSON values."""
        return [
            [group.spg_num, group.generators, [[p.letter, p.form, p.multiplicity] for p in group.positions]]
            for group in self.groups
        ]

    @classmethod
    def from_json(cls, values: list[Any]) -> "Groups":
        """Returns the groups that `to_json` gave."""
        groups, first = [], 0
        for number, generators, positions in values:
            known = tuple(Position(*position) for position in positions)
            groups.append(Group(number, generators, known, first))
            first += len(known)
        return cls(groups)

    @lru_cache(maxsize=REMEMBERED)  # noqa: B019 - groups live as long as the program
    def possible(self, place: int, slot: int, left: int, rest: tuple[int, ...], used: int) -> bool:
        """Returns whether atoms can still be put on positions of a group.

        left: atoms of an element that are still to be put on positions from `slot` on; rest: of further elements; used:
        the bits of positions without free coordinates that are taken.
        """
        if left == 0:
            return not rest or self.possible(place, 0, rest[0], rest[1:], used)
        slots = range(slot, len(self.groups[place].positions))
        return any(self.fits(place, further, left, used) and self.leads_on(place, further, left, rest, used)
                   for further in slots)  # fmt: skip

    def fits(self, place: int, slot: int, left: int, used: int) -> bool:
        """Returns whether a position can take atoms of an element now."""
        return self.groups[place].positions[slot].multiplicity <= left and not used & self.taken(place, slot)

    def leads_on(self, place: int, slot: int, left: int, rest: tuple[int, ...], used: int) -> bool:
        """Returns whether all atoms can still be put on positions once this one is taken."""
        multiplicity = self.groups[place].positions[slot].multiplicity
        return self.possible(place, slot, left - multiplicity, rest, used | self.taken(place, slot))

    def taken(self, place: int, slot: int) -> int:
        """Returns the bit of a position that can be taken once, 0 for one with free coordinates."""
        return 0 if self.groups[place].positions[slot].axes else 1 << slot


@dataclass(frozen=True)
class Query:
    """What a step asks for, and what is known of it.

    group: place among groups; element: place in ORDER; left: its atoms that have no position yet; ordinal: of the
    orbit; position: place among all positions; choices: of a group or of one of its positions. NOWHERE for nothing.
    """

    kind: int
    group: int = NOWHERE
    element: int = NOWHERE
    left: int = 0
    ordinal: int = NOWHERE
    position: int = NOWHERE
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Written:
    """What all steps together tell: a group, sites as (place in ORDER, slot in the group), numbers from 0 to 1.

    swelling: of the cell since then, the logarithm of its volume's ratio.
    """

    group: int
    sites: tuple[tuple[int, int], ...]
    cell: tuple[float, ...]
    free: tuple[float, ...]
    swelling: float = 0.0


@dataclass(frozen=True)
class Affine:
    """A crystal whose atoms are at maps @ free + shifts, in fractions of the conventional cell.

    cell: row vectors of the conventional cell in Å; primitive: those of a reduced primitive one, in fractions of it.
    """

    numbers: Int[np.ndarray, " atoms"]
    maps: Float[np.ndarray, "atoms 3 free"]
    shifts: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    primitive: Float[np.ndarray, "3 3"]


def write(formula: Formula, groups: Groups, *, looking_ahead: bool) -> Generator[Query, Any, Written | None]:
    """Yields what each step asks for, is sent the answers, and returns what they tell; None when nothing is possible.

    Answers are a place among the groups or among a group's positions, or a number from 0 to 1. looking_ahead: choices
    are only those that leave a way to the end; without, they are those that do not exclude themselves at once.
    """
    counts = tuple(count for _, count in formula)
    every = tuple(range(len(groups)))
    if looking_ahead:
        every = tuple(place for place in every if groups.possible(place, 0, 0, counts, 0))
        if not every:
            return None
    place = yield Query(GROUP, choices=every)
    group, used = groups[place], 0
    sites: list[tuple[int, int]] = []
    for number, (element, count) in enumerate(formula):
        left, slot, rest = count, 0, counts[number + 1 :]
        while left:
            choices = tuple(
                further
                for further in range(slot, len(group.positions))
                if groups.fits(place, further, left, used)
                and (not looking_ahead or groups.leads_on(place, further, left, rest, used))
            )
            slot = yield Query(SITE, place, element, left, len(sites), choices=choices)
            left -= group.positions[slot].multiplicity
            used |= groups.taken(place, slot)
            sites.append((element, slot))
    numbers = []
    for query in _queries_of_numbers(place, group, sites):
        answer = yield query
        numbers.append(answer)
    told = len(group.cell_kinds)
    return Written(place, tuple(sites), tuple(numbers[:told]), tuple(numbers[told:]))


def written_of(formula: Formula, answers: Sequence[Answer], groups: Groups) -> Written:
    """Returns what these answers tell. Raises ValueError when they are not all that `write` asks for."""
    writing = write(formula, groups, looking_ahead=False)
    next(writing)
    try:
        for answer in answers:
            writing.send(answer)
    except StopIteration as end:
        return end.value
    raise ValueError(f"{len(answers)} answers are not all that is asked for.")


def _queries_of_numbers(place: int, group: Group, sites: Sequence[tuple[int, int]]) -> Iterator[Query]:
    yield from (Query(kind, place) for kind in group.cell_kinds)
    for ordinal, (element, slot) in enumerate(sites):
        for axis in group.positions[slot].axes:
            yield Query(X + axis, place, element, 0, ordinal, group.first + slot)


def formula_of(atomic_numbers: Int[np.ndarray, " atoms"] | UInt8[np.ndarray, " atoms"]) -> Formula:
    """Returns the formula of the atoms of a cell."""
    places, counts = np.unique([ELEMENT_RANK[int(number)] for number in atomic_numbers], return_counts=True)
    return tuple(zip(places.tolist(), counts.tolist(), strict=True))


def answers_of(described: Mapping[str, Any], groups: Groups) -> list[Answer] | None:
    """Returns the answers that `write` is sent for a value of the column `wyckoff`; None where the groups lack one."""
    place = groups.places.get(described["spg_num"])
    if place is None:
        return None
    group = groups[place]
    slots = {position.letter: slot for slot, position in enumerate(group.positions)}
    if not set(described["letters"]) <= set(slots):
        return None
    sites = [slots[letter] for letter in described["letters"]]
    atoms = sum(group.positions[slot].multiplicity for slot in sites) * n_centrings(group.generators)
    return [place, *sites, *_cell_answers(group, described["cell"], atoms), *described["free"]]


def _cell_answers(group: Group, cell: Sequence[float], atoms: int) -> list[float]:
    a, b, c, *angles = cell
    volume = float(np.linalg.det(lattice_from_parameters(np.array([a, b, c]), np.array(angles))))
    told = {VOLUME: np.log(volume / atoms), B_TO_A: np.log(b / a), C_TO_A: np.log(c / a)}
    told |= dict(zip((ALPHA, BETA, GAMMA), angles, strict=True))
    return [
        float(np.clip((told[kind] - BOUNDS[kind][0]) / (BOUNDS[kind][1] - BOUNDS[kind][0]), 0.0, 1.0))
        for kind in group.cell_kinds
    ]


def affine_of(written: Written, groups: Groups) -> Affine:
    """Returns how the atoms of a primitive cell depend on the free coordinates."""
    group = groups[written.group]
    numbers, maps, shifts, told = [], [], [], 0
    for element, slot in written.sites:
        position = group.positions[slot]
        matrices, members = orbit_forms(group.generators, position.form)
        own = np.zeros((len(matrices), 3, len(written.free)))
        own[:, :, told : told + len(position.axes)] = matrices[:, :, position.axes]
        told += len(position.axes)
        maps.append(own)
        shifts.append(members)
        numbers += [ORDER[element]] * len(matrices)
    cell = _conventional_cell(group, written.cell, len(numbers)) * np.exp(written.swelling / 3)
    primitive = _reduced(primitive_cell(group.generators), cell)
    return Affine(np.array(numbers, dtype=np.int64), np.concatenate(maps), np.concatenate(shifts), cell, primitive)


def build(
    written: Written, groups: Groups
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "atoms 3"], Int[np.ndarray, " atoms"]]:
    """Returns lattice in Å, frac_coords and atomic_numbers of a primitive cell; flat for impossible angles."""
    affine = affine_of(written, groups)
    coords = affine.maps @ np.array(written.free) + affine.shifts
    return affine.primitive @ affine.cell, coords @ np.linalg.inv(affine.primitive) % 1.0, affine.numbers


def _reduced(basis: Float[np.ndarray, "3 3"], cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Returns a basis (row vectors in fractions of a cell) whose vectors cannot be shortened by one another."""
    basis, vectors = basis.copy(), basis @ cell
    if abs(np.linalg.det(vectors)) < FLAT:
        return basis
    for _ in range(REDUCTIONS):
        shortened = False
        for i, j in permutations(range(3), 2):
            # Halves are always rounded down, also when they are none by rounding: equal crystals get equal cells.
            times = np.ceil(vectors[i] @ vectors[j] / max(vectors[j] @ vectors[j], FLAT) - 0.5 - HALVES)
            if times:
                basis[i] -= times * basis[j]
                vectors = basis @ cell
                shortened = True
        if not shortened:
            break
    return basis


def _conventional_cell(group: Group, answers: Sequence[float], atoms: int) -> Float[np.ndarray, "3 3"]:
    told = {
        kind: BOUNDS[kind][0] + value * (BOUNDS[kind][1] - BOUNDS[kind][0])
        for kind, value in zip(group.cell_kinds, answers, strict=True)
    }
    ratios = np.exp([0.0, told.get(B_TO_A, 0.0), told.get(C_TO_A, 0.0)])
    angles = np.array([told.get(kind, 90.0) for kind in (ALPHA, BETA, GAMMA)])
    if group.spg_num in HEXAGONAL:
        angles[2] = 120.0
    shape = lattice_from_parameters(ratios, angles)
    volume = abs(np.linalg.det(shape))
    if volume < FLAT:
        return shape
    return shape * (np.exp(told[VOLUME]) * atoms * n_centrings(group.generators) / volume) ** (1 / 3)
