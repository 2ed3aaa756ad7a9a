"""A base model whose frozen layers are sharded over several processes (FSDP), for models larger than one GPU.

Each process holds 1/N of every decoder layer's weights; a layer is gathered for its computation and freed afterwards
(Zhao et al. 2023, PyTorch FSDP, arXiv 2304.11277; here `fully_shard`). Embeddings, final norm and adapters are
replicated. Layers are read and sharded one by one, so that no process ever holds more than one whole layer.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xtalgen.training.distributed import current

INDEX, WHOLE, TIED = "model.safetensors.index.json", "model.safetensors", "lm_head.weight"


def load_sharded(config: Any, location: str, dtype: torch.dtype, device: str) -> nn.Module:
    """Returns the frozen causal language model of a configuration, its layers sharded over the current processes.

    location: folder with safetensors, or a name on the Hugging Face hub. Raises ValueError when the files lack a
    weight, or the model is not a stack of layers.
    """
    from accelerate import init_empty_weights
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM

    # On the meta device: no memory until a layer's weights are read.
    with init_empty_weights(include_buffers=False):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype)
    network.requires_grad_(False)
    weights = Weights(location)
    mesh = init_device_mesh(torch.device(device).type, (current().world,))
    layers = _layers(network)
    names = {id(module): name for name, module in network.named_modules()}
    for layer in layers:
        # One layer at a time: read whole, then reduced to this process's share.
        weights.fill(layer, names[id(layer)], dtype, device)
        fully_shard(layer, mesh=mesh)
    # What is not in a layer (embeddings, final norm) is replicated.
    weights.fill(network, "", dtype, device)
    network.tie_weights()
    for buffer in network.buffers():
        buffer.data = buffer.data.to(device)
    return network.eval()


class Weights:
    """The weights in the safetensors files of a base model, read one by one."""

    def __init__(self, location: str) -> None:
        self.folder = Path(location) if Path(location).is_dir() else _fetch(location)
        index = self.folder / INDEX
        if index.is_file():
            self.files = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        else:
            from safetensors import safe_open

            with safe_open(self.folder / WHOLE, framework="pt") as file:
                self.files = dict.fromkeys(file.keys(), WHOLE)

    def fill(self, module: nn.Module, prefix: str, dtype: torch.dtype, device: str) -> None:
        """Loads the parameters of a module that have no values yet, onto the device.

        prefix: of the module's names. A last layer tied to the first may be missing in the files. Raises ValueError
        when another weight is missing.
        """
        from safetensors import safe_open

        for path, owner in module.named_modules(prefix=prefix):
            for short, parameter in list(owner.named_parameters(recurse=False)):
                name = f"{path}.{short}" if path else short
                if not parameter.is_meta or (name not in self.files and name == TIED):
                    continue
                if name not in self.files:
                    raise ValueError(f"its files lack the weight {name!r}")
                with safe_open(self.folder / self.files[name], framework="pt") as file:
                    value = file.get_tensor(name).to(device=device, dtype=dtype)
                setattr(owner, short, nn.Parameter(value, requires_grad=False))


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json"]))


def _layers(network: nn.Module) -> nn.ModuleList:
    """Returns the stack of decoder layers: the list of modules with most weights."""
    stacks = [module for module in network.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not stacks:
        raise ValueError("it is not a stack of layers, so it cannot be sharded")
    return max(stacks, key=lambda stack: sum(weight.numel() for weight in stack.parameters()))
