"""The registry: what every metric is called, measures and rests on. Table heads, tooltips and docs print from here.

Imports nothing heavy, so that tables and the explorer can read it anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xtalgen.metrics.choices import TOLERANCE
from xtalgen.metrics.tasks import EVERY_TASK, GENERATION, JUDGED

CDVAE = "Xie et al. 2022, CDVAE, arXiv:2110.06197"
DIFFCSP = "Jiao et al. 2023, DiffCSP, arXiv:2309.04475"
FLOWMM = "Miller et al. 2024, FlowMM, arXiv:2406.04713"
SMACT = "Davies et al. 2019, SMACT, doi:10.21105/joss.01361"
MATTERGEN = "Zeni et al. 2025, MatterGen, doi:10.1038/s41586-025-08628-5"
SYMMCD = "Levy et al. 2025, SymmCD, arXiv:2502.03638"
WYFORMER = "Kazeev et al. 2025, WyFormer, arXiv:2503.02407, and its repository's protocol"
METRE = "Martirossyan et al. 2025, All that structure matches does not glitter, arXiv:2509.12178"
GRUVER = "Gruver et al. 2024, arXiv:2402.04379"


@dataclass(frozen=True)
class Metric:
    """What one number of the tables means.

    label: table head; unit: "" for rates and counts; better: "higher" or "lower"; definition: one sentence, thresholds
    included (the defaults; the recipe of each result names the ones used); tasks: where it is computed; percent: the
    value is a fraction that is shown as a percentage.
    """

    name: str
    label: str
    unit: str
    better: str
    definition: str
    reference: str
    tasks: tuple[str, ...]
    percent: bool


def _rate(name: str, label: str, definition: str, reference: str, tasks: tuple[str, ...] = GENERATION) -> Metric:
    return Metric(name, label, "", "higher", definition, reference, tasks, percent=True)


def _lower(
    name: str,
    label: str,
    definition: str,
    reference: str,
    *,
    unit: str,
    tasks: tuple[str, ...] = GENERATION,
    percent: bool = False,
) -> Metric:
    return Metric(name, label, unit, "lower", definition, reference, tasks, percent)


_ALL = (
    _rate(
        "struct_valid",
        "Structural validity",
        "Share of all crystals requested whose closest two different sites are at least 0.5 Å apart, periodic images "
        "included but a site's own images not, and whose cell has a volume of at least 0.1 Å³.",
        CDVAE,
        JUDGED,
    ),
    _rate(
        "comp_valid",
        "Composition validity",
        "Share of all crystals requested whose composition is an element, an alloy of metals, or charge neutral with "
        "anions more electronegative than cations for some of at most 1e7 combinations of the oxidation "
        "states of SMACT 2.2.1.",
        f"{SMACT}; {CDVAE}",
        JUDGED,
    ),
    _rate(
        "valid",
        "Valid",
        "Share of all crystals requested that are valid in structure and composition and, where fingerprints were "
        "computed, whose CrystalNN fingerprint did not fail.",
        CDVAE,
        JUDGED,
    ),
    _rate(
        "cov_recall",
        "Coverage recall",
        "Share of test crystals with a generated one within the structure cutoff (0.4; Perov-5 and Carbon-24 0.2) in "
        "CrystalNN fingerprint and one, possibly another, within the composition cutoff (10; Perov-5 and Carbon-24 4) "
        "in standardised Magpie features.",
        CDVAE,
    ),
    _rate(
        "cov_precision",
        "Coverage precision",
        "Share of all crystals requested that are covered by test crystals, with the cutoffs of coverage recall; a "
        "crystal without fingerprint is not covered.",
        CDVAE,
    ),
    _lower(
        "wdist_density",
        "W(density)",
        "Wasserstein distance between the densities of at most 1,000 random valid crystals, as sampled, and of the "
        "test split.",
        CDVAE,
        unit="g/cm³",
    ),
    _lower(
        "wdist_num_elems",
        "W(# elements)",
        "Wasserstein distance between the numbers of distinct elements of at most 1,000 random valid crystals and of "
        "the test split.",
        CDVAE,
        unit="elements",
    ),
    _rate(
        "converged",
        "Converged",
        "Share of all crystals requested whose relaxation reached its force threshold within its number of steps.",
        MATTERGEN,
    ),
    _lower(
        "rmsd",
        "RMSD",
        "Mean over relaxed crystals of the root mean square displacement of atoms between the crystal as sampled and "
        "as relaxed.",
        MATTERGEN,
        unit="Å",
    ),
    _rate(
        "unique",
        "Unique",
        "Share of all crystals requested that are unique in sample order: no earlier unique one matches by "
        "StructureMatcher (ltol 0.2, stol 0.3, angle 5°), relaxed where relaxation gave a structure.",
        f"{MATTERGEN}; {FLOWMM}",
    ),
    _rate(
        "unique_sampled",
        "Unique as sampled",
        "Share of all crystals requested that are unique before relaxation, which can make different samples equal.",
        MATTERGEN,
    ),
    _rate(
        "novel",
        "Novel",
        "Share of all crystals requested that match no crystal of the training split by the same StructureMatcher.",
        FLOWMM,
    ),
    _rate(
        "framework_novel",
        "Novel framework",
        "Share of all crystals requested that stay novel when all lanthanides count as one element, and all actinides: "
        "no known framework with one rare earth for another.",
        WYFORMER,
    ),
    _rate(
        "unique_novel", "Unique and novel", "Share of all crystals requested that are both unique and novel.", MATTERGEN
    ),
    _rate(
        "stable",
        "Stable",
        "Share of all crystals requested whose relaxed energy is at most 0 eV/atom above the hull of the reference, "
        f"which is evaluated with the same potential and does not contain the crystals judged; {TOLERANCE:g} eV/atom "
        "are allowed for what relaxation leaves undecided.",
        FLOWMM,
    ),
    _rate(
        "metastable",
        "Metastable",
        "Share of all crystals requested whose relaxed energy is at most 0.1 eV/atom above that hull; includes the "
        "stable ones.",
        MATTERGEN,
    ),
    _rate("sun", "S.U.N.", "Share of all crystals requested that are stable, unique and novel.", FLOWMM),
    _rate("msun", "M.S.U.N.", "Share of all crystals requested that are metastable, unique and novel.", MATTERGEN),
    _lower(
        "e_above_hull_median",
        "Median energy above hull",
        "Median energy above the hull of the crystals for which the hull could be evaluated; negative below it.",
        MATTERGEN,
        unit="eV/atom",
    ),
    _lower(
        "p1",
        "Without symmetry",
        "Share of the crystals with a space group (moyo, 0.1 Å; relaxed where relaxation gave a structure) whose group "
        "is P1.",
        SYMMCD,
        unit="",
        percent=True,
    ),
    Metric(
        "n_space_groups",
        "Space groups",
        "",
        "higher",
        "Number of different space groups of these crystals; it grows with their number.",
        SYMMCD,
        GENERATION,
        percent=False,
    ),
    _lower(
        "tvd_space_group",
        "Space group distance",
        "Total variation distance between the space groups of these crystals and of the test split: the share of "
        "crystals that would have to change theirs.",
        SYMMCD,
        unit="",
    ),
    _rate(
        "match_rate",
        "Match rate",
        "Share of targets whose first prediction StructureMatcher (ltol 0.3, stol 0.5, angle 10°) matches, prediction "
        "and target both being valid.",
        f"{DIFFCSP}; {FLOWMM}",
        ("csp",),
    ),
    _rate(
        "match_rate_all",
        "Match rate, unfiltered",
        "Share of targets whose first prediction the same StructureMatcher matches, whether valid or not.",
        METRE,
        ("csp",),
    ),
    _lower(
        "rms_dist",
        "RMSE",
        "Mean over the targets whose first prediction matches, both sides valid, of the root mean square displacement, "
        "divided by the cube root of the volume per atom.",
        f"{DIFFCSP}; {FLOWMM}",
        unit="",
        tasks=("csp",),
    ),
    _lower(
        "rms_dist_all",
        "RMSE, unfiltered",
        "Mean over the targets whose first prediction matches, whether valid or not, of the same displacement.",
        METRE,
        unit="",
        tasks=("csp",),
    ),
    _rate(
        "match_rate_best",
        "Match rate, best of k",
        "Share of targets that any of their k predictions matches, prediction and target both being valid.",
        f"{DIFFCSP}; {FLOWMM}",
        ("csp",),
    ),
    _lower(
        "rms_dist_best",
        "RMSE, best of k",
        "Mean over these targets of the smallest displacement of their predictions.",
        f"{DIFFCSP}; {FLOWMM}",
        unit="",
        tasks=("csp",),
    ),
    _rate(
        "match_rate_best_all",
        "Match rate, best of k, unfiltered",
        "Share of targets that any of their k predictions matches, whether valid or not.",
        METRE,
        ("csp",),
    ),
    _lower(
        "rms_dist_best_all",
        "RMSE, best of k, unfiltered",
        "Mean over these targets of the smallest displacement of their predictions, whether valid or not.",
        METRE,
        unit="",
        tasks=("csp",),
    ),
    _rate(
        "metre",
        "METRe",
        "Share of targets that any prediction of the same reduced composition matches, made for that target or not.",
        METRE,
        ("csp",),
    ),
    _lower(
        "crmse",
        "cRMSE",
        "Mean over all targets of the smallest displacement to any prediction of the same reduced composition, a "
        "target without match counting as 0.5 (stol).",
        METRE,
        unit="",
        tasks=("csp",),
    ),
    _rate(
        "formula_matched",
        "Formula as requested",
        "Share of the crystals requested by formula that have this reduced formula, failures included.",
        GRUVER,
        ("conditional",),
    ),
    _rate(
        "n_atoms_matched",
        "Atoms as requested",
        "Share of the crystals requested by number of atoms whose cell holds so many, failures included.",
        GRUVER,
        ("conditional",),
    ),
    _rate(
        "spg_num_matched",
        "Space group as requested",
        "Share of the crystals requested by space group that have it as sampled (moyo, 0.1 Å), failures included.",
        GRUVER,
        ("conditional",),
    ),
    _lower(
        "e_form_per_atom_deviation",
        "Formation energy, deviation",
        "Mean absolute difference between the formation energy requested and that of the relaxed crystal, by the "
        "potential relative to the elements of its hull; over the crystals that have one.",
        GRUVER,
        unit="eV/atom",
        tasks=("conditional",),
    ),
    _lower(
        "e_above_hull_deviation",
        "Energy above hull, deviation",
        "Mean absolute difference between the energy above hull requested and that of the relaxed crystal; over the "
        "crystals that have one.",
        GRUVER,
        unit="eV/atom",
        tasks=("conditional",),
    ),
    *(
        _rate(
            f"top_{k}",
            f"Top {k}",
            f"Share of the crystals with one element hidden, all its atoms masked, where this element is among the {k} "
            "most likely ones under the model.",
            GRUVER,
            ("infilling",),
        )
        for k in (1, 3, 5, 10)
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})


def for_task(task: str) -> list[Metric]:
    """Returns the metrics of a task (one of `EVERY_TASK`) in table order. Raises ValueError on another task."""
    if task not in EVERY_TASK:
        raise ValueError(f"no task {task!r}; there are {', '.join(EVERY_TASK)}")
    return [metric for metric in METRICS.values() if task in metric.tasks]


def describe_metrics() -> str:
    """Returns the reference page of all metrics in Markdown, as `docs/reference/metrics.md` holds it."""
    lines = [
        "# Metrics",
        "",
        "Written by `make docs` from `src/xtalgen/metrics/registry.py`; edit there.",
        "",
        "Every rate has the number of crystals (csp: targets) requested as its denominator. Thresholds and tables",
        "named here are those of the recipe `xtalgen`; [recipes](recipes.md) says what others choose, and the `recipe`",
        "of each result what was chosen. [How each number is made](../concepts/evaluation.md).",
        "",
        "| name | table head | unit | better | tasks | definition | reference |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS.values():
        unit = "%" if metric.percent else metric.unit or "1"
        cells = [f"`{metric.name}`", metric.label, unit, metric.better, ", ".join(metric.tasks)]
        lines.append("| " + " | ".join([*cells, metric.definition, metric.reference]) + " |")
    return "\n".join(lines) + "\n"
