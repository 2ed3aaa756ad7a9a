"""One optimiser step: AdamW, gradient clipping, moving average of the weights. Steps that are not finite are skipped.

All decisions are made on the device, without synchronising with the host.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from xtalgen.training.distributed import current


class Optimiser:
    """AdamW on a module, with an exponential moving average (EMA) of its weights.

    clip: "value" (each component to ±clip_at), "norm" (the whole gradient to clip_at) or "none".
    The decay of the average starts low, min(ema_decay, (1 + t) / (10 + t)) at step t, so that initial weights do not
    dominate the average of short trainings.
    """

    def __init__(
        self, module: nn.Module, *, rate: float, weight_decay: float, ema_decay: float, clip: str, clip_at: float
    ) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # The fused kernel leaves weights and moments unchanged when `found_inf` is 1: this skips a step.
        self.adamw = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=weight_decay, fused=True)
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.ema_decay, self.clip, self.clip_at = ema_decay, clip, clip_at
        self.steps = 0

    def update(self, losses: Iterable[Float[Tensor, ""]], rate: float) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
        """Takes one step on the sum of the losses at this learning rate. Returns the sum, and whether all was finite.

        Losses may be computed lazily: the memory of each is freed before the next. Losses and gradients are summed over
        all processes. When something was not finite, weights and moments stay unchanged.
        """
        self.adamw.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.parameters[0].device)
        for loss in losses:
            loss.backward()
            total += loss.detach()
        self._add_up(total)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        # The norm is finite only if all gradients are: one test for everything.
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(total) & torch.isfinite(norm)
        if self.clip == "value":
            torch.nn.utils.clip_grad_value_(self.parameters, self.clip_at)
        elif self.clip == "norm":
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_at, norm)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]  # read by the fused step
        self.adamw.step()
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        # a ← d a + (1 - d) w, also after a skipped step, where w is unchanged.
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1.0 - decay)
        self.steps += 1
        return total, finite

    def _add_up(self, total: Float[Tensor, ""]) -> None:
        processes = current()
        if processes.world == 1:
            return
        for parameter in self.parameters:
            if parameter.grad is None:  # not used by this process's share, but possibly by another's
                parameter.grad = torch.zeros_like(parameter)
        processes.add_up([total, *(parameter.grad for parameter in self.parameters if parameter.grad is not None)])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the module has the averaged weights."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        self.set_weights(self.average)
        try:
            yield
        finally:
            self.set_weights(kept)

    def state(self) -> dict[str, Any]:
        """Returns the state needed for resuming, as tensors and plain values."""
        return {
            "adamw": self.adamw.state_dict(),
            "weights": [parameter.detach() for parameter in self.parameters],
            "average": self.average,
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores a stored state."""
        self.adamw.load_state_dict(state["adamw"])
        self.set_weights(state["weights"])
        for kept, stored in zip(self.average, state["average"], strict=True):
            kept.copy_(stored)
        self.steps = state["steps"]

    @torch.no_grad()
    def set_weights(self, values: list[Tensor]) -> None:
        """Sets the module's weights."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def cosine(start: float, end: float, progress: float) -> float:
    """Returns the learning rate at a progress from 0 to 1: half a cosine wave from start to end."""
    # η = η_end + (η_start - η_end) (1 + cos π p) / 2 (Loshchilov & Hutter 2017)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
