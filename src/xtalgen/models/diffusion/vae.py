"""CDVAE (Xie et al. 2022, arXiv 2110.06197): a variational autoencoder whose decoder removes noise from crystals.

Heads on the latent vector z predict the number of atoms, the cell and the composition. The decoder learns to move noisy
atoms back and to classify their elements. For Cartesian noise of standard deviation σ it predicts F ≈ d / σ, where d is
the displacement (Å) from a noisy atom to the nearest image of its true position; the loss is ½ ‖d / σ - F‖² per atom.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.crystals import Crystal
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.lattices import lattice_from_parameters
from xtalgen.models.networks.bonded_graph import bonded_graph
from xtalgen.models.networks.dimenet import DenseDimeNet
from xtalgen.models.networks.gemnet import DenseGemNetT, fitting_scales
from xtalgen.models.networks.periodic_graph import PeriodicGraph, minimum_image, nearest_graph
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import MAX_ELEMENT, Batch
from xtalgen.training.loop import Trainable

# Width of the encoder's output and of the heads' hidden layers.
HEAD = 256
COMPOSITION = 128  # width of the embedded composition (csp)
STD_FLOOR = 1e-5  # added to standard deviations, as in CDVAE
SMALLEST_VOLUME = 1e-3  # smallest volume of a cell, relative to a · b · c
SHORTEST, LONGEST = 0.5, 200.0  # Å, of a cell's sides
# Mean slots per atom for MP-20: bonds, and the decoder's graph of noisy atoms.
BOND_SLOTS, DECODER_SLOTS = 16, 28
Six = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Constants:
    """Standardisation, fitted on the training data: of lengths / n^(1/3) (Å) and angles (°), and of the property."""

    lattice_mean: Six
    lattice_std: Six
    property_mean: float
    property_std: float
    max_atoms: int


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the loss; the defaults are CDVAE's."""

    count: float = 1.0
    lattice: float = 10.0
    coords: float = 10.0
    types: float = 1.0
    kl: float = 0.01
    composition: float = 1.0
    property: float = 1.0


@dataclass(frozen=True)
class Noise:
    """Geometric levels of noise from `begin` to `end`: of coordinates in Å, of types as weight of the composition."""

    levels: int = 50
    coords_begin: float = 10.0
    coords_end: float = 0.01
    types_begin: float = 5.0
    types_end: float = 0.01


DEFAULT_WEIGHTS, DEFAULT_NOISE = Weights(), Noise()


def fit_constants(crystals: Sequence[Crystal], column: str | None) -> Constants:
    """Returns the constants of a training set; `column` names the property."""
    lengths, angles = lattice_to_parameters(np.stack([crystal.lattice for crystal in crystals]))
    n_atoms = np.array([crystal.n_atoms for crystal in crystals])
    # Lengths scale with the cube root of the number of atoms ("scale_length" in CDVAE).
    targets = np.concatenate([lengths / np.cbrt(n_atoms)[:, None], angles], axis=1)
    values = np.array([crystal.info[column] for crystal in crystals] if column else [0.0, 1.0], dtype=np.float64)
    return Constants(
        lattice_mean=tuple(targets.mean(axis=0).tolist()),
        lattice_std=tuple((targets.std(axis=0) + STD_FLOOR).tolist()),
        property_mean=float(values.mean()),
        property_std=float(values.std() + STD_FLOOR),
        max_atoms=int(n_atoms.max()),
    )


def geometric(begin: float, end: float, levels: int) -> Float[Tensor, "levels"]:
    """Returns levels of noise from begin to end with a constant ratio; the end alone for one level."""
    if levels == 1:
        return torch.tensor([end])
    return torch.from_numpy(np.geomspace(begin, end, levels)).float()


class CrystalVAE(Trainable):
    """Encoder, heads, decoder and loss. `task` is "dng" or "csp".

    In csp the elements are known: the lattice head also gets the composition, the decoder gets the true elements, and
    the loss has no terms for number and type of atoms.
    """

    network: DenseGemNetT
    lattice_mean: Tensor
    lattice_std: Tensor
    coords_levels: Tensor
    types_levels: Tensor

    def __init__(
        self,
        task: str,
        constants: Constants,
        *,
        latent: int = 256,
        encoder: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        bonds: str = "crystal_nn",
        weights: Weights = DEFAULT_WEIGHTS,
        noise: Noise = DEFAULT_NOISE,
        teacher_forcing: int = 500,
        has_property: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.task, self.constants, self.latent, self.bonds = task, constants, latent, bonds
        self.weights, self.noise, self.teacher_forcing, self.precision = weights, noise, teacher_forcing, precision
        self.encoder = DenseDimeNet(outputs=HEAD, **(encoder or {}))
        # q(z | crystal) = N(μ, σ²), both linear in the pooled encoding.
        self.mean, self.log_variance = nn.Linear(HEAD, latent), nn.Linear(HEAD, latent)
        self.network = DenseGemNetT(latent=latent, **(decoder or {}))
        self.head_types = nn.Linear(self.network.hidden, MAX_ELEMENT)
        # csp: composition → lattice head; dng: heads for number of atoms and composition instead.
        self.embed_composition = _head(MAX_ELEMENT + 1, COMPOSITION, COMPOSITION) if task == "csp" else None
        self.head_lattice = _head(latent + (COMPOSITION if task == "csp" else 0), HEAD, 6)
        self.head_count = _head(latent, HEAD, constants.max_atoms + 1) if task == "dng" else None
        self.head_composition = _head(latent, HEAD, MAX_ELEMENT) if task == "dng" else None
        self.head_property = _head(latent, HEAD, 1) if has_property else None
        for name, values in (
            ("lattice_mean", torch.tensor(constants.lattice_mean)),
            ("lattice_std", torch.tensor(constants.lattice_std)),
            ("coords_levels", geometric(noise.coords_begin, noise.coords_end, noise.levels)),
            ("types_levels", geometric(noise.types_begin, noise.types_end, noise.levels)),
        ):
            self.register_buffer(name, values, persistent=False)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the batch and its parts before weighting; in evaluation mode coords and types only.

        Up to and including epoch `teacher_forcing` of a training the decoder gets the true cell, later the predicted
        one. `replaced` is the share of predicted cells that cannot exist, for which the decoder gets the true ones;
        `overflow` is the share of crystals that lost edges because an atom had more neighbours than slots.
        """
        mean, log_variance = self.encode(batch)
        # Reparametrisation: z = μ + σ ε
        latent = mean + torch.exp(0.5 * log_variance) * _normal(mean.shape, mean, generator)
        composition = self.composition(latent)
        predicted = self.lattice_of(latent, batch.atomic_numbers, batch.mask)
        target = (_scaled(batch) - self.lattice_mean) / self.lattice_std
        parts = {
            "lattice": (predicted - target).square().mean(),
            # KL(N(μ, σ²) ‖ N(0, 1)), summed over the latent dimensions
            "kl": -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean(),
        }
        if self.head_count is not None and composition is not None:
            parts["count"] = functional.cross_entropy(self.head_count(latent).float(), batch.mask.sum(dim=1))
            # One distribution per crystal, compared with every atom's element.
            parts["composition"] = _mean_of_atoms(_cross_entropy(composition.unsqueeze(1), batch), batch.mask)
        if self.head_property is not None:
            parts["property"] = (self.property_of(latent) - batch.extra["property"]).square().mean()
        true = lattice_from_parameters(batch.lengths, batch.angles)
        lattice, replaced = true, torch.zeros(len(batch), device=true.device)
        if not (self.training and self.epoch <= self.teacher_forcing):
            # As published: a predicted cell is where the decoder works, not what its errors teach the head.
            lattice, replaced = self._usable(predicted.detach(), batch)
        parts |= self._denoising(
            batch, latent=latent, composition=composition, true=true, lattice=lattice, generator=generator
        )
        parts["replaced"] = replaced.mean()
        names = parts if self.training else ("coords", "types")
        weights = {name: getattr(self.weights, name) for name in names if name in parts and hasattr(self.weights, name)}
        return sum(weight * parts[name] for name, weight in weights.items()), parts

    def _denoising(
        self,
        batch: Batch,
        *,
        latent: Tensor,
        composition: Tensor | None,
        true: Float[Tensor, "batch 3 3"],
        lattice: Float[Tensor, "batch 3 3"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Returns the losses of coordinates and types; both levels of noise are drawn independently per crystal."""
        # σ of coordinates (Å) and σ^A of types, (batch,)
        coords_level = self._draw(self.coords_levels, len(batch), generator)
        types_level = self._draw(self.types_levels, len(batch), generator)
        numbers = batch.atomic_numbers
        if composition is not None:
            numbers = self.corrupt_types(numbers, batch.mask, composition, types_level, generator)
        # f + σ ε L⁻¹ mod 1: Cartesian noise in the cell that the decoder gets.
        shift = coords_level[:, None, None] * _normal(batch.frac_coords.shape, true, generator)
        coords = torus.wrap(batch.frac_coords + multiply(shift, inverse(lattice)))
        atoms, vectors, needed = self.network(latent, numbers, coords, lattice, batch.mask)
        # d / σ, with d measured in the true cell; (batch, atoms, 3)
        target = minimum_image(coords.detach(), torus.wrap(batch.frac_coords), true) / coords_level[:, None, None]
        parts = {"coords": _mean_of_atoms(0.5 * (vectors - target).square().sum(dim=-1), batch.mask)}
        if composition is not None:
            # Cross-entropy over σ^A, so that noisier types count less.
            wrong = _cross_entropy(self.head_types(atoms), batch) / types_level.unsqueeze(1)
            parts["types"] = _mean_of_atoms(wrong, batch.mask)
        if self.network.slots:
            parts["overflow"] = (needed > self.network.slots).float().mean()
        return parts

    def corrupt_types(
        self,
        numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
        composition: Float[Tensor, "batch elements"],
        level: Float[Tensor, "batch"],
        generator: torch.Generator,
    ) -> Int[Tensor, "batch atoms"]:
        """Returns elements drawn with p ∝ onehot(true) + level · predicted composition; padding stays 0."""
        predicted = composition.detach().softmax(dim=-1) * level.unsqueeze(1)
        chances = _one_hot(numbers) + predicted.unsqueeze(1)
        # argmax p_k / E_k with exponential E_k draws k with probability p_k / Σ p. torch.multinomial would make the
        # host wait and reject probabilities that are not finite; such a step is skipped anyway.
        clocks = torch.empty_like(chances).exponential_(generator=generator)
        return ((chances / clocks).argmax(dim=-1) + 1) * mask

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Returns mean and logarithm of the variance of the latent vectors."""
        pooled = self.encoder(batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask, self.graph(batch))
        return self.mean(pooled).float(), self.log_variance(pooled).float()

    def graph(self, batch: Batch) -> PeriodicGraph:
        """Returns the encoder's graph: the bonds stored with the data, or a graph like the decoder's."""
        if self.bonds == "crystal_nn":
            return bonded_graph(batch.extra, batch.mask)
        return nearest_graph(
            torus.wrap(batch.frac_coords),
            batch.lattice,
            batch.mask,
            cutoff=self.network.cutoff,
            neighbours=self.network.neighbours,
        )

    def composition(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch elements"] | None:
        """Returns the logits of the composition; None in csp."""
        return None if self.head_composition is None else self.head_composition(latent).float()

    def lattice_of(
        self,
        latent: Float[Tensor, "batch latent"],
        numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> Float[Tensor, "batch 6"]:
        """Returns the standardised lattice; the elements are used only in csp."""
        if self.embed_composition is not None:
            counts = _one_hot(numbers).sum(dim=1)
            total = mask.sum(dim=1, keepdim=True)
            # Mole fractions and the relative number of atoms: (batch, elements + 1)
            seen = torch.cat([counts / total, total / self.constants.max_atoms], dim=-1)
            latent = torch.cat([latent, self.embed_composition(seen)], dim=-1)
        return self.head_lattice(latent).float()

    def property_of(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch"]:
        """Returns the predicted property, standardised."""
        assert self.head_property is not None
        return self.head_property(latent).float().squeeze(-1)

    def parameters_of(
        self, standardised: Float[Tensor, "batch 6"], n_atoms: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"], Bool[Tensor, "batch"]]:
        """Returns lengths (Å), angles (degrees), and whether a cell of these exists."""
        # A cell exists when V² / (abc)² = 1 - Σ cos² + 2 Π cos > 0.
        values = standardised * self.lattice_std + self.lattice_mean
        # Inverse of the standardisation and of the scaling by N^(1/3).
        lengths, angles = values[:, :3] * n_atoms.unsqueeze(1) ** (1 / 3), values[:, 3:]
        cosines = torch.deg2rad(angles).cos()
        volume = 1 - cosines.square().sum(dim=1) + 2 * cosines.prod(dim=1)
        inside = (lengths > SHORTEST) & (lengths < LONGEST) & (angles > 0) & (angles < 180)
        return lengths, angles, inside.all(dim=1) & (volume > SMALLEST_VOLUME**2)

    @torch.no_grad()
    def fit_scales(self, batch: Batch, generator: torch.Generator) -> None:
        """Fits the decoder's constant scale factors so that each block preserves the variance on this batch."""
        with fitting_scales(self.network):
            self.loss(batch, generator)

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward).

        With the average slots of MP-20. The heads are included, geometry and bases are not.
        """
        heads = [head for head in (self.head_lattice, self.head_count, self.head_composition) if head is not None]
        linear = sum(layer.weight.numel() for head in heads for layer in head if isinstance(layer, nn.Linear))
        linear += 2 * HEAD * self.latent + n_atoms * self.network.hidden * MAX_ELEMENT
        total = self.encoder.flop(n_atoms, BOND_SLOTS) + self.network.flop(n_atoms, DECODER_SLOTS) + 2 * linear
        return total, 3 * total

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that one crystal padded to n_atoms moves in a training step (float32, nothing fused).

        5 passes of 4 bytes over every intermediate, as for CSPNet: per edge and block about 30 hidden widths and the
        bilinear layer of the decoder, 20 hidden widths of the encoder, and the angular basis once per block.
        """
        edges, width = n_atoms * DECODER_SLOTS, self.network.hidden
        block = edges * (30 * width + 7 * self.network.trip + 16 * self.network.trip + 7 * DECODER_SLOTS)
        bonds = n_atoms * BOND_SLOTS * (20 * self.encoder.hidden + 2 * 7 * 64 + 7 * BOND_SLOTS)
        return 5 * 4 * (len(self.network.blocks) * block + len(self.encoder.blocks) * bonds)

    def _usable(
        self, standardised: Float[Tensor, "batch 6"], batch: Batch
    ) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch"]]:
        lengths, angles, exists = self.parameters_of(standardised, batch.mask.sum(dim=1))
        lengths = torch.where(exists.unsqueeze(1), lengths, batch.lengths)
        angles = torch.where(exists.unsqueeze(1), angles, batch.angles)
        return lattice_from_parameters(lengths, angles), (~exists).float()

    @staticmethod
    def _draw(levels: Tensor, number: int, generator: torch.Generator) -> Float[Tensor, "number"]:
        return levels[torch.randint(len(levels), (number,), device=levels.device, generator=generator)]


def inverse(lattice: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch 3 3"]:
    """Returns the inverse of each cell by cofactors; torch.linalg.inv would make the host wait."""
    a, b, c = lattice.unbind(dim=1)
    # The columns of L⁻¹ are b × c, c × a and a × b over the volume.
    reciprocal = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=2)
    volume = (a * reciprocal[:, :, 0]).sum(dim=1)
    return reciprocal / volume[:, None, None]


def multiply(
    vectors: Float[Tensor, "batch atoms 3"], matrix: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch atoms 3"]:
    """Returns vectors times matrix in float32; with an inverse cell, Cartesian vectors (Å) become fractional."""
    with torch.autocast(matrix.device.type, enabled=False):
        return vectors @ matrix


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _scaled(batch: Batch) -> Float[Tensor, "batch 6"]:
    n_atoms = batch.mask.sum(dim=1, keepdim=True)
    return torch.cat([batch.lengths / n_atoms ** (1 / 3), batch.angles], dim=1)


def _normal(shape: torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, device=like.device, generator=generator)


def _one_hot(numbers: Int[Tensor, "batch atoms"]) -> Float[Tensor, "batch atoms elements"]:
    """Returns the elements as one-hot vectors, 0 at padding."""
    return (numbers.unsqueeze(-1) == torch.arange(1, MAX_ELEMENT + 1, device=numbers.device)).float()


def _cross_entropy(logits: Float[Tensor, "batch some elements"], batch: Batch) -> Float[Tensor, "batch atoms"]:
    chances = logits.float().log_softmax(dim=-1).expand(-1, batch.mask.shape[1], -1)
    return -chances.gather(-1, (batch.atomic_numbers - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)


def _mean_of_atoms(values: Float[Tensor, "batch atoms"], mask: Bool[Tensor, "batch atoms"]) -> Float[Tensor, ""]:
    """Returns the mean over crystals of the mean over atoms."""
    return ((values * mask).sum(dim=1) / mask.sum(dim=1)).mean()
