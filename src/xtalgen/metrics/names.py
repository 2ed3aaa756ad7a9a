"""The tasks, and which metrics each has: what evaluation needs of the registry.

Labels, units and definitions are in `registry`, so that rewording one of them does not evaluate any set again.
"""

from collections.abc import Mapping
from types import MappingProxyType

# eV/atom. A relaxation that ends at 0.05 eV/Å leaves an energy undecided by about this much: copies of crystals on the
# hull, relaxed again from a strained start, end 1e-5 above it, and "at most 0" must not turn on that.
TOLERANCE = 1e-4

GENERATION = ("dng", "own")
JUDGED = ("dng", "own", "csp", "conditional")
EVERY_TASK = (*JUDGED, "infilling")

# Metric to the tasks it is computed for, in the order of the tables.
TASKS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "struct_valid": JUDGED,
        "comp_valid": JUDGED,
        "valid": JUDGED,
        "cov_recall": GENERATION,
        "cov_precision": GENERATION,
        "wdist_density": GENERATION,
        "wdist_num_elems": GENERATION,
        "converged": GENERATION,
        "rmsd": GENERATION,
        "unique": GENERATION,
        "unique_sampled": GENERATION,
        "novel": GENERATION,
        "framework_novel": GENERATION,
        "unique_novel": GENERATION,
        "stable": GENERATION,
        "metastable": GENERATION,
        "sun": GENERATION,
        "msun": GENERATION,
        "e_above_hull_median": GENERATION,
        "p1": GENERATION,
        "n_space_groups": GENERATION,
        "tvd_space_group": GENERATION,
        "match_rate": ("csp",),
        "match_rate_all": ("csp",),
        "rms_dist": ("csp",),
        "rms_dist_all": ("csp",),
        "match_rate_best": ("csp",),
        "rms_dist_best": ("csp",),
        "match_rate_best_all": ("csp",),
        "rms_dist_best_all": ("csp",),
        "metre": ("csp",),
        "crmse": ("csp",),
        "formula_matched": ("conditional",),
        "n_atoms_matched": ("conditional",),
        "spg_num_matched": ("conditional",),
        "e_form_per_atom_deviation": ("conditional",),
        "e_above_hull_deviation": ("conditional",),
        "top_1": ("infilling",),
        "top_3": ("infilling",),
        "top_5": ("infilling",),
        "top_10": ("infilling",),
    }
)


def names_for(task: str) -> list[str]:
    """Returns the names of a task's metrics in table order. Raises ValueError unless the task is in `EVERY_TASK`."""
    if task not in EVERY_TASK:
        raise ValueError(f"no task {task!r}; there are {', '.join(EVERY_TASK)}")
    return [name for name, tasks in TASKS_OF.items() if task in tasks]
