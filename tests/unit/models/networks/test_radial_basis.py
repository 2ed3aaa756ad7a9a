"""Bases of distances and angles against SciPy."""

import numpy as np
import pytest
import torch
from scipy import special

from xtalgen.models.networks.radial_basis import (
    BesselBasis,
    GaussianBasis,
    SphericalBesselBasis,
    bessel_roots,
    polynomial_envelope,
    spherical_harmonics,
)

LENGTHS = torch.linspace(0.7, 6.9, 40)


def test_roots_are_the_first_roots_of_spherical_bessel_functions():
    roots = bessel_roots(7, 6)
    assert roots.shape == (7, 6)
    assert roots[0] == pytest.approx(np.pi * np.arange(1, 7))
    for order, row in enumerate(roots):
        assert special.spherical_jn(order, row) == pytest.approx(np.zeros(6), abs=1e-12)
        signs = np.sign(special.spherical_jn(order, np.linspace(0.1, row[-1] + 0.1, 4001)))
        assert np.count_nonzero(np.diff(signs)) == 6  # none is left out


@pytest.mark.parametrize("exponent", [5, 6])
def test_envelope_goes_smoothly_to_zero(exponent):
    x = torch.tensor([0.0, 1 - 1e-4, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = polynomial_envelope(x, exponent)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    assert value.tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-9)
    assert slope.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0], abs=1e-5)
    (curvature,) = torch.autograd.grad(slope[1], x)
    assert abs(float(curvature[1])) < 0.1


def test_gaussians_are_spread_over_the_cutoff():
    x = LENGTHS.double() / 7.0
    centres = np.linspace(0, 1, 128)
    wanted = np.exp(-0.5 * ((x.numpy()[:, None] - centres) / (centres[1] - centres[0])) ** 2)
    envelope = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    found = GaussianBasis(128, 7.0)(LENGTHS)
    assert found.numpy() == pytest.approx(wanted * envelope.numpy()[:, None], abs=2e-5)


def test_bessel_basis_is_that_of_the_paper():
    x = LENGTHS.double().numpy() / 7.0
    envelope = 1 / x - 28 * x**5 + 48 * x**6 - 21 * x**7
    wanted = envelope[:, None] * np.sin(np.pi * np.arange(1, 7) * x[:, None])
    assert BesselBasis(6, 7.0)(LENGTHS).detach().numpy() == pytest.approx(wanted, abs=2e-5)


def test_spherical_bessel_basis_equals_scipy():
    x = LENGTHS.double().numpy() / 7.0
    envelope = 1 / x - 28 * x**5 + 48 * x**6 - 21 * x**7
    found = SphericalBesselBasis(7, 6, 7.0)(LENGTHS).numpy()
    for order, roots in enumerate(bessel_roots(7, 6)):
        norm = np.sqrt(2) / np.abs(special.spherical_jn(order + 1, roots))
        wanted = envelope[:, None] * norm * special.spherical_jn(order, roots * x[:, None])
        assert found[:, order] == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_spherical_bessel_functions_are_orthonormal():
    x = np.linspace(1e-3, 1, 20001)
    roots = bessel_roots(7, 6)
    for order in (0, 3, 6):
        norm = np.sqrt(2) / np.abs(special.spherical_jn(order + 1, roots[order]))
        values = norm * special.spherical_jn(order, roots[order] * x[:, None])
        gram = np.trapezoid(values[:, :, None] * values[:, None] * x[:, None, None] ** 2, x, axis=0)
        assert gram == pytest.approx(np.eye(6), abs=1e-3)


def test_spherical_harmonics_equal_scipy():
    cosines = torch.linspace(-1, 1, 21, dtype=torch.float64)
    found = spherical_harmonics(cosines, 7)
    for order, values in enumerate(found):
        wanted = special.sph_harm_y(order, 0, np.arccos(cosines.numpy()), 0.0).real
        assert values.numpy() == pytest.approx(wanted, abs=1e-12)
