"""The optimiser: clipping, and the average of the weights."""

import pytest
import torch
from torch import nn

from xtalgen.training.optimizer import Optimiser


@pytest.mark.parametrize("clip", ["value", "norm", "none"])
def test_clipping(clip):
    module = nn.Linear(2, 1, bias=False)
    optimiser = Optimiser(module, rate=0.1, weight_decay=0.0, ema_decay=0.9, clip=clip, clip_at=0.5)
    optimiser.update([module(torch.tensor([[30.0, 0.1]])).sum()], 0.1)
    gradient = module.weight.grad.flatten()
    expected = {
        "value": torch.tensor([0.5, 0.1]),
        "norm": torch.tensor([30.0, 0.1]) * 0.5 / 30.000167,
        "none": torch.tensor([30.0, 0.1]),
    }[clip]
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_average_follows_the_weights_and_is_only_lent():
    module = nn.Linear(1, 1, bias=False)
    optimiser = Optimiser(module, rate=0.1, weight_decay=0.0, ema_decay=0.5, clip="none", clip_at=1.0)
    history = [module.weight.item()]
    expected = history[0]
    for step in range(12):
        optimiser.update([module(torch.ones(1, 1)).sum()], 0.1)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.item()
    own = module.weight.detach().clone()
    with optimiser.averaged():
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(module.weight, own)
