"""Recipes: named sets of choices in which papers' definitions of the same metrics differ.

A number is meaningful only together with its recipe, so every result carries one. Differences that cannot be chosen
here (another potential, another reference data set) are listed in `not_followed`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from xtalgen.metrics.choices import Among, Denominator, Geometry, MatchFilter, OxidationStates, Rules, Scale, Split
from xtalgen.metrics.coverage import CoverageRules
from xtalgen.metrics.distributions import DistributionRules
from xtalgen.metrics.novelty import LikenessRules
from xtalgen.metrics.stability import StabilityRules
from xtalgen.metrics.validity import ValidityRules
from xtalgen.structure.geometry import MIN_DISTANCE, MIN_VOLUME
from xtalgen.structure.matcher import CSP, Tolerances

DEFAULT = "xtalgen"


@dataclass(frozen=True)
class PredictionRules(Rules):
    """first: filter of the match rate with one prediction per target; best: with the best of several."""

    tolerances: Tolerances = CSP
    first: MatchFilter = MatchFilter.BOTH
    best: MatchFilter = MatchFilter.BOTH


@dataclass(frozen=True)
class Recipe:
    """All choices behind a set of numbers.

    only_valid: whether uniqueness, novelty and stability are asked of valid crystals only; changed: choices that the
    configuration took back, by name.
    """

    name: str
    about: str
    source: str
    not_followed: str = ""
    validity: ValidityRules = field(default_factory=ValidityRules)
    coverage: CoverageRules = field(default_factory=CoverageRules)
    distributions: DistributionRules = field(default_factory=DistributionRules)
    prediction: PredictionRules = field(default_factory=PredictionRules)
    likeness: LikenessRules = field(default_factory=LikenessRules)
    stability: StabilityRules = field(default_factory=StabilityRules)
    only_valid: bool = False
    changed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, with what was changed of it: what tables print."""
        return " with ".join([self.name, *([", ".join(self.changed)] if self.changed else [])])

    def describe(self, task: str) -> dict[str, Any]:
        """Returns the choices that concern a task, as the metrics file of a set holds them."""
        named = {"name": self.label, "about": self.about, "source": self.source}
        if self.not_followed:
            named["not_followed"] = self.not_followed
        validity = {"min_distance": MIN_DISTANCE, "min_volume": MIN_VOLUME} | asdict(self.validity)
        if task == "infilling":
            return named
        if task == "conditional":
            return named | {"validity": validity}
        if task == "csp":
            return named | {"validity": validity, "prediction": asdict(self.prediction)}
        stability = asdict(self.stability)
        thresholds = {key: stability.pop(key) for key in ("stable_below", "metastable_below")}
        return (
            named
            | {"validity": validity}
            | {name: asdict(getattr(self, name)) for name in ("coverage", "distributions", "likeness")}
            | {"stability": stability, "only_valid": self.only_valid}
            | thresholds
        )


_ALL = (
    Recipe(
        "xtalgen",
        "validity and coverage as in CDVAE, denominators of all crystals asked for, S.U.N. against the training split",
        "docs/concepts/evaluation.md",
    ),
    Recipe(
        "cdvae",
        "as the evaluation script of CDVAE: match rate of valid predictions, coverage with CDVAE's constants, exactly "
        "1,000 valid crystals for the distributions",
        "Xie et al. 2022, arXiv:2110.06197; github.com/txie-93/cdvae, scripts/compute_metrics.py",
        "its random draw is not seeded; a cell that pymatgen cannot build ends its script, here it is invalid",
        validity=ValidityRules(max_combinations=None, max_number=118, composition_needs_geometry=False),
        coverage=CoverageRules(standardised_by=Scale.CDVAE_CONSTANTS),
        distributions=DistributionRules(fewer=False),
        prediction=PredictionRules(first=MatchFilter.PREDICTION, best=MatchFilter.PREDICTION),
    ),
    Recipe(
        "diffcsp",
        "as the evaluation script of DiffCSP: CDVAE's, but prediction and target must be valid at k = 1, and "
        "compositions with more than 10 million combinations of oxidation states are invalid",
        "Jiao et al. 2023, arXiv:2309.04475; github.com/jiaor17/DiffCSP, scripts/compute_metrics.py",
        "its random draw is not seeded; a cell that pymatgen cannot build ends its script, here it is invalid",
        validity=ValidityRules(max_number=118, composition_needs_geometry=False),
        coverage=CoverageRules(standardised_by=Scale.CDVAE_CONSTANTS),
        distributions=DistributionRules(fewer=False),
        prediction=PredictionRules(first=MatchFilter.BOTH, best=MatchFilter.PREDICTION),
    ),
    Recipe(
        "flowmm",
        "as the evaluation scripts of FlowMM: cells with angles outside 50° to 130° or elements beyond 104 are no "
        "crystals, prediction and target must be valid at k = 1, S.U.N. among stable compounds without pure elements",
        "Miller et al. 2024, arXiv:2406.04713; github.com/facebookresearch/flowmm, old_eval and scripts_analysis",
        "its energies are DFT with corrections, its hull that of the Materials Project of 2023-02-07",
        validity=ValidityRules(angles=(50.0, 130.0)),
        coverage=CoverageRules(standardised_by=Scale.CDVAE_CONSTANTS),
        distributions=DistributionRules(fewer=False, elements_of_all=True),
        prediction=PredictionRules(first=MatchFilter.BOTH, best=MatchFilter.PREDICTION),
        stability=StabilityRules(unique_among=Among.CLASS, elements=False),
    ),
    Recipe(
        "mattergen",
        "as mattergen-evaluate: stable up to 0.1 eV/atom, novel against all splits, SMACT's later tables",
        "Zeni et al. 2025, doi:10.1038/s41586-025-08628-5; github.com/microsoft/mattergen, mattergen/evaluation",
        "its reference is Alex-MP, its default matcher lets species disorder (2 of 2,048 verdicts differ), its RMSD "
        "counts what does not match as 0.5; its SMACT is not pinned, smact14 is the nearest that still runs",
        validity=ValidityRules(OxidationStates.SMACT14, max_combinations=None, max_number=118, needs_fingerprint=False),
        likeness=LikenessRules(known=tuple(Split)),
        stability=StabilityRules(stable_below=0.1),
    ),
    Recipe(
        "lemat",
        "as LeMat-GenBench: valid crystals as submitted, matcher with ltol 0.1, metastable without stable, unique "
        "within each class, novel against all splits",
        "github.com/LeMaterial/lemat-genbench, sun_metric; material-hasher",
        "its reference is LeMat-Bulk, its energies are the mean of three potentials with a hull each, its validity "
        "asks for charges by another table and plausible distances",
        validity=ValidityRules(OxidationStates.SMACT14, max_number=118, needs_fingerprint=False),
        likeness=LikenessRules(Tolerances(0.1, 0.3, 5.0), Geometry.SAMPLED, tuple(Split)),
        stability=StabilityRules(disjoint=True, energies=Geometry.SAMPLED, unique_among=Among.CLASS),
        only_valid=True,
    ),
    Recipe(
        "crystal_text_llm",
        "as crystal-text-llm: rates over what could be parsed, coverage of valid crystals only, precision over those "
        "with a fingerprint",
        "Gruver et al. 2024, arXiv:2402.04379; github.com/facebookresearch/crystal-text-llm, basic_eval.py",
        "its SMACT is between 2.5 and 2.6, its novelty a distance of fingerprints, its energies M3GNet's",
        validity=ValidityRules(
            OxidationStates.SMACT_2_5,
            max_combinations=None,
            max_number=118,
            composition_needs_geometry=False,
            rates_of=Denominator.PARSED,
        ),
        coverage=CoverageRules(Scale.CDVAE_CONSTANTS, Denominator.FINGERPRINTED, only_valid=True),
        distributions=DistributionRules(fewer=False),
    ),
)

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ALL})


def choose_recipe(
    name: str = DEFAULT, *, stable_below: float | None = None, metastable_below: float | None = None
) -> Recipe:
    """Returns a named recipe, thresholds replaced where given; its label then says so. Raises ValueError on a name."""
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    given = {"stable_below": stable_below, "metastable_below": metastable_below}
    other: dict[str, Any] = {
        key: value for key, value in given.items() if value not in (None, getattr(recipe.stability, key))
    }
    changed = tuple(f"{key} = {value:g}" for key, value in other.items())
    return replace(recipe, stability=replace(recipe.stability, **other), changed=changed) if other else recipe


def describe_recipes() -> str:
    """Returns the reference page of all recipes in Markdown, as `docs/reference/recipes.md` holds it."""
    lines = [
        "# Recipes",
        "",
        "Written by `make docs` from `src/xtalgen/metrics/protocols.py`; edit there. Choose one with",
        "`evaluate.recipe`, or `--recipe` of xtalgen score. A choice that is not that of `xtalgen` is **bold**.",
        "[What the choices mean](../concepts/evaluation.md).",
        "",
    ]
    flat = {name: _flat(recipe) for name, recipe in RECIPES.items()}
    lines += ["| choice | " + " | ".join(f"`{name}`" for name in flat) + " |", "|---" * (len(flat) + 1) + "|"]
    for key, usual in flat[DEFAULT].items():
        cells = [choices[key] if choices[key] == usual else f"**{choices[key]}**" for choices in flat.values()]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    for recipe in RECIPES.values():
        lines += ["", f"**`{recipe.name}`**: {recipe.about}. Source: {recipe.source}."]
        lines += [f"Not followed: {recipe.not_followed}."] if recipe.not_followed else []
    return "\n".join(lines) + "\n"


def _flat(recipe: Recipe) -> dict[str, str]:
    found: dict[str, str] = {}
    for group in ("validity", "coverage", "distributions", "prediction", "likeness", "stability"):
        rules = getattr(recipe, group)
        found |= {f"`{group}.{item.name}`": _written(getattr(rules, item.name)) for item in fields(rules)}
    return found | {"`only_valid`": _written(recipe.only_valid)}


def _written(value: Any) -> str:
    if isinstance(value, Tolerances):
        return f"ltol {value.ltol:g}, stol {value.stol:g}, angle {value.angle_tol:g}°"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
