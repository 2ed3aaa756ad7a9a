"""MACE models as safetensors: weights and hyper-parameters without pickles, so that reading a file executes no code.

The file holds the arrays that differ from those of a freshly built model, in float32; its metadata holds the arguments
of mace-torch's `ScaleShiftMACE`. A model is built in float64, so that its constants (Clebsch-Gordan coefficients, for
example) have full precision.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xtalgen.runtime.atomic import write_bytes

FORMAT = "xtalgen-mace/1"
METADATA = "xtalgen"
SUFFIX = ".safetensors"
INTERACTIONS = ("interaction_cls", "interaction_cls_first")
PLAIN = (
    "r_max", "num_bessel", "max_ell", "num_interactions", "num_elements", "correlation", "avg_num_neighbors",
    "pair_repulsion", "use_reduced_cg", "use_so3", "use_agnostic_product", "use_last_readout_only",
    "radial_MLP", "radial_type", "heads", "apply_cutoff",
)  # fmt: skip


class ModelFileError(ValueError):
    """A file is not a MACE model of this format; the message says why."""


def save_mace(model: Any, path: Path, **metadata: str) -> None:
    """Writes a MACE model of mace-torch, whole or not at all; `metadata` is stored beside the hyper-parameters.

    Raises ValueError unless the model is a ScaleShiftMACE with the usual readout (gate SiLU).
    """
    from safetensors.torch import save

    hyper = hyper_parameters(model)
    fresh = build(hyper).state_dict()
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    if set(state) != set(fresh):
        raise ValueError(f"the model has parts that a ScaleShiftMACE lacks: {sorted(set(state) ^ set(fresh))[:3]}")
    kept = {
        name: (value.float() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
        if value.shape != fresh[name].shape or not bool((value.double() - fresh[name].double()).abs().le(1e-6).all())
    }
    # All under one key, since safetensors writes several keys in random order.
    stored = {"format": FORMAT, "hyper_parameters": json.dumps(hyper), **metadata}
    content = save(kept, {METADATA: json.dumps(stored, sort_keys=True)})
    write_bytes(path, content)


def load_mace(content: bytes) -> Any:
    """Returns the MACE model of a file's content, in float64. Raises ModelFileError when it holds no such model."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    hyper = read_metadata(content)["hyper_parameters"]
    try:
        stored = load(content)
        model = build(json.loads(hyper))
        state = model.state_dict()
        unknown = set(stored) - set(state)
        if unknown:
            raise ModelFileError(f"unknown part {min(unknown)!r}")
        model.load_state_dict({name: stored.get(name, value).to(value.dtype) for name, value in state.items()})
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{type(error).__name__}: {error}") from error
    return model


def read_metadata(content: bytes) -> dict[str, str]:
    """Returns the metadata of a file's content. Raises ModelFileError when it is not of this format."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        metadata = json.loads(header.get("__metadata__", {}).get(METADATA, "{}"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelFileError("no safetensors header") from error
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"format is {metadata.get('format')!r}, expected {FORMAT!r}")
    return metadata


def hyper_parameters(model: Any) -> dict[str, Any]:
    """Returns the arguments of `build` for a model of the same shape, as JSON values. Raises as `save_mace` does."""
    import torch
    from mace.tools.scripts_utils import extract_config_mace_model

    found = extract_config_mace_model(model)
    if "error" in found or found["gate"] is not torch.nn.functional.silu or found["distance_transform"] is not None:
        raise ValueError(f"only a plain ScaleShiftMACE can be written ({found.get('error', 'gate or transform')})")
    return {name: found[name] for name in PLAIN} | {
        **{name: found[name].__name__ for name in INTERACTIONS},
        "num_polynomial_cutoff": int(found["num_polynomial_cutoff"]),
        "hidden_irreps": str(found["hidden_irreps"]),
        "MLP_irreps": str(found["MLP_irreps"]),
        "atomic_energies": found["atomic_energies"].astype(float).tolist(),
        "atomic_numbers": [int(number) for number in found["atomic_numbers"]],
        "atomic_inter_scale": found["atomic_inter_scale"].astype(float).tolist(),
        "atomic_inter_shift": found["atomic_inter_shift"].astype(float).tolist(),
    }


def build(hyper: dict[str, Any]) -> Any:
    """Returns a ScaleShiftMACE with these hyper-parameters and random weights, in float64."""
    import mace  # noqa: F401 - before e3nn
    import numpy as np
    import torch
    from e3nn import o3
    from mace import modules

    known = dict(hyper)
    classes = {name: modules.interaction_classes[known.pop(name)] for name in INTERACTIONS}
    irreps = {name: o3.Irreps(known.pop(name)) for name in ("hidden_irreps", "MLP_irreps")}
    arrays = {
        name: np.array(known.pop(name)) for name in ("atomic_energies", "atomic_inter_scale", "atomic_inter_shift")
    }
    with _default_dtype(torch.float64):
        return modules.ScaleShiftMACE(**known, **classes, **irreps, **arrays, gate=torch.nn.functional.silu)


@contextlib.contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
