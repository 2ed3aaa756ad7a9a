"""CrystalNN: the likelihood of each coordination number of an atom, from the faces of its Voronoi cell.

Pan et al. 2021 (doi:10.1021/acs.inorgchem.0c02996) with pymatgen's default settings, and the fingerprint built on it
(Zimmermann and Jain 2020, doi:10.1039/C9RA07755C; matminer's CrystalNNFingerprint.from_preset("ops")).
"""

import functools
import math
import warnings
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, UInt8

from xtalgen.crystals import MAX_ATOMIC_NUMBER
from xtalgen.featurizers.order_parameters import LARGEST, LARGEST_POLYHEDRON, order_parameters
from xtalgen.featurizers.voronoi import CLOSED, cells
from xtalgen.runtime.compiled import compiled

Array = np.ndarray
CHEMISTRY = 3.0  # weight of the difference of electronegativities
GREATEST_DIFFERENCE = 3.3  # of two Pauling electronegativities
BONDED, APART = 0.5, 1.0  # Å beyond the sum of the radii: full weight up to the first, zero from the second
ROUNDING = 1e-5  # in thousandths: within this distance of a tie, rounding may go either way


def site_fingerprints(
    lattice: Float[Array, "3 3"], frac_coords: Float[Array, "atoms 3"], atomic_numbers: UInt8[Array, " atoms"]
) -> tuple[Float[Array, "atoms 61"], Bool[Array, " atoms"]]:
    """Returns the fingerprint of every atom, and which of them certainly equal matminer's.

    An atom is uncertain where rounding errors matter (rounded weights, order of equal neighbours, atoms at the
    cut-off), without a cell, or with neighbours without radius. Use `careful_fingerprint` for these. Raises ValueError
    on unknown elements, and as `cells` does.
    """
    if atomic_numbers.min() < 1 or atomic_numbers.max() > MAX_ATOMIC_NUMBER:
        raise ValueError(f"no element has an atomic number outside 1 to {MAX_ATOMIC_NUMBER}")
    found, elements = cells(lattice, frac_coords), _elements()[atomic_numbers]
    lengths = np.linalg.norm(found.vectors, axis=1)
    owners = np.repeat(np.arange(len(elements)), np.diff(found.starts))
    weights = _weights(found.angles, found.areas, lengths, elements[owners], elements[found.numbers])
    vectors, nearness, shells, certain = _shells(found.starts, found.vectors, weights, LARGEST)
    values, ordered = order_parameters(vectors, nearness, shells)
    return values, certain & ordered & (found.states == CLOSED)


def likelihoods(weights: Float[Array, " neighbours"]) -> Float[Array, " numbers"]:
    """Returns the likelihood of each coordination number from 0 on, for weights relative to the largest, descending.

    With the weights w_1 >= w_2 >= … rounded to thousandths, w_{n+1} = 0 after the last one and A(w) the area under the
    unit circle between 0 and w, p(n) = (A(w_n) - A(w_{n+1})) / A(1) (Pan et al. 2021, as pymatgen computes it).
    """
    found = np.zeros(len(weights) + 1)
    _likelihoods(weights, found)
    return found


def careful_fingerprint(structure: Any, site: int) -> Float[Array, " 61"]:
    """Returns the fingerprint of one atom of a pymatgen structure, with neighbours from pymatgen itself.

    Some hundred times slower than `site_fingerprints`. Raises what pymatgen raises.
    """
    from pymatgen.core.local_env import CrystalNN

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CrystalNN warns about every crystal without oxidation states
        found = CrystalNN().get_nn_data(structure, site)
    shells = np.zeros((1, LARGEST + 1))
    for number, weight in found.cn_weights.items():
        if 1 <= number <= LARGEST:
            shells[0, number] = weight
    vectors, nearness = np.ones((1, LARGEST_POLYHEDRON, 3)), np.arange(0.0, -LARGEST_POLYHEDRON, -1.0)
    for index, neighbour in enumerate(found.all_nninfo[:LARGEST_POLYHEDRON]):
        vectors[0, index] = neighbour["site"].coords - structure[site].coords
    return order_parameters(vectors, nearness[None], shells)[0][0]


@functools.cache
def _elements() -> Array:
    """Returns Pauling electronegativity and covalent radius (Å) by atomic number; NaN where pymatgen has none."""
    from pymatgen.core import Element
    from pymatgen.core.molecule_structure_comparator import CovalentRadius

    table = np.full((MAX_ATOMIC_NUMBER + 1, 2), math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings that noble gases have no electronegativity
        for number in range(1, MAX_ATOMIC_NUMBER + 1):
            element = Element.from_Z(number)
            radius = CovalentRadius.radius.get(element.symbol, element.atomic_radius)
            table[number] = element.X, math.nan if radius is None else radius
    return table


def _weights(angles: Array, areas: Array, lengths: Array, own: Array, other: Array) -> Array:
    """Returns the weights of each face without and with the penalty for distance, shape (faces, 2).

    w = omega^2 / area (1 + 3 sqrt(|dX| / 3.3)) with the solid angle omega (sr) and Pauling electronegativities X; the
    solid angle over the area is the correction for pores. The penalty is (cos(pi t) + 1) / 2, where t rises from 0 to 1
    as the distance exceeds the sum of the radii by 0.5 to 1 Å. To be divided by the cell's largest w without penalty.
    """
    weights = angles**2 / np.where(areas > 0, areas, np.inf)
    difference = np.abs(own[:, 0] - other[:, 0])
    difference[np.isnan(difference)] = 0.0
    weights *= 1 + CHEMISTRY * np.sqrt(difference / GREATEST_DIFFERENCE)
    beyond = (lengths - own[:, 1] - other[:, 1] - BONDED) / (APART - BONDED)
    return np.stack([weights, weights * (np.cos(np.clip(beyond, 0.0, 1.0) * math.pi) + 1) * 0.5], axis=1)


@compiled
@no_type_check
def _shells(starts: Array, vectors: Array, weights: Array, largest: int) -> tuple[Array, Array, Array, Array]:
    """Returns per atom: vectors and weights of its 12 neighbours of largest weight, likelihoods, whether certain."""
    n_atoms = len(starts) - 1
    nearest, nearness = np.ones((n_atoms, 12, 3)), np.zeros((n_atoms, 12))
    shells, certain = np.zeros((n_atoms, largest + 1)), np.zeros(n_atoms, dtype=np.bool_)
    for atom in range(n_atoms):
        first, last = starts[atom], starts[atom + 1]
        if first == last:
            continue
        shares = weights[first:last, 1] / weights[first:last, 0].max()
        order = np.argsort(-shares, kind="mergesort")
        for index in range(min(len(order), 12)):
            nearest[atom, index] = vectors[first + order[index]]
            nearness[atom, index] = shares[order[index]]
        certain[atom] = _likelihoods(shares[order], shells[atom])
    return nearest, nearness, shells, certain


@compiled
@no_type_check
def _likelihoods(weights: Array, shell: Array) -> bool:
    """Writes the likelihood of each coordination number to `shell`; returns whether all roundings are certain."""
    certain, rounded = True, np.zeros(len(weights) + 1)
    for index in range(len(weights)):
        thousandths = weights[index] * 1000
        certain = certain and abs(thousandths - math.floor(thousandths) - 0.5) > ROUNDING
        rounded[index] = np.rint(thousandths) / 1000
    for number in range(1, min(len(rounded), len(shell))):
        if rounded[number - 1] > rounded[number]:
            area = _quarter_circle(rounded[number - 1]) - _quarter_circle(rounded[number])
            shell[number] = area / (0.25 * math.pi)
    return certain


@compiled
@no_type_check
def _quarter_circle(width: float) -> float:
    """Returns A(w), the area under y = sqrt(1 - x^2) for 0 <= x <= w: (w sqrt(1 - w^2) + arcsin w) / 2."""
    if width == 1:
        return 0.25 * math.pi
    height = math.sqrt(1 - width**2)
    return 0.5 * (width * height + math.atan(width / height))
