"""What flows from noise to crystals share: the state, straight paths, Euler's method with anti-annealing."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.sampling.requests import Wanted
from xtalgen.training.performance import Precision, products


@dataclass(frozen=True)
class EulerSampling:
    """Settings of sampling: Euler steps on a uniform grid, and anti-annealing.

    A velocity is multiplied by 1 + slope · t: `slope` for coordinates, `slope_lattice` for cells. batch_size: crystals
    integrated together; compile: the network, which pays on a GPU.
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


@runtime_checkable
class Flow(Protocol):
    """What sampling needs of a module."""

    @property
    def precision(self) -> Precision:
        """The precision of matrix products."""

    def base(self, mask: Bool[Tensor, "batch atoms"], generator: torch.Generator) -> State:
        """Returns starting points of the flow."""

    def velocity(
        self,
        point: State,
        time: Float[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns the velocity at a point."""


def straight_path(
    start: State, end: State, time: Float[Tensor, "batch"], mask: Bool[Tensor, "batch atoms"]
) -> tuple[State, State]:
    """Returns the point of each straight path at its time, and the target velocity.

    Coordinates take the shortest way around the torus. Their target has its mean over the atoms removed, since a
    network that sees only differences cannot find it; the point itself is not re-centred.
    """
    per_atom = time[:, None, None]
    per_cell = time.reshape(-1, *[1] * (start.lattice.ndim - 1))
    shift = torus.log_map(start.coords, end.coords)
    target = State(
        types=end.types - start.types, coords=torus.remove_mean(shift, mask), lattice=end.lattice - start.lattice
    )
    point = State(
        types=start.types + per_atom * target.types,
        coords=torus.wrap(start.coords + per_atom * shift),
        lattice=start.lattice + per_cell * target.lattice,
    )
    return point, target


def draw_start(flow: Flow, wanted: Wanted, seed: int) -> State:
    """Returns points of the base distribution, which depend on seed and place alone, not on batch or device."""

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        row = flow.base(torch.ones(1, n, dtype=torch.bool, device=wanted.mask.device), generator)
        return row.types[0], row.coords[0], row.lattice

    types, coords, lattice = wanted.draw(seed, draw)
    return State(types=types, coords=coords, lattice=lattice[:, 0])


@torch.inference_mode()
def integrate(flow: Flow, point: State, wanted: Wanted, steps: int, slopes: tuple[float, float, float]) -> State:
    """Returns where the flow that begins at `point` ends, by Euler steps on a uniform grid.

    slopes: of types, coordinates and lattice; a velocity is multiplied by 1 + slope · t (anti-annealing).
    """
    mask = wanted.mask
    for step in range(steps):
        time = step / steps
        times = torch.full((len(mask),), time, device=mask.device)
        with products(flow.precision, mask.device.type):
            speed = flow.velocity(point, times, wanted.atomic_numbers, mask)
        types, coords, lattice = ((1.0 + slope * time) / steps for slope in slopes)
        point = State(
            types=point.types + types * speed.types if point.types.shape[-1] else point.types,
            coords=torus.wrap(point.coords + coords * speed.coords),
            lattice=point.lattice + lattice * speed.lattice,
        )
    return point
