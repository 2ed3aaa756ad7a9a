"""What a computation does, operation by operation: which of it makes the host wait for a GPU, and the same again."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What makes the host wait for a GPU: values read back, sizes that depend on values, tables copied from the host,
# checks for errors.
WAITING = {
    "aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::unique_dim",
    "aten::masked_select", "aten::lift_fresh", "aten::multinomial", "aten::linalg_inv_ex", "aten::linalg_inv",
}  # fmt: skip


class Tape(TorchDispatchMode):
    """Keeps every operation with the very tensors that it read and wrote, and does them again, as a CUDA graph does."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def names(self):
        return Counter(operation.name().split(".")[0] for operation, *_ in self.done)

    def replay(self):
        for operation, args, kwargs, result in self.done:
            again = operation(*args, **kwargs)
            for kept, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if kept.data_ptr() != new.data_ptr():  # else a view, or written in place
                    kept.copy_(new)
