"""Order parameters of an atom's neighbours: the similarity of each coordination polyhedron to the motifs of its size.

The motifs and their parameters are those that CrystalNN's fingerprint is built on (Zimmermann and Jain 2020,
doi:10.1039/C9RA07755C; Zimmermann et al. 2017, doi:10.3389/fmats.2017.00034), as pymatgen's LocalStructOrderParams has
them. Its order of operations is kept where rounding matters: angles at a threshold, collinear neighbours.
"""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numpy.polynomial import Polynomial, legendre

from xtalgen.runtime.compiled import compiled

Array = np.ndarray
# Of n neighbours of a site: angles (n, n), azimuths (n, n, n), and which azimuths are defined (n, n).
Geometry = tuple[Array, Array, Array]

LARGEST = 24  # coordination number with a likelihood
LARGEST_POLYHEDRON = 12  # coordination number with order parameters
TIED = 1e-7  # neighbours whose weights differ by less may come in either order
SAME_VALUE = 1e-10  # the change of a value by another order that is ignored
COLLINEAR = 1e-12  # length of the perpendicular part of a unit vector below which it is parallel to another one
ANYWHERE = 10.0  # rad: beyond every angle

# Motifs by coordination number, in the order of the fingerprint.
MOTIFS = {
    1: ("single bond",),
    2: ("L-shaped", "water-like", "bent 120 degrees", "bent 150 degrees", "linear"),
    3: ("trigonal planar", "trigonal non-coplanar", "T-shaped"),
    4: ("square co-planar", "tetrahedral", "rectangular see-saw-like", "see-saw-like", "trigonal pyramidal"),
    5: ("pentagonal planar", "square pyramidal", "trigonal bipyramidal"),
    6: ("hexagonal planar", "octahedral", "pentagonal pyramidal"),
    7: ("hexagonal pyramidal", "pentagonal bipyramidal"),
    8: ("body-centered cubic", "hexagonal bipyramidal"),
    9: ("q2", "q4", "q6"),
    10: ("q2", "q4", "q6"),
    11: ("q2", "q4", "q6"),
    12: ("cuboctahedral", "q2", "q4", "q6"),
}
FIRST = np.cumsum([0, 0] + [1 + len(MOTIFS.get(number, ())) for number in range(1, LARGEST + 1)])  # index by number
N_FEATURES = int(FIRST[-1])

# Motifs of two neighbours: the angle (in units of 180°) and the width parameter of its Gaussian.
BENT = np.array(
    [[0.5, 15.15], [0.5802777777777778, 13.95], [0.666666666667, 13.25], [0.833333333333333, 12.45], [1.0, 8.667]]
)

# Motifs with a neighbour at the north pole and others in rings about the axis. Columns: coordination number; place of
# the motif; angle to the pole (in units of 180°) and its sharpness s in exp(-(s dtheta)^2 / 2); multiplicity m of
# cos^2(m phi); angle (rad) from which a neighbour is at the south pole, and the sharpness there; largest azimuth (rad);
# form: 0 for the angle itself, 1 for 72° or 144°, 2 for the angle above or below the equator.
AXIAL = (3 * math.pi / 4, 5 * math.pi / 6)
RINGS = np.array(
    [
        [3, 1, 0.66666666667, 17.5, 1.0, ANYWHERE, 0.0, ANYWHERE, 0],
        [3, 2, 0.6081734479693927, 18.33, 1.5, ANYWHERE, 0.0, ANYWHERE, 0],
        [3, 3, 0.5, 15.5, 1.0, ANYWHERE, 0.0, ANYWHERE, 0],
        [4, 1, 0.5, 17.7, 1.0, AXIAL[0], 13.5, ANYWHERE, 0],
        [4, 2, 0.6081734479693927, 18.5, 1.5, ANYWHERE, 0.0, ANYWHERE, 0],
        [4, 3, 0.5, 27.0, 2.0, AXIAL[0], 11.5, 0.75 * math.pi, 0],
        [4, 4, 0.5, 15.75, 1.5, AXIAL[0], 12.75, ANYWHERE, 0],
        [4, 5, 0.5, 15.5, 1.5, ANYWHERE, 0.0, ANYWHERE, 0],
        [5, 1, 0.6, 19.333, 1.0, ANYWHERE, 0.0, ANYWHERE, 1],
        [5, 2, 0.5, 14.9, 2.0, ANYWHERE, 0.0, ANYWHERE, 0],
        [5, 3, 0.5, 16.6, 1.5, AXIAL[0], 12.0, ANYWHERE, 0],
        [6, 1, 0.16666667, 25.0, 1.0, AXIAL[1], 7.5, ANYWHERE, 2],
        [6, 2, 0.5, 18.0, 2.0, AXIAL[0], 15.0, ANYWHERE, 0],
        [6, 3, 0.5, 13.8, 2.5, ANYWHERE, 0.0, ANYWHERE, 0],
        [7, 1, 0.5, 12.5, 3.0, ANYWHERE, 0.0, ANYWHERE, 0],
        [7, 2, 0.5, 14.75, 2.5, AXIAL[0], 12.5, ANYWHERE, 0],
        [8, 2, 0.5, 13.6, 3.0, AXIAL[0], 14.1, ANYWHERE, 0],
    ]
)
BCC_SOUTH, BCC_SHARPNESS, BCC_WEIGHT = 2.5261129449194057, 15.0, 6.0
CUBOCT_LOW, CUBOCT_HIGH, CUBOCT_SOUTH = 1.3089969389957472, 1.8325957145940461, 2.792526803190927  # 75°, 105°, 160°
CUBOCT_SHARPNESS, CUBOCT_EQUATOR, CUBOCT_THIRDS = 28.75, 25.5, 31.25


def _harmonics() -> np.ndarray:
    """Returns the coefficients of cos^k θ in Y_lm / (sin^m θ e^(imφ)), shape (3, 7, 7) for l = 2, 4, 6, m and k.

    Y_lm = sqrt((2 l + 1) / (4 π) (l - m)! / (l + m)!) sin^m θ P_l^(m)(cos θ) e^(imφ), with the m-th derivative of the
    Legendre polynomial P_l; the sign (-1)^m does not matter for |Y_lm|².
    """
    table = np.zeros((3, 7, 7))
    for index, degree in enumerate((2, 4, 6)):
        polynomial = Polynomial(legendre.leg2poly([0] * degree + [1]))
        for order in range(degree + 1):
            size = math.factorial(degree - order) / math.factorial(degree + order)
            coefficients = np.asarray((polynomial.deriv(order) if order else polynomial).coef, dtype=float)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * size)
            table[index, order, : len(coefficients)] = norm * coefficients
    return table


HARMONICS = _harmonics()


def order_parameters(
    vectors: Float[np.ndarray, "sites 12 3"],
    nearness: Float[np.ndarray, "sites 12"],
    shells: Float[np.ndarray, "sites 25"],
) -> tuple[Float[np.ndarray, "sites 61"], Bool[np.ndarray, " sites"]]:
    """Returns each site's likelihoods of coordination numbers 1 to 24, each followed by those of its motifs.

    vectors: to the twelve neighbours of largest weight, in Å, in descending order of weight (`nearness`). shells:
    likelihood by coordination number; the neighbours of number n are the first n. Second result: whether the values are
    certain: the body-centred motif depends on the order of the neighbours, which rounding decides for equal weights.
    """
    return _order_parameters(vectors, nearness, shells)


@compiled
@no_type_check
def _order_parameters(vectors: Array, nearness: Array, shells: Array) -> tuple[Array, Array]:
    values, certain = np.zeros((len(vectors), N_FEATURES)), np.ones(len(vectors), dtype=np.bool_)
    units = np.empty((12, 3))
    geometry = (np.empty((12, 12)), np.empty((12, 12, 12)), np.empty((12, 12), dtype=np.bool_))
    for site in range(len(vectors)):
        largest = 0
        for number in range(1, LARGEST + 1):
            values[site, FIRST[number]] = shells[site, number]
            if shells[site, number] != 0 and number <= LARGEST_POLYHEDRON:
                largest = number
        for i in range(largest):
            units[i] = vectors[site, i] / math.sqrt(_dot(vectors[site, i], vectors[site, i]))
        _angles(units[:largest], geometry)
        for number in range(1, largest + 1):
            if shells[site, number] == 0:
                continue
            motifs = values[site, FIRST[number] + 1 : FIRST[number + 1]]
            _motifs(number, units, geometry, motifs)
            motifs *= shells[site, number]
        if shells[site, 8] != 0:
            certain[site] = _order_is_irrelevant(nearness[site], geometry)
    return values, certain


@compiled
@no_type_check
def _motifs(number: int, units: Array, geometry: Geometry, out: Array) -> None:
    """Writes the order parameters of the first `number` neighbours to `out`."""
    if number == 1:
        out[0] = 1.0
    elif number == 2:
        for motif in range(len(BENT)):
            offset = BENT[motif, 1] * (geometry[0][0, 1] / math.pi - BENT[motif, 0])
            out[motif] = math.exp(-0.5 * offset * offset)
    elif number <= 8:
        for motif in range(len(RINGS)):
            if RINGS[motif, 0] == number:
                out[int(RINGS[motif, 1]) - 1] = _ring(number, geometry, RINGS[motif, 2:])
        if number == 8:
            out[0] = _body_centred(geometry)
    else:
        if number == 12:
            out[0] = _cuboctahedral(geometry)
        _steinhardt(units[:number], out[len(out) - 3 :])


@compiled
@no_type_check
def _angles(units: Array, geometry: Geometry) -> None:
    """Writes the angles between neighbours j and k, and the azimuth of m about the pole j from the meridian of k.

    The last array of `geometry`: whether k is off the axis of j, so that it has a meridian.
    """
    thetas, azimuths, across = geometry
    n, meridians = len(units), np.empty((12, 3))
    for j in range(n):
        pole = units[j]
        square = _dot(pole, pole)
        for k in range(n):
            along = _dot(pole, units[k])
            thetas[j, k] = math.acos(max(-1.0, min(along, 1.0)))
            meridians[k] = units[k] - (along / square) * pole
            length = math.sqrt(_dot(meridians[k], meridians[k]))
            across[j, k] = k != j and length >= COLLINEAR
            if across[j, k]:
                meridians[k] /= length
        for k in range(n):
            for m in range(k):
                if across[j, k] and across[j, m]:
                    cosine = max(-1.0, min(_dot(meridians[m], meridians[k]), 1.0))
                    azimuths[j, k, m] = azimuths[j, m, k] = math.acos(cosine)


@compiled
@no_type_check
def _ring(n: int, geometry: Geometry, motif: Array) -> float:
    """Returns the order parameter of a motif with rings about an axis: the maximum over poles j and meridians k."""
    best, likeness = 0.0, np.empty(n)
    for j in range(n):
        for m in range(n):
            likeness[m] = _likeness(geometry[0][j, m], motif)
        for k in range(n):
            if k != j:
                best = max(best, _ring_from(j, k, geometry, likeness, motif))
    return best


@compiled
@no_type_check
def _likeness(theta: float, motif: Array) -> float:
    """Returns the Gaussian of the deviation of an angle to the north pole from the motif's angle."""
    target, shape, angle = motif[0], motif[6], theta / math.pi
    if theta >= motif[3]:
        offset = motif[4] * (angle - 1.0)
    elif shape == 0:
        offset = motif[1] * (angle - target)
    elif shape == 1:
        offset = motif[1] * (angle - (0.4 if theta <= target * math.pi else 0.8))
    else:
        offset = motif[1] * (abs(angle - 0.5) - target)
    return math.exp(-0.5 * offset * offset)


@compiled
@no_type_check
def _ring_from(j: int, k: int, geometry: Geometry, likeness: Array, motif: Array) -> float:
    """Returns the mean of Gaussian(θ_m) cos²(m φ_m) over neighbours, j at the north pole and k at azimuth 0."""
    thetas, azimuths, across = geometry
    repeats, south, widest = motif[2], motif[3], motif[5]
    ringed = thetas[j, k] < south
    total, count = (likeness[k], 1) if ringed else (0.0, 0)
    if across[j, k]:
        for m in range(len(likeness)):
            if m in (j, k):
                continue
            if thetas[j, m] >= south:
                total += likeness[m]
                count += 1
            elif ringed and across[j, m] and azimuths[j, k, m] < widest:
                total += likeness[m] * math.cos(repeats * azimuths[j, k, m]) ** 2
                count += 1
    return total / count if count else 0.0


@compiled
@no_type_check
def _body_centred(geometry: Geometry) -> float:
    """Returns Peters' (2009, doi:10.1063/1.3270161) body-centred cubic parameter of eight neighbours.

    As pymatgen does, it counts each pair once, with the nearer neighbour at the pole; the other choice would differ.
    """
    total = 0.0
    for j in range(8):
        for k in range(j + 1, 8):
            total += _pair(j, k, geometry)
    return total / (0.5 * 8 * (6 + 6 * 5))


@compiled
@no_type_check
def _order_is_irrelevant(nearness: Array, geometry: Geometry) -> bool:
    """Returns whether the body-centred parameter is the same in any order of neighbours of equal weight."""
    for j in range(8):
        for k in range(j + 1, 8):
            if nearness[j] - nearness[k] < TIED and abs(_pair(j, k, geometry) - _pair(k, j, geometry)) > SAME_VALUE:
                return False
    return True


@compiled
@no_type_check
def _pair(j: int, k: int, geometry: Geometry) -> float:
    thetas, azimuths, across = geometry
    if thetas[j, k] >= BCC_SOUTH:
        offset = BCC_SHARPNESS * (thetas[j, k] / math.pi - 1.0)
        return BCC_WEIGHT * math.exp(-0.5 * offset * offset)
    total = 0.0
    if across[j, k]:
        for m in range(8):
            if m != k and across[j, m]:
                offset = (thetas[j, m] - math.pi / 2) / math.asin(1 / 3)
                total += math.cos(3 * azimuths[j, k, m]) * offset * math.exp(0.5 - 0.5 * offset * offset)
    return total if thetas[j, k] > math.pi / 2 else -total


@compiled
@no_type_check
def _cuboctahedral(geometry: Geometry) -> float:
    thetas, _, across = geometry
    best = 0.0
    for j in range(12):
        for k in range(12):
            if k != j and thetas[j, k] >= CUBOCT_SOUTH:
                offset = CUBOCT_SHARPNESS * (thetas[j, k] / math.pi - 1.0)
                best = max(best, math.exp(-0.5 * offset * offset))
            elif across[j, k] and CUBOCT_LOW < thetas[j, k] < CUBOCT_HIGH:
                best = max(best, _cuboctahedral_from(j, k, geometry))
    return best


@compiled
@no_type_check
def _cuboctahedral_from(j: int, k: int, geometry: Geometry) -> float:
    thetas, azimuths, across = geometry
    total, count = 0.0, 0
    for m in range(12):
        theta, azimuth = thetas[j, m], azimuths[j, k, m]
        if m == k or not across[j, m] or theta >= CUBOCT_SOUTH or theta in (CUBOCT_LOW, CUBOCT_HIGH):
            continue
        if CUBOCT_LOW < theta < CUBOCT_HIGH:
            offset = CUBOCT_EQUATOR * (theta / math.pi - 0.5)
            total += math.cos(azimuth) ** 2 * math.exp(-0.5 * offset * offset)
        else:
            offset = CUBOCT_THIRDS * (theta / math.pi - (1 / 3 if theta < CUBOCT_LOW else 2 / 3))
            turned = 0.0556 * (math.cos(azimuth - 0.5 * math.pi) - 0.81649658)
            total += math.exp(-0.5 * (turned * turned + offset * offset))
        count += 1
    return total / count if count else 0.0


@compiled
@no_type_check
def _steinhardt(units: Array, out: Array) -> None:
    """Writes q2, q4 and q6 of N neighbours to `out` (Steinhardt et al. 1983, doi:10.1103/PhysRevB.28.784).

    q_l = sqrt(4 π / (2 l + 1) Σ_m |Σ_i Y_lm(i) / N|²); the terms of m and -m are equal.
    """
    sums = np.zeros((3, 7, 2))
    for i in range(len(units)):
        x, y, z = units[i, 0], units[i, 1], units[i, 2]
        theta, azimuth = math.acos(max(-1.0, min(z, 1.0))), 0.0
        if -1.0 + COLLINEAR < z < 1.0 - COLLINEAR:
            azimuth = math.acos(max(-1.0, min(x / math.sqrt(x * x + y * y), 1.0)))
            azimuth = -azimuth if y < 0.0 else azimuth
        for order in range(7):
            for degree in range(3):
                value = 0.0
                for power in range(6, -1, -1):
                    value = value * math.cos(theta) + HARMONICS[degree, order, power]
                value *= math.sin(theta) ** order
                sums[degree, order, 0] += value * math.cos(order * azimuth)
                sums[degree, order, 1] += value * math.sin(order * azimuth)
    for degree in range(3):
        total = 0.0
        for order in range(7):
            square = sums[degree, order, 0] ** 2 + sums[degree, order, 1] ** 2
            total += square if order == 0 else 2 * square
        out[degree] = math.sqrt(4 * math.pi * total / ((4 * degree + 5) * len(units) ** 2))


@compiled
@no_type_check
def _dot(a: Array, b: Array) -> float:
    # In this order without fused operations: the digits are those of NumPy's product of two short vectors.
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
