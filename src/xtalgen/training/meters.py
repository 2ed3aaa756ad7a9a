"""Sums of losses over the steps of an epoch, kept on the device: the host waits for it only when it reads them."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor


class LossMeter:
    """Sums the losses of finite steps, and counts the others and their longest streak."""

    def __init__(self, device: torch.device) -> None:
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        # Crystals in the sums, skipped steps, current streak of skipped steps, longest streak.
        self.counts = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, total: Tensor, parts: dict[str, Tensor], crystals: int, finite: Bool[Tensor, ""]) -> None:
        """Adds the losses of a step with this number of crystals, or counts it as skipped when not finite."""
        values = torch.stack([total.detach(), *(part.detach() for part in parts.values())]).double() * crystals
        if not self.names:
            self.names, self.sums = ["loss", *parts], torch.zeros_like(values)
        self.sums += torch.where(finite, values, torch.zeros_like(values))
        bad = (~finite).double()
        streak = (self.counts[2] + 1) * bad
        self.counts = torch.stack(
            [
                self.counts[0] + (1 - bad) * crystals,
                self.counts[1] + bad,
                streak,
                torch.maximum(self.counts[3], streak),
            ]
        )

    def longest_streak(self) -> int:
        """Returns the longest streak of steps that were not finite. Waits for the device."""
        return int(self.counts[3])

    def read(self) -> tuple[dict[str, float | None], int, int]:
        """Returns mean losses by name (None without finite steps), their crystals, skipped steps. Waits as well."""
        crystals, skipped = self.counts[:2].tolist()
        sums = dict(zip(self.names, self.sums.tolist(), strict=True))
        return (
            {name: value / crystals if crystals else None for name, value in sums.items()},
            int(crystals),
            int(skipped),
        )

    def clear(self) -> None:
        """Starts the next epoch; a streak of skipped steps continues across epochs."""
        self.sums = torch.zeros_like(self.sums)
        self.counts = self.counts * torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64, device=self.counts.device)

    def state(self) -> dict[str, Any]:
        """Returns the meter as tensors and plain values."""
        return {"names": self.names, "sums": self.sums, "counts": self.counts}

    def load(self, state: dict[str, Any]) -> None:
        """Restores a stored state."""
        self.names, self.sums, self.counts = list(state["names"]), state["sums"], state["counts"]
