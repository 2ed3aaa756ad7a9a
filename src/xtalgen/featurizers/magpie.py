"""Magpie features of compositions: matminer's ElementProperty("magpie") for many compositions at once."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import MAX_ATOMIC_NUMBER

N_FEATURES = 132


def magpie_features(
    compositions: Sequence[Sequence[tuple[int, int]]],
) -> Float[np.ndarray, "compositions 132"]:
    """Returns minimum, maximum, range, mean, mean deviation and mode of 22 elemental properties, property by property.

    compositions: (atomic number, count) of each element. Equal to matminer's features to 1e-9; uses matminer's table of
    properties and its imputation of missing ones (Ward et al. 2016, doi:10.1038/npjcompumats.2016.28).
    """
    if not len(compositions):
        return np.empty((0, N_FEATURES))
    width = max(len(composition) for composition in compositions)
    numbers = np.zeros((len(compositions), width), dtype=int)
    weights = np.zeros((len(compositions), width))
    for row, composition in enumerate(compositions):
        numbers[row, : len(composition)] = [number for number, _ in composition]
        weights[row, : len(composition)] = [count for _, count in composition]
    values = _properties()[numbers]  # (compositions, elements, properties)
    present = (weights > 0)[..., None]
    shares = (weights / weights.sum(axis=1, keepdims=True))[..., None]
    low = np.where(present, values, np.inf).min(axis=1)
    high = np.where(present, values, -np.inf).max(axis=1)
    mean = (shares * values).sum(axis=1)
    deviation = (shares * np.abs(values - mean[:, None])).sum(axis=1)
    most = np.isclose(weights, weights.max(axis=1, keepdims=True))[..., None]
    mode = np.where(most, values, np.inf).min(axis=1)  # smallest of equally frequent elements, as in matminer
    return np.stack([low, high, high - low, mean, deviation, mode], axis=-1).reshape(len(compositions), -1)


@functools.cache
def _properties() -> np.ndarray:
    """Returns matminer's table (atomic number, property); row 0 is padding."""
    from matminer.featurizers.composition import ElementProperty
    from pymatgen.core import Element

    featurizer = ElementProperty.from_preset("magpie")
    elements = [Element.from_Z(number) for number in range(1, MAX_ATOMIC_NUMBER + 1)]
    look_up = featurizer.data_source.get_elemental_property
    rows = [[float(look_up(element, name)) for name in featurizer.features] for element in elements]
    return np.array([[0.0] * len(featurizer.features), *rows])
