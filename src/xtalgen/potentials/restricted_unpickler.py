"""An unpickler for models of torch, e3nn and mace only, to be given to `torch.load(pickle_module=...)`.

A pickle can have any function of any module called. This unpickler allows only classes of the libraries that a MACE
model consists of, and the few functions that rebuild it. Anything else is refused. This is not a sandbox, since e3nn's
modules contain code of their own: open only files that you trust.
"""

import pickle
from pickle import *  # noqa: F403 - torch.load looks for the constants of pickle here
from typing import Any

LIBRARIES = ("torch", "e3nn", "mace", "numpy", "collections", "opt_einsum_fx")
FUNCTIONS = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch.nn.functional", "silu"),
    ("torch.fx.graph_module", "reduce_graph_module"),
    ("torch", "device"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("builtins", "set"),
    ("builtins", "slice"),
    ("builtins", "complex"),
}


class Unpickler(pickle.Unpickler):  # type: ignore[no-redef]  # in place of the one imported above
    """An unpickler that refuses every name that a MACE model does not need."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the object that a pickle names; raises `pickle.UnpicklingError` for names foreign to MACE models."""
        module = "builtins" if module == "__builtin__" else module
        found = super().find_class(module, name) if module.split(".")[0] in LIBRARIES else None
        if isinstance(found, type) or (module, name) in FUNCTIONS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which is no part of a MACE model and could run any code. If you trust the "
            "file, give its sha256 in the configuration"
        )
