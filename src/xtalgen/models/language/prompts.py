"""Prompts of the language model, in our own wording: new crystals, crystals with properties, a hidden element.

The tasks are those of Gruver et al. 2024 (arXiv 2402.04379). `VERSION` changes with the wording and is stored in
checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.models.language.crystal_text import MASK, write_crystal
from xtalgen.structure.attributes import MEASURED, attributes_of
from xtalgen.structure.composition import formula
from xtalgen.structure.elements import SYMBOLS

VERSION = "1"
LEAD = "A crystalline solid."
SENTENCES = {
    "formula": "Its formula is {}.",
    "n_atoms": "Its cell holds {} atoms.",
    "spg_num": "Its space group has number {}.",
    "band_gap": "Its band gap is {} eV.",
    "e_form_per_atom": "Its formation energy is {} eV per atom.",
    "e_above_hull": "It lies {} eV per atom above the convex hull.",
}
ASK = "Cell lengths, cell angles, then each atom's element and coordinates:"
HIDDEN_LEAD = f"A crystalline solid with one element hidden as {MASK}."
HIDDEN_ASK = "The hidden element:"
DIGITS = 4


@dataclass(frozen=True)
class Mixture:
    """Shares of the tasks in training.

    infilling: share of all texts; composition: share of the others that state only formula and number of atoms, as in
    structure prediction (0 gives the paper's mixture).
    """

    infilling: float = 0.34
    composition: float = 0.2

    def __post_init__(self) -> None:
        for name in ("infilling", "composition"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}.")


def ask_crystal(attributes: Mapping[str, Any]) -> str:
    """Returns the prompt for a crystal with these attributes (names of `SENTENCES`); no attributes for any crystal.

    The answer follows on the next line. Raises ValueError on an unknown attribute.
    """
    unknown = sorted(set(attributes) - set(SENTENCES))
    if unknown:
        raise ValueError(f"no attribute {unknown[0]!r}; there are {', '.join(SENTENCES)}.")
    stated = [words.format(_text(attributes[name])) for name, words in SENTENCES.items() if name in attributes]
    return " ".join([LEAD, *stated, ASK]) + "\n"


def ask_composition(atomic_numbers: np.ndarray) -> str:
    """Returns the prompt of structure prediction: the formula and the number of atoms in the cell."""
    return ask_crystal({"formula": formula(atomic_numbers), "n_atoms": len(atomic_numbers)})


def ask_hidden(text: str) -> str:
    """Returns the prompt for the hidden element of a text in which it is masked."""
    return f"{HIDDEN_LEAD}\n{text}\n{HIDDEN_ASK}\n"


def draw(crystal: Crystal, mixture: Mixture, rng: np.random.Generator) -> tuple[str, str]:
    """Returns a prompt and its answer for a crystal: a random task, a random translation.

    The element of a random atom is hidden. k ~ U{0 … 4} of the four attributes are drawn; those that the crystal lacks
    are dropped. The formula is stated when k > 0. Raises TextError when the cell cannot be written.
    """
    # Random translation of all atoms, the augmentation of the paper.
    shift = rng.random(3)
    if rng.random() < mixture.infilling:
        masked = int(rng.choice(crystal.atomic_numbers))
        return ask_hidden(write_crystal(crystal, shift, masked)), SYMBOLS[masked - 1]
    answer = write_crystal(crystal, shift)
    if rng.random() < mixture.composition:
        return ask_composition(crystal.atomic_numbers), answer
    # k ~ U{0 … 4}, then k attributes without replacement
    k = int(rng.integers(len(MEASURED) + 1))
    chosen = {MEASURED[i] for i in rng.permutation(len(MEASURED))[:k]}
    stated = {name: value for name, value in attributes_of(crystal).items() if name in chosen}
    return ask_crystal({"formula": formula(crystal.atomic_numbers), **stated} if k else {}), answer


def phrases() -> list[str]:
    """Returns the fixed phrases of all prompts, which our own tokenizer treats as single tokens."""
    pieces = [part for words in SENTENCES.values() for part in words.split("{}") if part != "."]
    return sorted({LEAD, ASK, HIDDEN_LEAD, HIDDEN_ASK, MASK, *pieces}, key=lambda piece: (-len(piece), piece))


def _text(value: Any) -> str:
    # Adding 0 makes -0.0 positive.
    return str(round(value, DIGITS) + 0.0) if isinstance(value, float) else str(value)
