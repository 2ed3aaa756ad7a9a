"""Scores of conditional generation: share of crystals with the requested properties."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal
from xtalgen.metrics.distributions import density
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Bootstrap, estimate_all, missing, rate
from xtalgen.metrics.symmetry import space_groups
from xtalgen.metrics.types import Columns, Flags, Measured, MetricConfig, Scores, count_survivors
from xtalgen.metrics.validity import Validity
from xtalgen.runtime.names import ENERGIES
from xtalgen.structure.attributes import ATTRIBUTES, conditions_of
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.thermodynamics.energy_above_hull import energies_above_hull, reference_phases, relaxed_phases

# Attributes that agree exactly or not at all.
EXACT = ("formula", "n_atoms", "spg_num")
# Attributes compared by their difference, in eV/atom.
KINDS = {"formula": pa.string(), "n_atoms": pa.int64(), "spg_num": pa.int64()}


@dataclass(frozen=True)
class Requests:
    """Crystals made for the attributes of targets; relaxed and hull: None where no energy was asked for.

    targets, relaxed: in the order of the sample.
    """

    sample: CrystalList
    targets: Sequence[Crystal]
    attributes: Sequence[str]
    relaxed: CrystalList | None = None
    hull: CrystalList | None = None


@dataclass(frozen=True)
class Answers:
    """Requested and obtained values by attribute (None: no value), and whether they agree."""

    asked: Sequence[Mapping[str, Any]]
    obtained: Mapping[str, Sequence[Any]]
    met: Mapping[str, Flags]
    validity: Validity


def score_requests(requests: Requests, settings: MetricConfig) -> Scores:
    """Returns every metric of conditional generation.

    A rate counts all crystals for which its attribute was asked, failures included. Formula, number of atoms and space
    group are those of the crystal as sampled, energies those after relaxation; a target that lacks an attribute was not
    asked for it. Raises ValueError on an unknown attribute.
    """
    sample = requests.sample
    asked = [conditions_of(target, requests.attributes) for target in requests.targets]
    validity = settings.recipe.validity.judge(sample)
    obtained = _obtained(requests, settings.workers)
    met = {name: _met(name, asked, requests.targets, obtained) for name in EXACT if name in requests.attributes}
    answers = Answers(asked, obtained, met, validity)
    return Scores(
        _columns(requests, answers),
        estimate_all(_metrics(answers), seed=settings.seed, resamples=settings.resamples),
        _funnel(sample, validity, met),
        Counter(f"sample: {crystal.status}" for crystal in sample if not crystal.ok),
        {"attributes": list(requests.attributes)},
        outcomes=pack_outcomes(
            [target.id for target in requests.targets],
            {metric_of(name): values for name, values in met.items() if all(name in one for one in asked)},
        ),
    )


def metric_of(attribute: str) -> str:
    """Returns the name of the metric of an attribute."""
    return f"{attribute}_matched" if attribute in EXACT else f"{attribute}_deviation"


def _obtained(requests: Requests, workers: int) -> dict[str, list[Any]]:
    """Returns the obtained values by attribute; None if a crystal has no value or it was not computed."""
    rows = [row if fine else None for row, fine in zip(requests.sample, requests.sample.usable, strict=True)]
    found: dict[str, list[Any]] = {
        "formula": [None if row is None else reduced_counts(row.atomic_numbers) for row in rows],
        "n_atoms": [None if row is None else row.n_atoms for row in rows],
        "spg_num": space_groups(requests.sample, workers=workers),
    }
    if requests.relaxed is None or requests.hull is None:
        return found
    phases, references = relaxed_phases(requests.relaxed), reference_phases(requests.hull)
    elements = [phase for phase in references if len(phase.system) == 1]
    for name, competing in (("e_form_per_atom", elements), ("e_above_hull", references)):
        found[name] = [above.value for above in energies_above_hull(phases, competing, workers=workers)]
    return found


def _met(
    name: str, asked: Sequence[Mapping[str, Any]], targets: Sequence[Crystal], obtained: Mapping[str, Sequence[Any]]
) -> Flags:
    wanted = [
        (reduced_counts(target.atomic_numbers) if name == "formula" else one[name]) if name in one else None
        for one, target in zip(asked, targets, strict=True)
    ]
    return np.array([a is not None and a == b for a, b in zip(wanted, obtained[name], strict=True)], dtype=bool)


def _metrics(answers: Answers) -> Measured:
    asked, obtained, validity = answers.asked, answers.obtained, answers.validity
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    metrics: Measured = {name: rate(int(values.sum()), len(asked)) for name, values in flags.items()}
    for name in (*EXACT, *ENERGIES):
        rows = [row for row, one in enumerate(asked) if name in one]
        if not rows:
            metrics[metric_of(name)] = missing("not asked for")
        elif name in EXACT:
            metrics[metric_of(name)] = rate(int(answers.met[name][rows].sum()), len(rows))
        elif name not in obtained:
            metrics[metric_of(name)] = missing("not relaxed")
        else:
            pairs = [(asked[row][name], obtained[name][row]) for row in rows if obtained[name][row] is not None]
            off = np.array([abs(found - wanted) for wanted, found in pairs], dtype=float)
            metrics[metric_of(name)] = Bootstrap(off, np.mean, reason="no crystal has an energy")
    return metrics


def _columns(requests: Requests, answers: Answers) -> Columns:
    obtained = answers.obtained
    columns: Columns = {
        "struct_valid": (pa.bool_(), answers.validity.structure.tolist()),
        "comp_valid": (pa.bool_(), answers.validity.composition.tolist()),
        "asked_density": (pa.float64(), [density(target) for target in requests.targets]),
    }
    for name in (name for name in ATTRIBUTES if name in requests.attributes):
        columns[f"asked_{name}"] = (KINDS.get(name, pa.float64()), [one.get(name) for one in answers.asked])
    columns |= {metric_of(name): (pa.bool_(), values.tolist()) for name, values in answers.met.items()}
    numbers = [name for name in obtained if name != "formula"]
    return columns | {name: (KINDS.get(name, pa.float64()), list(obtained[name])) for name in numbers}


def _funnel(sample: CrystalList, validity: Validity, met: Mapping[str, Flags]) -> list[tuple[str, int]]:
    steps = {"parsed": sample.usable, "valid": validity.both}
    steps |= {f"{name} as asked": values for name, values in met.items()}
    return count_survivors(len(sample), steps)
