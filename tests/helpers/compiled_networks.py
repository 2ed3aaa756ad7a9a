"""Prints the losses of every network, plain and compiled as one graph, as JSON.

A program of its own: the type checks of the tests are no part of a network and would break its graph.
"""

import json
from dataclasses import asdict
from functools import partialmethod

import torch
from torch import nn

from random_crystals import random_crystals
from xtalgen.models import crystal_text_llm, diffcsp, flowmm
from xtalgen.models.flow_matching.riemannian_flow import fit_constants
from xtalgen.models.flow_matching.stochastic_interpolant import CellFlow, fit_lengths
from xtalgen.models.language.dataset import load_texts
from xtalgen.models.language.prompts import Mixture
from xtalgen.models.orbits.dataset import load_orbits
from xtalgen.models.orbits.network import Orbits
from xtalgen.training.batches import DeviceData
from xtalgen.training.performance import compile_network

CRYSTALS = random_crystals(12, seed=3, sizes=(3, 4, 7, 8))
SMALL = {"hidden": 16, "layers": 2, "frequencies": 4}


def flow(task):
    return flowmm.build(task, fit_constants(CRYSTALS), asdict(flowmm.FlowMMConfig(**SMALL))), DeviceData(
        CRYSTALS, "cpu"
    )


def diffusion(task):
    return diffcsp._build(task, asdict(diffcsp.DiffCSPConfig(**SMALL))), DeviceData(CRYSTALS, "cpu")


def cell_flow(_task):
    return CellFlow(fit_lengths(CRYSTALS), **SMALL), DeviceData(CRYSTALS, "cpu")


def text(_task):
    config = asdict(crystal_text_llm.CrystalTextConfig(base="scratch", hidden=16, layers=1, heads=2))
    module = crystal_text_llm.new_model(config, 0, "cpu")
    split = load_texts(CRYSTALS, CRYSTALS[:2], module.vocabulary, Mixture(), longest=2048, batch_size=4, device="cpu")
    return module, split.train


def orbits(_task):
    split, groups = load_orbits(CRYSTALS, CRYSTALS[:2], "cpu")
    return Orbits(groups, hidden=16, layers=2, heads=2, dropout=0.0), split.train


def losses(module, data):
    """Returns the loss of each batch, and the sum of its gradients' absolute values."""
    found = []
    for batch in data.batches(4):
        loss, _ = module.loss(batch, torch.Generator().manual_seed(5))
        module.zero_grad()
        loss.backward()
        gradients = [weight.grad.abs().sum() for weight in module.parameters() if weight.grad is not None]
        found.append([float(loss), float(sum(gradients))])
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    # The graph is captured as for a GPU, but run by PyTorch: making programs of it takes minutes.
    nn.Module.compile = partialmethod(nn.Module.compile, backend="eager")
    results = {}
    for name, make, task in (
        ("flow csp", flow, "csp"),
        ("flow dng", flow, "dng"),
        ("diffusion csp", diffusion, "csp"),
        ("diffusion dng", diffusion, "dng"),
        ("cell flow csp", cell_flow, "csp"),
        ("text", text, "dng"),
        ("orbits", orbits, "csp"),
    ):
        torch.manual_seed(0)
        module, data = make(task)
        plain = losses(module, data)
        compile_network(module.network)
        results[name] = [plain, losses(module, data)]
    print(json.dumps(results))
