"""Crystals as texts for training; task, attributes and translation of each are redrawn in every epoch."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from xtalgen.crystals import Crystal
from xtalgen.models.language.crystal_text import unwritable
from xtalgen.models.language.language_model import Tokens
from xtalgen.models.language.prompts import VERSION, Mixture, draw
from xtalgen.models.language.tokenizer import Vocabulary
from xtalgen.structure.attributes import MEASURED
from xtalgen.training.batches import Split, mix_seed, select_both

# Number of batches that are sorted by length together: little padding, and the order stays nearly random.
WINDOW = 32


class TextData:
    """A data set of texts, drawn in each epoch from its seed and each crystal's index alone.

    Sizes are numbers of tokens. Texts are truncated to `longest` tokens.
    """

    def __init__(
        self,
        crystals: Sequence[Crystal],
        vocabulary: Vocabulary,
        mixture: Mixture,
        *,
        longest: int,
        batch_size: int,
        device: str,
    ) -> None:
        self.crystals, self.vocabulary, self.mixture = list(crystals), vocabulary, mixture
        self.longest, self.batch_size, self.device = longest, batch_size, torch.device(device)
        self.digest = self._digest()
        self.fixed = self._draw(range(len(self.crystals)), (0,))

    def __len__(self) -> int:
        return len(self.crystals)

    def plan(self, batch_size: int) -> list[tuple[int, int]]:
        """Returns the batches of an epoch as (first index, end index): equal parts of at most batch_size texts."""
        edges = np.linspace(0, len(self), -(-len(self) // batch_size) + 1).astype(int).tolist()
        return list(pairwise(edges))

    def epoch(self, batch_size: int, seed: Sequence[int], skip: int = 0) -> Iterator[Tokens]:
        """Yields one text of every crystal, in an order that depends on the seed, without the first `skip` batches.

        Texts of similar length share a batch.
        """
        rng = np.random.default_rng(mix_seed(*seed))
        indices = rng.permutation(len(self))
        n_atoms = np.array([crystal.n_atoms for crystal in self.crystals])
        # Shuffled, then sorted by size within windows: similar lengths share a batch without fixing the order.
        window = WINDOW * batch_size
        for first in range(0, len(indices), window):
            part = indices[first : first + window]
            indices[first : first + window] = part[np.argsort(n_atoms[part], kind="stable")]
        cuts = self.plan(batch_size)
        for step in rng.permutation(len(cuts)).tolist()[skip:]:
            first, end = cuts[step]
            yield self._fill(self._draw(indices[first:end].tolist(), seed))

    def batches(self, batch_size: int) -> Iterator[Tokens]:
        """Yields a fixed text of every crystal once, in a fixed order by length."""
        order = sorted(range(len(self)), key=lambda index: len(self.fixed[index]))
        for first, end in self.plan(batch_size):
            yield self._fill([self.fixed[index] for index in order[first:end]])

    def sizes(self) -> np.ndarray:
        """Returns the number of tokens of one text of each crystal."""
        return np.array([len(tokens) for tokens in self.fixed], dtype=np.int64)

    def padded_sizes(self) -> np.ndarray:
        """Returns the number of tokens that one text of each crystal is padded to, in no particular order."""
        lengths = [batch.ids.shape for batch in self.batches(self.batch_size)]
        return np.concatenate([np.full(number, length) for number, length in lengths])

    def _draw(self, indices: Sequence[int], seed: Sequence[int]) -> list[list[int]]:
        texts = []
        for index in indices:
            # The generator depends on epoch and crystal only, so a resumed epoch draws the same texts.
            prompt, answer = draw(self.crystals[index], self.mixture, np.random.default_rng([*seed, index]))
            texts.append(prompt + answer)
        return [[*tokens, self.vocabulary.end][: self.longest] for tokens in self.vocabulary.encode_all(texts)]

    def _fill(self, texts: Sequence[Sequence[int]]) -> Tokens:
        length = max(len(tokens) for tokens in texts)
        ids = np.full((len(texts), length), self.vocabulary.pad, dtype=np.int64)
        mask = np.zeros((len(texts), length), dtype=bool)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return Tokens(torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device))

    def _digest(self) -> str:
        digest = hashlib.sha256(self.vocabulary.tokenizer.to_str().encode())
        for crystal in self.crystals:
            for array in (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers):
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(json.dumps([crystal.info.get(name) for name in MEASURED]).encode())
        digest.update(json.dumps([VERSION, self.longest]).encode())
        return digest.hexdigest()


def load_texts(
    train: Sequence[Crystal],
    val: Sequence[Crystal],
    vocabulary: Vocabulary,
    mixture: Mixture,
    *,
    longest: int,
    batch_size: int,
    device: str,
) -> Split:
    """Returns the crystals of both sets that can be written as text. Raises ValueError when a set has none."""
    kept, left_out = select_both(train, val, unwritable)
    data = {
        name: TextData(crystals, vocabulary, mixture, longest=longest, batch_size=batch_size, device=device)
        for name, crystals in kept.items()
    }
    return Split(data["train"], data["val"], left_out)
