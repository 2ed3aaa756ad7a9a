"""Batched decoding of a causal language model, with one cache of keys and values per batch of similar lengths.

A text ends at its end token, when it can no longer become a crystal, or at the token limit. The random numbers of a
text depend on its seed only, not on its batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtalgen.models.language.grammar import LONGEST_ATOM, LONGEST_CELL, State, TokenMasks, start, token_masks
from xtalgen.models.language.language_model import LanguageModel
from xtalgen.structure.elements import SYMBOLS

# An invalid text is continued to the end of its line, so that the error is readable, but at most by this many tokens.
MOST_AFTER_FAULT = 40
# Finished texts are removed once they are this share of a batch, since removal copies the cache.
LEAVING = 0.125
NUCLEUS = 1024


@dataclass(frozen=True)
class TextSampling:
    """Settings of sampling.

    temperature: 0 takes the most likely token; top_p: nucleus sampling from the most likely tokens with this total
    probability; max_new_tokens: per text; max_tries: texts per crystal until one is ok; batch_size: texts decoded
    together; constrained: allow only tokens that lead to a well-formed crystal (of the wanted atoms); base: current
    location of the base model, null for that of training; base_precision: of the base model's weights, null for that of
    training; candidates: elements considered for infilling, empty for all.
    """

    temperature: float = 0.9
    top_p: float = 0.9
    max_new_tokens: int = 500
    max_tries: int = 10
    batch_size: int = 256
    constrained: bool = False
    base: str | None = None
    base_precision: Literal["float32", "bfloat16", "8bit", "4bit"] | None = None
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_tries", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        unknown = sorted(set(self.candidates) - set(SYMBOLS))
        if unknown:
            raise ValueError(f"candidates: {unknown[0]!r} is not an element.")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        shortest = LONGEST_CELL + LONGEST_ATOM + 1
        if self.constrained and self.max_new_tokens < shortest:
            raise ValueError(f"max_new_tokens must be at least {shortest} when constrained, not {self.max_new_tokens}.")


@dataclass(frozen=True)
class Request:
    """A text to be generated: prompt, seed of its random numbers, and wanted atoms by symbol (None for any).

    size: expected length beyond the prompt, in any unit.
    """

    prompt: str
    seed: int
    wanted: Mapping[str, int] | None = None
    size: int = 0


@dataclass
class Text:
    """A generated text. ended: by the end token; faulty: it can no longer become a crystal."""

    state: State | None
    pieces: list[str] = field(default_factory=list)
    n_tokens: int = 0
    ended: bool = False
    faulty: bool = False
    since_fault: int = 0

    def __str__(self) -> str:
        return "".join(self.pieces)

    def add(self, piece: str) -> None:
        """Appends the text of a token."""
        self.pieces.append(piece)
        if self.state is not None:
            self.state = self.state.follow(piece)
            self.faulty = self.state is None
        if self.faulty:
            self.since_fault += MOST_AFTER_FAULT if "\n" in piece else len(piece)

    @property
    def hopeless(self) -> bool:
        """Whether decoding should stop: the text is faulty, and its faulty line is complete."""
        return self.faulty and self.since_fault >= MOST_AFTER_FAULT


def write_texts(model: LanguageModel, requests: Sequence[Request], sampling: TextSampling) -> list[Text]:
    """Returns a text for each request, in order. Raises ValueError when the tokenizer cannot be constrained."""
    masks = None
    if sampling.constrained:
        masks = token_masks(model.vocabulary.pieces, model.vocabulary.end, _device(model))
    prompts = model.vocabulary.encode_all([request.prompt for request in requests])
    # Texts of similar length share a batch, since a batch runs until its last text ends.
    order = sorted(range(len(requests)), key=lambda index: (requests[index].size, len(prompts[index])))
    texts: dict[int, Text] = {}
    for first in range(0, len(order), sampling.batch_size):
        indices = order[first : first + sampling.batch_size]
        batch = _Writer(model, sampling, masks)
        written = batch.write([requests[index] for index in indices], [prompts[index] for index in indices])
        texts.update(zip(indices, written, strict=True))
    return [texts[index] for index in range(len(requests))]


class _Writer:
    """Decodes the texts of one batch."""

    def __init__(self, model: LanguageModel, sampling: TextSampling, masks: TokenMasks | None) -> None:
        self.network, self.vocabulary, self.device = model.network, model.vocabulary, _device(model)
        self.sampling, self.masks = sampling, masks
        size = model.network.get_input_embeddings().weight.shape[0]
        # The embedding may have more rows than the vocabulary has tokens; those without text are never drawn.
        self.never = torch.ones(size, dtype=torch.bool, device=self.device)
        writable = [token for token, piece in enumerate(self.vocabulary.pieces) if piece]
        self.never[[*writable, self.vocabulary.end]] = False

    @torch.inference_mode()
    def write(self, requests: Sequence[Request], prompts: Sequence[Sequence[int]]) -> list[Text]:
        from xtalgen.models.language.text_cache import growing_cache

        limit = self.sampling.max_new_tokens
        texts = [Text(start(request.wanted if self.masks else None)) for request in requests]
        # One uniform number per token, (texts, limit).
        drawn = [np.random.default_rng(request.seed).random(limit, np.float32) for request in requests]
        chances = torch.from_numpy(np.stack(drawn)).to(self.device)
        tokens, mask = self._pad(prompts, limit)
        width, cache = tokens.shape[1], growing_cache()
        # Positions count from the first token of the prompt, since prompts are padded on the left.
        positions = mask[:, :width].cumsum(-1) - 1
        positions = torch.where(positions < 0, 0, positions)
        # Prompts of equal length need no mask, which is faster.
        padded = bool((~mask).any())
        active = list(range(len(texts)))
        for step in range(limit):
            scores = self.network(
                input_ids=tokens,
                attention_mask=mask[:, : width + step] if padded else None,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = choose(
                self._allowed(scores.float(), [texts[row] for row in active]),
                chances[active, step],
                self.sampling.temperature,
                self.sampling.top_p,
            )
            stay = [i for i, token in enumerate(chosen.tolist()) if not self._take(texts[active[i]], token)]
            if not stay:
                break
            # With the cache only the new token is evaluated.
            tokens, positions = chosen.unsqueeze(-1), positions[:, -1:] + 1
            # Removing rows copies the cache, so it waits until enough texts are finished.
            if len(stay) <= (1 - LEAVING) * len(active):
                kept = torch.tensor(stay, device=self.device)
                cache.batch_select_indices(kept)
                tokens, positions, mask = tokens[kept], positions[kept], mask[kept]
                active = [active[i] for i in stay]
        return texts

    def _take(self, text: Text, token: int) -> bool:
        """Adds a token to a text that is not finished. Returns whether the text is finished."""
        if text.ended or text.hopeless:
            return True
        text.n_tokens += 1
        if token == self.vocabulary.end:
            text.ended = True
        else:
            text.add(self.vocabulary.pieces[token])
        return text.ended or text.hopeless

    def _allowed(self, scores: Float[Tensor, "batch tokens"], texts: Sequence[Text]) -> Float[Tensor, "batch tokens"]:
        scores = torch.nan_to_num(scores).masked_fill(self.never, -torch.inf)
        if self.masks is None:
            return scores
        rows = [self.masks.mask(text.state, room=self._room(text)) for text in texts if text.state is not None]
        fits = torch.zeros_like(scores, dtype=torch.bool)
        fits[:, : self.masks.size] = torch.stack(rows)
        return scores.masked_fill(~fits, -torch.inf)

    def _room(self, text: Text) -> bool:
        """Whether one more atom and the end token fit before the token limit, after this token."""
        return self.sampling.max_new_tokens - text.n_tokens >= LONGEST_ATOM + 1

    def _pad(self, prompts: Sequence[Sequence[int]], limit: int) -> tuple[Tensor, Tensor]:
        """Returns prompts padded on the left, and their mask with room for the answers."""
        width = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), width), self.vocabulary.pad, dtype=torch.long)
        mask = torch.ones(len(prompts), width + limit, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, : width - len(prompt)] = False
        return tokens.to(self.device), mask.to(self.device)


def choose(
    scores: Float[Tensor, "batch tokens"], chances: Float[Tensor, " batch"], temperature: float, top_p: float
) -> Int[Tensor, " batch"]:
    """Returns a token for each row by inverse transform sampling; chances lie in [0, 1).

    Tokens of score -inf are never chosen unless all have it.
    """
    if temperature == 0:
        return scores.argmax(-1)
    weights, tokens = (scores / temperature).softmax(-1), None
    if top_p < 1:
        # Sorting a whole vocabulary costs as much as a small network; the largest entries nearly always suffice.
        largest: Any = weights.topk(min(NUCLEUS, weights.shape[1]), dim=-1)
        if largest.values.shape[1] < weights.shape[1] and bool((largest.values.sum(-1) < top_p).any()):
            largest = weights.sort(dim=-1, descending=True)
        weights, tokens = largest
        # Nucleus sampling (Holtzman et al. 2020): the shortest head of the sorted tokens with at least `top_p`.
        weights = weights * (weights.cumsum(-1) - weights < top_p)
    total = weights.cumsum(-1)
    # First token whose cumulative weight exceeds u · Σ w.
    above = total > (chances * total[:, -1]).unsqueeze(-1)
    # Rounding may leave the cumulative sum below a chance close to 1.
    index = torch.where(above.any(-1), above.int().argmax(-1), weights.argmax(-1))
    return index if tokens is None else tokens.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _device(model: LanguageModel) -> torch.device:
    return next(model.network.parameters()).device
