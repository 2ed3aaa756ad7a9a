"""Upper bounds of the numbers that settings of models may have, so that a slip of the keyboard is refused at once.

They are far above every sensible value; what lies beyond would only end hours later, for want of memory or time.
"""

import math
from typing import Any

LARGEST = 1e9  # of a number whose name is not listed
BOUNDS: dict[str, float] = {
    # lengths of the training and of the sampling
    **dict.fromkeys(("epochs", "analogue_epochs", "formula_epochs", "teacher_forcing", "second_stage"), 1e6),
    **dict.fromkeys(("val_every", "plateau_patience", "warmup_steps", "max_bad_steps", "max_tries"), 1e6),
    **dict.fromkeys(("steps", "levels", "contact_steps"), 1e6),
    **dict.fromkeys(("save_seconds", "max_seconds"), 3.2e8),  # ten years
    **dict.fromkeys(("batch_size", "analogue_batch_size", "formula_batch_size", "parts", "slots"), 1e6),
    **dict.fromkeys(("analogues", "candidates"), 1e6),
    # shapes of networks
    **dict.fromkeys(("hidden", "formula_hidden", "latent", "frequencies", "triplet", "lora_rank"), 65_536),
    **dict.fromkeys(("layers", "formula_layers", "encoder_blocks", "decoder_blocks", "num_interactions"), 1000),
    **dict.fromkeys(("heads", "formula_heads"), 1024),
    **dict.fromkeys(("max_ell", "correlation"), 20),
    **dict.fromkeys(("max_length", "max_new_tokens"), 1e6),
    **dict.fromkeys(("neighbours", "most_atoms"), 10_000),
    **dict.fromkeys(("cutoff", "r_max"), 100.0),  # Å
    # optimisation and noise
    **dict.fromkeys(("learning_rate", "final_learning_rate", "lr", "second_lr", "weight_decay"), 1000.0),
    **dict.fromkeys(("analogue_learning_rate", "formula_learning_rate", "step_rate"), 1000.0),
    **dict.fromkeys(("clip_at", "lora_alpha", "slope", "slope_types", "slope_lattice"), 1e6),
    **dict.fromkeys(("composition_weight", "coords_weight", "count_weight", "kl_weight", "lattice_weight"), 1e9),
    **dict.fromkeys(("property_weight", "types_weight", "energy_weight", "forces_weight", "stress_weight"), 1e9),
    "second_energy_weight": 1e9,
    **dict.fromkeys(("sigma_begin", "sigma_end", "min_sigma", "coords_begin", "coords_end"), 1000.0),
    **dict.fromkeys(("types_begin", "types_end", "temperature", "count_temperature", "structure_temperature"), 1000.0),
    # shares
    **dict.fromkeys(("dropout", "formula_dropout", "lora_dropout", "ema_decay", "plateau_factor", "lr_decay"), 1.0),
    **dict.fromkeys(("composition", "infilling", "top_p"), 1.0),
}


def explain_number(name: str, value: Any) -> str | None:
    """Returns what is wrong with a number that a setting has: not finite, or beyond its bound on either side of zero.

    None where nothing is, and for values that are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    bound = BOUNDS.get(name, LARGEST)
    if not math.isfinite(value):
        return f"is {value}, not a finite number; at most {bound:,.12g} is allowed"
    if abs(value) > bound:
        return f"is {value:,}, beyond the bound of {bound:,.12g}"
    return None
