"""A MACE checkpoint small enough to be made in a test."""

import numpy as np


def save_tiny_mace(path, numbers=(12, 8), hook=None, energies=(-1.0, -2.0)):
    """Writes a MACE checkpoint with random weights (seeded), as mace-torch's training does: a pickled module."""
    import mace  # noqa: F401 - before e3nn
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=1,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("4x0e"),
        MLP_irreps=o3.Irreps("4x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array(energies),
        avg_num_neighbors=20.0,
        atomic_numbers=sorted(numbers),
        correlation=2,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    if hook:
        model.register_forward_pre_hook(hook)
    torch.save(model, path)
    return path
