"""Keys and values of past tokens, in memory that grows by blocks instead of being copied at every token.

Separate from `decoding`, its only user, because it imports transformers, which reading a model's settings must not
need.
"""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

BLOCK = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """The cache of one layer; its tensors are (batch, heads, tokens, width)."""

    keys: Tensor
    values: Tensor
    stored: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Appends tokens and returns the keys and values of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        # Grown by BLOCK tokens at a time, so one token in BLOCK copies the cache.
        if not self.stored or after > self.stored[0].shape[-2]:
            self.stored = tuple(
                torch.cat([old, new.new_empty(*new.shape[:2], after + BLOCK - before, new.shape[-1])], dim=-2)
                if before
                else new.new_empty(*new.shape[:2], after + BLOCK, new.shape[-1])
                for old, new in ((self.keys, key_states), (self.values, value_states))
            )
        for stored, new in zip(self.stored, (key_states, value_states), strict=True):
            stored[:, :, before:after] = new
        self.keys, self.values = (stored[:, :, :after] for stored in self.stored)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps only these texts of the batch."""
        length = self.get_seq_length()
        self.stored = tuple(stored.index_select(0, indices) for stored in self.stored)
        self.keys, self.values = (stored[:, :, :length] for stored in self.stored)


def growing_cache() -> Cache:
    """Returns an empty cache for any number of layers."""
    return Cache(layer_class_to_replicate=GrowingLayer)
