"""The device to compute on, and its name in tables."""


def pick_device(device: str) -> str:
    """Returns "cpu" or "cuda"; "auto" takes a GPU if there is one.

    Raises ValueError for cuda without a GPU and for an unknown name.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"no device {device!r}; there are auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: PyTorch sees no GPU here. Use auto or cpu, or ask the cluster for a GPU.")
    return device


def device_name(device: str) -> str:
    """Returns the name of a device for tables: that of the GPU, or the number of CPU threads."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
