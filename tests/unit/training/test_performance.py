"""The engine: compiled without graph breaks, full precision where it matters, what it measures."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from random_crystals import random_crystals
from xtalgen.models.manifolds.lattices import gram_of
from xtalgen.training.performance import compile_network, mean_flop, peak_flop_per_s, peak_memory, products


@pytest.mark.long
def test_networks_compile_as_one_graph_and_give_the_same_losses(root):
    environment = os.environ | {"PYTHONPATH": f"{root}/src:{root}/tests/helpers"}
    command = [sys.executable, str(root / "tests/helpers/compiled_networks.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 7
    for name, (plain, compiled) in found.items():
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, err_msg=name)


def test_a_break_of_the_graph_is_an_error():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return x * self.weight.item() if float(x.sum()) > 0 else x

    network = Broken()
    compile_network(network)
    with pytest.raises(Exception, match=r"(?i)graph|data-dependent"):
        network(torch.ones(3))


def test_geometry_keeps_full_precision_in_bfloat16():
    lattice = torch.tensor([[3.9, 0.1, 0.0], [0.0, 4.7, 0.2], [0.3, 0.0, 12.3]])
    exact = (lattice.double() @ lattice.double().T).float()
    with products("bfloat16", "cpu"):
        torch.testing.assert_close(gram_of(lattice), exact, rtol=1e-6, atol=1e-6)
        assert not torch.allclose((lattice @ lattice.T).float(), exact, rtol=1e-4), "else nothing is tested here"
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_turned_cell_has_the_same_gram_matrix_in_bfloat16():
    lattice = torch.from_numpy(np.stack([crystal.lattice for crystal in random_crystals(5, seed=3)]))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    with products("bfloat16", "cpu"):
        plain, turned = (gram_of(cell.float()) for cell in (lattice, lattice @ turn))
    torch.testing.assert_close(turned, plain, rtol=1e-5, atol=1e-4)


def test_what_is_measured():
    flop = peak_flop_per_s("cpu", "float32")
    assert 1e8 < flop < 1e14
    assert peak_flop_per_s("cpu", "float32") == flop, "measured once"
    assert peak_memory("cpu") > 1e7
    assert mean_flop(lambda n: (n, 3 * n), np.array([2, 4, 4, 6])) == (4.0, 12.0)


def test_a_cache_for_programs_is_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compile_network(nn.Linear(2, 2), tmp_path / "work")
    assert [path.name.startswith("compiled-") for path in (tmp_path / "work").iterdir()] == [True]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
