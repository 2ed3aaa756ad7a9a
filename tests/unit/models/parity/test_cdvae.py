"""CDVAE against numbers that its own functions gave (cdvae.json says which).

Encoder and decoder networks are replaced by formulas, the same ones in both; the networks have tests of their own.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tolerances import SUMS
from xtalgen.models.cdvae import CDVAEConfig, build
from xtalgen.models.diffusion import vae as vae_module
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling, Start, anneal
from xtalgen.models.diffusion.vae import Constants, geometric
from xtalgen.models.networks.periodic_graph import nearest_graph

from .formulas import crystals, fill, inside, wave

STATED = json.loads(Path(__file__).with_name("cdvae.json").read_text(encoding="utf-8"))
LATENT, HIDDEN = 6, 8
TINY = {"hidden": HIDDEN, "triplet": 4, "latent": LATENT, "encoder_blocks": 1, "decoder_blocks": 1, "bonds": "radius"}


@pytest.fixture
def batch():
    return crystals()


class Formula(torch.nn.Module):
    """Stands for the decoder: depends on everything that a decoder sees."""

    cutoff, neighbours, slots = 7.0, 20, 0

    def forward(self, latent, numbers, coords, lattice, mask):
        z = latent[:, None]
        vectors = (0.3 * torch.sin(2 * torch.pi * coords)) @ lattice * 0.1 + 0.05 * z[..., :3]
        size = lattice.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        seen = coords.sum(-1, keepdim=True) + 0.01 * numbers.unsqueeze(-1)
        hidden = torch.sin(torch.arange(1.0, HIDDEN + 1) * seen + 0.1 * size + z[..., :1])
        return hidden, vectors, torch.zeros(len(mask), dtype=torch.int64)


def model_of(batch, monkeypatch):
    """The model with formulas as its networks, and with the stated draws."""
    drawn = STATED["drawn"]
    constants = Constants(tuple(drawn["lattice_mean"]), tuple(drawn["lattice_std"]), 0.0, 1.0, 20)
    model = fill(build("dng", constants, {**asdict(CDVAEConfig()), **TINY}).double())
    model.network = Formula()
    pooled = 0.05 * wave(3, 256, phase=2)
    levels = {"coords": geometric(10.0, 0.01, 50), "types": geometric(5.0, 0.01, 50)}
    taken = iter([levels[name][torch.tensor(drawn[f"{name}_levels"])] for name in ("coords", "types")])
    types = torch.zeros_like(batch.atomic_numbers)
    types[batch.mask] = torch.tensor(drawn["types"])
    monkeypatch.setattr(model, "encode", lambda _: (model.mean(pooled), model.log_variance(pooled)))
    monkeypatch.setattr(model, "_draw", lambda *_: next(taken))
    monkeypatch.setattr(model, "corrupt_types", lambda *_: types)
    phases = {(LATENT,): 3, (4, 3): 4}
    monkeypatch.setattr(vae_module, "_normal", lambda shape, *_: wave(*shape, phase=phases[tuple(shape[1:])]))
    return model


def equal(found, stated):
    torch.testing.assert_close(found.detach().flatten(), torch.tensor(stated), rtol=SUMS, atol=SUMS)


@pytest.mark.parametrize("stated", STATED["graphs"], ids=["20_neighbours", "6_neighbours"])
def test_graph_of_the_decoder(stated, batch):
    """Apart from the last of the nearest being one of two self-images at ±R: which of them is left to rounding."""
    limits = {name: stated[name] for name in ("cutoff", "neighbours")}
    graph = nearest_graph(batch.frac_coords, batch.lattice, batch.mask, **limits)
    crystal, target, slot = graph.mask.nonzero(as_tuple=True)
    source, image = graph.source[crystal, target, slot], graph.image[crystal, target, slot].long()
    found = torch.cat([torch.stack([crystal, source, target], dim=1), image], dim=1).tolist()
    other = {tuple(edge) for edge in found} ^ {tuple(edge) for edge in stated["edges"]}
    assert len(found) == len({tuple(edge) for edge in found})
    assert all(source == target for _, source, target, *_ in other), other
    assert len(other) <= 2, other


@pytest.mark.parametrize("cells", ["forced", "free"])
def test_losses_and_their_gradients_with_and_without_true_cells(cells, batch, monkeypatch):
    model, stated = model_of(batch, monkeypatch), STATED[cells]
    model.train()
    model.epoch = 0 if cells == "forced" else 501
    total, parts = model.loss(batch, torch.Generator())
    assert parts.pop("replaced") == 0
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(stated["parts"], rel=SUMS)
    assert total.item() == pytest.approx(stated["loss"], rel=SUMS)
    total.backward()
    gradient = stated["gradient"]
    equal(model.head_lattice[2].bias.grad, gradient["head_lattice"])
    assert model.head_lattice[0].weight.grad.norm().item() == pytest.approx(gradient["head_lattice_norm"], rel=SUMS)
    equal(model.mean.bias.grad, gradient["mean"])
    equal(model.log_variance.bias.grad, gradient["log_variance"])
    assert model.head_types.weight.grad.norm().item() == pytest.approx(gradient["head_types_norm"], rel=SUMS)


def test_their_denoising_terms_do_not_reach_the_lattice_head():
    assert not STATED["free"]["denoising_reaches_head_lattice"]


@pytest.mark.parametrize("elements", ["free", "given"])
def test_langevin_dynamics_with_the_same_noise(elements, batch, monkeypatch):
    model, stated, steps = model_of(batch, monkeypatch), STATED[f"langevin_{elements}"], iter(range(100))
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda noise, **_: noise.copy_(wave(*noise.shape, phase=600 + next(steps)))
    )
    coords = inside(3, 4, 3, phase=8) * batch.mask.unsqueeze(-1)
    numbers = batch.atomic_numbers
    start = Start(wave(3, LATENT, phase=9), numbers, coords, batch.lattice, batch.mask, elements == "given")
    coords, numbers = anneal(model, start, CDVAESampling(levels=3, steps=4), torch.Generator())
    equal(coords[batch.mask], stated["coords"])
    assert numbers[batch.mask].tolist() == stated["numbers"]
