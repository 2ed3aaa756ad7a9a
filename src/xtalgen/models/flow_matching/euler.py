"""Common to all flows: conditional flow matching on straight paths, and Euler's method with anti-annealing.

Flow matching (Lipman et al. 2023, arXiv 2210.02747; on manifolds Chen & Lipman 2024, arXiv 2302.03660): draw x₀ from a
base distribution, x₁ from the data and t ~ U(0, 1); x_t is the point at t of the geodesic from x₀ to x₁, and the
network learns its velocity u = dx_t / dt. Sampling integrates dx / dt = v(x, t) from t = 0 to 1.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.sampling.requests import RequestBatch
from xtalgen.training.batches import Batch
from xtalgen.training.loop import Trainable
from xtalgen.training.performance import Precision, products


@dataclass(frozen=True)
class EulerSampling:
    """Settings of sampling: Euler steps on a uniform grid, and anti-annealing.

    A velocity is multiplied by 1 + slope · t: `slope` for coordinates, `slope_lattice` for cells. batch_size: crystals
    integrated together; compile: compile the network, which is worthwhile on a GPU.
    """

    steps: int = 250
    slope: float = 0.0
    slope_lattice: float = 0.0
    batch_size: int = 500
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")


class Flow(Trainable):
    """A network that learns the velocity from a base distribution to the data. precision: of matrix products."""

    precision: Precision

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of flow matching, E ‖v(x_t, t) - u‖², and its parts before weighting (`error`).

        One time per crystal, uniform in [0, 1).
        """
        # Conditional flow matching: regress v on the velocity of the path from one x₀ to one x₁.
        start, end = self.start(batch, generator), self.encode(batch)
        time = torch.rand(len(batch), device=batch.mask.device, generator=generator)
        point, target = straight_path(start, end, time, batch.mask)
        return self.error(self.velocity(point, time, batch.atomic_numbers, batch.mask), target, batch.mask)

    def start(self, batch: Batch, generator: torch.Generator) -> State:
        """Returns x₀, the start of the paths of a batch: points of the base distribution."""
        return self.base(batch.mask, generator)

    @abstractmethod
    def base(self, mask: Bool[Tensor, "batch atoms"], generator: torch.Generator) -> State:
        """Returns points of the base distribution for crystals with this atom mask."""

    @abstractmethod
    def encode(self, batch: Batch) -> State:
        """Returns x₁, the data, in the coordinates in which paths are straight."""

    @abstractmethod
    def error(
        self, predicted: State, target: State, mask: Bool[Tensor, "batch atoms"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted squared error of a velocity, and its parts before weighting."""

    @abstractmethod
    def velocity(
        self,
        point: State,
        time: Float[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns v(x, t); atomic_numbers are used only where elements are given."""


def straight_path(
    start: State, end: State, time: Float[Tensor, "batch"], mask: Bool[Tensor, "batch atoms"]
) -> tuple[State, State]:
    """Returns the point x_t = x₀ + t (x₁ - x₀) of each straight path, and its velocity u = x₁ - x₀.

    On the torus of the coordinates f, x₁ - x₀ is the logarithmic map of f₀ to f₁, the shortest way around (FlowMM). Its
    mean over the atoms is removed from u, since a network that sees only differences of coordinates cannot predict a
    common translation; f_t itself is not re-centred.
    """
    per_atom = time[:, None, None]  # (batch, 1, 1)
    per_cell = time.reshape(-1, *[1] * (start.lattice.ndim - 1))  # (batch, 1) for six numbers, (batch, 1, 1) for rows
    # log_{f₀}(f₁), (batch, atoms, 3)
    shift = torus.log_map(start.coords, end.coords)
    target = State(
        types=end.types - start.types, coords=torus.remove_mean(shift, mask), lattice=end.lattice - start.lattice
    )
    point = State(
        types=start.types + per_atom * target.types,
        # exp_{f₀}(t log_{f₀}(f₁)), the point at t of the geodesic on the torus
        coords=torus.wrap(start.coords + per_atom * shift),
        lattice=start.lattice + per_cell * target.lattice,
    )
    return point, target


def draw_start(flow: Flow, wanted: RequestBatch, seed: int) -> State:
    """Returns points of the base distribution, which depend on seed and index alone, not on batch or device."""

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        # A batch of one crystal without padding.
        row = flow.base(torch.ones(1, n, dtype=torch.bool, device=wanted.mask.device), generator)
        return row.types[0], row.coords[0], row.lattice

    types, coords, lattice = wanted.draw(seed, draw)
    return State(types=types, coords=coords, lattice=lattice[:, 0])


@torch.inference_mode()
def integrate(flow: Flow, point: State, wanted: RequestBatch, steps: int, slopes: tuple[float, float, float]) -> State:
    """Returns the end at t = 1 of the flow that begins at `point`: x ← x + (1 + s t) v(x, t) / steps.

    slopes: s of types, coordinates and lattice. This is the anti-annealing of FlowMM: later steps are longer, so the
    samples concentrate.
    """
    mask = wanted.mask
    for step in range(steps):
        time = step / steps
        times = torch.full((len(mask),), time, device=mask.device)
        with products(flow.precision, mask.device.type):
            speed = flow.velocity(point, times, wanted.atomic_numbers, mask)
        # Step lengths with anti-annealing, (1 + s t) Δt.
        types, coords, lattice = ((1.0 + slope * time) / steps for slope in slopes)
        point = State(
            types=point.types + types * speed.types if point.types.shape[-1] else point.types,
            coords=torus.wrap(point.coords + coords * speed.coords),
            lattice=point.lattice + lattice * speed.lattice,
        )
    return point
