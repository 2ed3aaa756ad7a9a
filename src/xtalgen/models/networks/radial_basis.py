"""Bases of distances and angles: radial bases, spherical Bessel functions, Legendre polynomials."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_ARGUMENT = 0.05  # of spherical Bessel functions; real bonds are at 0.7 and above


def polynomial_envelope(distance: Float[Tensor, "*shape"], exponent: int) -> Float[Tensor, "*shape"]:
    """Returns the factor that takes a basis smoothly from 1 at distance 0 to 0 at 1 and beyond.

    1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), p the exponent (Gasteiger et al. 2020, DimeNet, eq. 8).
    """
    p = exponent
    # The envelope and its first two derivatives vanish at x = 1.
    tail = -(p + 1) * (p + 2) / 2 + p * (p + 2) * distance - p * (p + 1) / 2 * distance**2
    return torch.where(distance < 1, 1 + distance**p * tail, torch.zeros_like(distance))


class GaussianBasis(nn.Module):
    """Gaussians evenly spaced over [0, cut-off], with widths equal to their spacing, times the envelope (GemNet-T)."""

    centres: Tensor

    def __init__(self, number: int, cutoff: float, exponent: int = 5) -> None:
        super().__init__()
        self.number, self.cutoff, self.exponent = number, cutoff, exponent
        self.register_buffer("centres", torch.linspace(0.0, 1.0, number), persistent=False)

    def forward(self, lengths: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape number"]:
        """Returns the basis at lengths in Å."""
        scaled = lengths / self.cutoff
        apart = (scaled.unsqueeze(-1) - self.centres) * (self.number - 1)
        return polynomial_envelope(scaled, self.exponent).unsqueeze(-1) * torch.exp(-0.5 * apart**2)


class BesselBasis(nn.Module):
    """sin(ω_n x) / x times the envelope (DimeNet, eq. 7), with learnt ω_n initialised to n π."""

    def __init__(self, number: int, cutoff: float, exponent: int = 5) -> None:
        super().__init__()
        self.cutoff, self.exponent = cutoff, exponent
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, number + 1, dtype=torch.float32))

    def forward(self, lengths: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape number"]:
        """Returns the basis at lengths in Å."""
        scaled = lengths / self.cutoff
        # The envelope of DimeNet's code is that of exponent + 1 divided by x.
        factor = polynomial_envelope(scaled, self.exponent + 1) / scaled
        return factor.unsqueeze(-1) * torch.sin(self.frequencies * scaled.unsqueeze(-1))


class SphericalBesselBasis(nn.Module):
    """The radial part of DimeNet's two-dimensional basis (eq. 6): √2 / |j_{l+1}(z_ln)| j_l(z_ln x), times the envelope.

    Its angular part is `spherical_harmonics`.
    """

    roots: Tensor
    norms: Tensor

    def __init__(self, orders: int, number: int, cutoff: float, exponent: int = 5) -> None:
        super().__init__()
        self.cutoff, self.exponent = cutoff, exponent
        roots = bessel_roots(orders, number)
        norms = [
            [
                math.sqrt(2.0) / abs(float(bessel(torch.tensor(root, dtype=torch.float64), order + 2)[order + 1]))
                for root in row
            ]
            for order, row in enumerate(roots)
        ]
        self.register_buffer("roots", torch.from_numpy(roots), persistent=False)
        self.register_buffer("norms", torch.tensor(norms, dtype=torch.float64), persistent=False)

    def forward(self, lengths: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape orders number"]:
        """Returns the basis at lengths in Å, computed in float64 because the recurrence loses digits."""
        # Distances x in units of the cut-off.
        scaled = lengths.double() / self.cutoff
        factor = (polynomial_envelope(scaled, self.exponent + 1) / scaled)[..., None, None]
        arguments = (scaled[..., None, None] * self.roots).clamp_min(SMALLEST_ARGUMENT)
        values = [bessel(arguments[..., order, :], order + 1)[order] for order in range(len(self.roots))]
        return (factor * self.norms * torch.stack(values, dim=-2)).to(lengths.dtype)


def spherical_harmonics(cosines: Float[Tensor, "*shape"], orders: int) -> list[Float[Tensor, "*shape"]]:
    """Returns Y_l^0 = √((2 l + 1) / 4 π) P_l(cos θ) for l below `orders`."""
    # (l + 1) P_{l+1} = (2 l + 1) x P_l - l P_{l-1}
    legendre = [torch.ones_like(cosines), cosines]
    for order in range(1, orders - 1):
        legendre.append(((2 * order + 1) * cosines * legendre[order] - order * legendre[order - 1]) / (order + 1))
    return [math.sqrt((2 * order + 1) / (4 * math.pi)) * value for order, value in enumerate(legendre[:orders])]


def bessel(arguments: Float[Tensor, "*shape"], orders: int) -> list[Float[Tensor, "*shape"]]:
    """Returns the spherical Bessel functions j_l for l below `orders`, by upward recurrence."""
    # j_0 = sin x / x, j_1 = (j_0 - cos x) / x, j_{l+1} = (2 l + 1) / x j_l - j_{l-1}
    values = [torch.sin(arguments) / arguments]
    values.append((values[0] - torch.cos(arguments)) / arguments)
    for order in range(1, orders - 1):
        values.append((2 * order + 1) / arguments * values[order] - values[order - 1])
    return values[:orders]


def bessel_roots(orders: int, number: int) -> Float[np.ndarray, "{orders} {number}"]:
    """Returns the first positive roots of j_l for l below `orders`, by bisection between the roots of j_{l-1}."""
    # The roots of j_0 = sin x / x are multiples of π; those of j_l interlace with those of j_{l-1}.
    row = np.pi * np.arange(1, number + orders)
    rows = [row]
    for order in range(1, orders):
        low, high = row[:-1].copy(), row[1:].copy()
        sign = np.sign(_bessel_numpy(low, order))
        # 80 halvings exhaust the digits of a double.
        for _ in range(80):
            middle = (low + high) / 2
            same = np.sign(_bessel_numpy(middle, order)) == sign
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        row = (low + high) / 2
        rows.append(row)
    return np.stack([row[:number] for row in rows])


def _bessel_numpy(arguments: np.ndarray, order: int) -> np.ndarray:
    return bessel(torch.from_numpy(arguments), order + 1)[order].numpy()
