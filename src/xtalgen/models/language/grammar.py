"""Constrained decoding: characters and tokens that may follow the beginning of a crystal's text.

The grammar accepts exactly the texts that `crystal_text.read_crystal_text` accepts, one character at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from xtalgen.models.language.crystal_text import (
    LARGEST_ANGLE,
    LONGEST,
    MOST_ATOMS,
    SHORTEST,
    SMALLEST_ANGLE,
    third_angles,
)
from xtalgen.structure.elements import SYMBOLS

LENGTHS, ANGLES, ELEMENT, COORDS = "lengths", "angles", "element", "coords"
ALL_SYMBOLS = frozenset(SYMBOLS)
# The characters of a line of numbers, and the parts of symbols that a token may add to a line with an element.
NUMERIC = frozenset("0123456789. \n")
PARTS = frozenset(part for symbol in SYMBOLS for part in (symbol, symbol[0], symbol[1:])) | {""}
# Characters of the longest atom with the line end before it, and of the longest cell.
LONGEST_ATOM = len("\nXx\n0.00 0.00 0.00")
LONGEST_CELL = len("00.0 00.0 00.0\n000 000 000")


@dataclass(frozen=True)
class State:
    """A position in the text of a crystal.

    line: kind of the current line; word: index (0 to 2) of the current word; written: its beginning; angles: finished
    ones in this line; n_atoms: elements begun; left: remaining symbols with their counts, None for any.
    """

    line: str = LENGTHS
    word: int = 0
    written: str = ""
    angles: tuple[int, ...] = ()
    n_atoms: int = 0
    left: tuple[tuple[str, int], ...] | None = None

    @property
    def ended(self) -> bool:
        """Whether the text is a complete crystal."""
        return self.line == COORDS and self.word == 2 and len(self.written) == 4 and not self.left

    def key(self, *, room: bool) -> tuple[object, ...]:
        """Returns the key of the mask: what determines the possible characters up to the end of the line.

        room: whether one more atom fits. Number of atoms and composition matter only where an element may begin.
        """
        if self.line == ELEMENT:
            return self.line, self.written, self.symbols()
        if self.line == COORDS:
            return self.line, self.word, self.written, self._may_continue() and room, bool(self.left)
        return self.line, self.word, self.written, self.angles

    def follow(self, text: str) -> "State | None":
        """Returns the state after more text, None when it can no longer become a crystal."""
        state: State | None = self
        for character in text:
            state = state.step(character) if state else None
        return state

    def step(self, character: str) -> "State | None":
        if character == "\n":
            return self._end_line()
        if character == " ":
            return self._end_word()
        written = self.written + character
        return replace(self, written=written) if written in self._beginnings() else None

    def _end_word(self) -> "State | None":
        if self.line == ELEMENT or self.word == 2 or self.written not in self._words():
            return None
        angles = (*self.angles, int(self.written)) if self.line == ANGLES else ()
        return replace(self, word=self.word + 1, written="", angles=angles)

    def _end_line(self) -> "State | None":
        # A line of numbers ends after its third word, a line with an element after a whole symbol.
        if (self.line != ELEMENT and self.word != 2) or self.written not in self._words():
            return None
        if self.line == LENGTHS:
            return State(ANGLES, left=self.left)
        if self.line == ELEMENT:
            left = None if self.left is None else _without(self.left, self.written)
            return State(COORDS, n_atoms=self.n_atoms + 1, left=left)
        if self.line == COORDS and not self._may_continue():
            return None
        return State(ELEMENT, n_atoms=self.n_atoms, left=self.left)

    def _may_continue(self) -> bool:
        return bool(self.left) if self.left is not None else self.n_atoms < MOST_ATOMS

    def symbols(self) -> frozenset[str]:
        """Returns the elements that may come next."""
        return ALL_SYMBOLS if self.left is None else frozenset(symbol for symbol, _ in self.left)

    def _words(self) -> frozenset[str]:
        return self._vocabulary()[0]

    def _beginnings(self) -> frozenset[str]:
        return self._vocabulary()[1]

    def _vocabulary(self) -> tuple[frozenset[str], frozenset[str]]:
        if self.line == LENGTHS:
            return _lengths()
        if self.line == ELEMENT:
            return _vocabulary(self.symbols())
        if self.line == COORDS:
            return _coordinates()
        return _angles(self.angles)


def start(wanted: Mapping[str, int] | None = None) -> State:
    """Returns the state of an empty text; wanted: symbols and numbers of the atoms it must have, None for any."""
    return State(left=None if wanted is None else tuple(sorted(wanted.items())))


class TokenMasks:
    """Masks of the tokens that may follow, by state; each mask is computed once."""

    def __init__(self, pieces: Sequence[str], end: int, device: torch.device) -> None:
        """pieces: the text of each token, "" for forbidden tokens; end: the end token.

        Raises ValueError when the vocabulary cannot write every crystal.
        """
        self.size, self.end, self.device = len(pieces), end, device
        # Tokens that continue after a line end are excluded, since their validity would depend on more than the line.
        fit = {token: piece for token, piece in enumerate(pieces) if piece and "\n" not in piece[:-1] and token != end}
        numeric = {token: piece for token, piece in fit.items() if set(piece) <= NUMERIC}
        symbolic = {token: piece for token, piece in fit.items() if piece.removesuffix("\n") in PARTS}
        self.numeric, self.symbolic = _by_first(numeric), _by_first(symbolic)
        # The rest of a symbol may have no token: "I" may begin "In", but not every vocabulary has the token "n".
        parts = {piece.removesuffix("\n") for piece in symbolic.values()}
        self.endings = {rest for rest in PARTS if _splits(rest, parts)}
        missing = sorted((NUMERIC - set(numeric.values())) | (ALL_SYMBOLS - self.endings))
        if missing:
            raise ValueError(
                f"the tokenizer has no token for {missing[0]!r}, so constrained sampling cannot write every crystal. "
                "Set `constrained` to false, or choose another base."
            )
        self.masks: dict[tuple[object, ...], Bool[Tensor, " tokens"]] = {}

    def mask(self, state: State, *, room: bool) -> Bool[Tensor, " tokens"]:
        """Returns the mask of the tokens that may follow. room: whether one more atom fits."""
        key = state.key(room=room)
        if key not in self.masks:
            self.masks[key] = self._compute(state, room=room)
        return self.masks[key]

    def _compute(self, state: State, *, room: bool) -> Bool[Tensor, " tokens"]:
        allowed = torch.zeros(self.size, dtype=torch.bool)
        # Tokens by first character: most are excluded by one step of the grammar.
        for first, tokens in (self.symbolic if state.line == ELEMENT else self.numeric).items():
            if state.follow(first) is None:
                continue
            for token, piece in tokens:
                after = state.follow(piece)
                allowed[token] = after is not None and self._continues(state, after, room=room)
        allowed[self.end] = state.ended
        return allowed.to(self.device)

    def _continues(self, before: State, after: State, *, room: bool) -> bool:
        if after.line != ELEMENT:
            return True
        if before.line == COORDS:
            return room
        return any(
            symbol.startswith(after.written) and symbol[len(after.written) :] in self.endings
            for symbol in after.symbols()
        )


@lru_cache(maxsize=4)
def token_masks(pieces: tuple[str, ...], end: int, device: torch.device) -> TokenMasks:
    """Returns the masks of a vocabulary, kept between calls."""
    return TokenMasks(pieces, end, device)


def _by_first(pieces: Mapping[int, str]) -> dict[str, list[tuple[int, str]]]:
    result: dict[str, list[tuple[int, str]]] = {}
    for token, piece in pieces.items():
        result.setdefault(piece[0], []).append((token, piece))
    return result


def _without(left: tuple[tuple[str, int], ...], taken: str) -> tuple[tuple[str, int], ...]:
    counts = ((symbol, number - (symbol == taken)) for symbol, number in left)
    return tuple((symbol, number) for symbol, number in counts if number)


def _splits(word: str, parts: set[str]) -> bool:
    return not word or any(part and word.startswith(part) and _splits(word[len(part) :], parts) for part in parts)


@cache
def _vocabulary(words: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    return words, frozenset(word[:length] for word in words for length in range(1, len(word) + 1))


@cache
def _lengths() -> tuple[frozenset[str], frozenset[str]]:
    tenths = range(round(SHORTEST * 10), round(LONGEST * 10) + 1)
    return _vocabulary(frozenset(f"{length // 10}.{length % 10}" for length in tenths))


@cache
def _angles(before: tuple[int, ...]) -> tuple[frozenset[str], frozenset[str]]:
    # A third angle exists for any two angles.
    low, high = third_angles(*before) if len(before) == 2 else (SMALLEST_ANGLE, LARGEST_ANGLE)
    return _vocabulary(frozenset(map(str, range(low, high + 1))))


@cache
def _coordinates() -> tuple[frozenset[str], frozenset[str]]:
    return _vocabulary(frozenset(f"0.{hundredth:02d}" for hundredth in range(100)))
