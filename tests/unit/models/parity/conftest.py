import pytest
import torch


@pytest.fixture(autouse=True)
def _in_float64(monkeypatch):
    """Computes in float64, also where the models say float(), so that differences are those of formulas."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(default)
