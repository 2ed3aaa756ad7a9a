"""Tables of scores: columns, formatting of values, bold marks and footnotes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation, flatten
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.metrics.statistics.significance import find_lead
from xtalgen.report.marks import best_rows, decimals, legend, marks

NONE = "\N{EN DASH}"  # in place of a missing value
ARROWS = {"higher": "↑", "lower": "↓"}
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    head: replaces the registry's label; threshold: key of the recipe's bound; optional: omitted where no row has a
    value.
    """

    metric: str
    head: str = ""
    threshold: str = ""
    optional: bool = False

    @property
    def label(self) -> str:
        """Returns the head without unit and arrow."""
        return self.head or METRICS[self.metric].label


@dataclass(frozen=True)
class Fact:
    """A column of facts about a row, with no best. first: beside the name, else behind the scores."""

    head: str
    show: Callable[[Evaluation], str]
    first: bool = False


# The column order of the reference tables (de novo generation, crystal structure prediction).
DE_NOVO = (
    Column("struct_valid", "Validity: Structural"),
    Column("comp_valid", "Validity: Composition"),
    Column("cov_recall", "Coverage: Recall"),
    Column("cov_precision", "Coverage: Precision"),
    Column("wdist_density", "Property Distribution: W(density)"),
    Column("wdist_num_elems", "Property Distribution: W(# elements)"),
)
PREDICTION = (
    Column("match_rate"),
    Column("rms_dist"),
    Column("match_rate_all"),
    Column("rms_dist_all"),
    Column("match_rate_best", optional=True),
    Column("rms_dist_best", optional=True),
    Column("match_rate_best_all", optional=True),
    Column("rms_dist_best_all", optional=True),
    Column("metre"),
    Column("crmse"),
)
STABILITY = (
    Column("unique_sampled"),
    Column("unique"),
    Column("novel"),
    Column("framework_novel"),
    Column("unique_novel"),
    Column("stable", threshold="stable_below"),
    Column("metastable", threshold="metastable_below"),
    Column("sun", threshold="stable_below"),
    Column("msun", threshold="metastable_below"),
    Column("converged"),
    Column("rmsd"),
    Column("e_above_hull_median"),
)
CONDITIONAL = (
    Column("struct_valid"),
    Column("comp_valid"),
    Column("formula_matched", optional=True),
    Column("n_atoms_matched", optional=True),
    Column("spg_num_matched", optional=True),
    Column("e_form_per_atom_deviation", optional=True),
    Column("e_above_hull_deviation", optional=True),
)
INFILLING = (Column("top_1"), Column("top_3"), Column("top_5"), Column("top_10"))
SYMMETRY = (Column("p1"), Column("n_space_groups"), Column("tvd_space_group"))


def score_block(group: Sequence[Evaluation], columns: Sequence[Column], facts: Sequence[Fact] = ()) -> list[str]:
    """Returns the lines of a table of scored rows, followed by its footnotes and the tests of its leads."""
    notes: dict[str, int] = {}
    columns, facts = shown(group, columns), (*origins(group), *facts)
    cells = scores(group, columns, notes=notes)
    first, last = ([fact for fact in facts if fact.first is first] for first in (True, False))
    head = ["Method", *(fact.head for fact in first), *heads(group, columns), "n", *(fact.head for fact in last)]
    body = [
        [escape(row.run), *told(row, first), *line, f"{row.n:,}", *told(row, last)]
        for row, line in zip(group, cells, strict=True)
    ]
    footnotes = [f"{str(number).translate(SUPERSCRIPT)} {escape(reason)}  " for reason, number in notes.items()]
    below = [
        [explained + "."] if (explained := explain_marks(group, columns)) else [],
        footnotes,
        describe_leads(group, columns),
    ]
    return [*align([head, *body]), *(line for lines in below if lines for line in ("", *lines))]


def told(row: Evaluation, facts: Sequence[Fact]) -> list[str]:
    """Returns the cells of a row's facts."""
    return [escape(fact.show(row)) for fact in facts]


def origins(group: Sequence[Evaluation]) -> tuple[Fact, ...]:
    """Returns the column that says where the crystals of each row come from; none where all are made here."""
    made = {"trained here", "sampled here"}
    return () if {row.origin for row in group} <= made else (Fact("Origin", lambda row: row.origin, first=True),)


def shown(group: Sequence[Evaluation], columns: Sequence[Column]) -> list[Column]:
    """Returns the columns without optional ones for which no row has a value."""
    return [
        column
        for column in columns
        if not column.optional or any(row.value(column.metric).value is not None for row in group)
    ]


def describe_leads(group: Sequence[Evaluation], columns: Sequence[Column]) -> list[str]:
    """Returns one line on leads within noise and one on the others; nothing for fewer than two rows."""
    found = [(column, lead) for column in columns if (lead := find_lead(group, column.metric))]
    lines = []
    for noise, title in ((True, "**Lead within noise**"), (False, "Lead beyond noise")):
        named = [
            f"{column.label}, {escape(group[lead.best].label)} over {escape(group[lead.next].label)}, "
            f"{_p_value(lead.comparison.p)} ({lead.comparison.test})"
            for column, lead in found
            if lead.comparison.noise is noise
        ]
        lines += [f"{title}: {'; '.join(named)}.  "] if named else []
    return lines


def _p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def heads(group: Sequence[Evaluation], columns: Sequence[Column]) -> list[str]:
    """Returns the heads of the columns: label, threshold used by these rows (if any), unit and better direction."""
    texts = []
    for column in columns:
        metric = METRICS[column.metric]
        unit = "%" if metric.percent else metric.unit if metric.unit not in column.label.lower() else ""
        bound = f", {_bound(group, column)} eV/atom" if column.threshold and group else ""
        texts.append(f"{column.label}{bound}{f' ({unit})' if unit else ''} {ARROWS[metric.better]}")
    return texts


def scores(
    group: Sequence[Evaluation], columns: Sequence[Column], *, plain: bool = False, notes: dict[str, int] | None = None
) -> list[list[str]]:
    """Returns the cells of the table, one list per row, with their marks; the best are bold.

    plain: neither bold nor intervals, and a place for the mark behind each value. notes: collects the reasons of
    missing values and their numbers.
    """
    notes = {} if notes is None else notes
    by_column = []
    for column in columns:
        values = [row.value(column.metric) for row in group]
        digits, scale = decimals(column.metric, values), 100.0 if METRICS[column.metric].percent else 1.0
        found = marks(group, column.metric)
        best = best_rows(column.metric, values, digits) if any(found) else set()
        cells = []
        for index, (row, value, mark) in enumerate(zip(group, values, found, strict=True)):
            if value.value is None:
                number = notes.setdefault(value.reason or "no value", len(notes) + 1)
                cells.append(f"{NONE} " if plain else NONE + str(number).translate(SUPERSCRIPT))
            elif plain:
                cells.append(_number(value.value * scale, digits) + (mark or " "))
            else:
                text = _with_interval(value, scale, digits)
                count = f" (n = {value.n:,})" if value.n is not None and value.n != row.n else ""
                cells.append((f"**{text}**" if index in best else text) + f" {mark}".rstrip() + count)
        by_column.append(cells)
    return [list(line) for line in zip(*by_column, strict=True)]


def explain_marks(group: Sequence[Evaluation], columns: Sequence[Column]) -> str:
    """Returns the legend of the marks in a table, in one line; empty where nothing is marked."""
    return legend(mark for column in columns for mark in marks(group, column.metric))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table whose first row is the head, padded so that the source is readable too."""
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def escape(text: str) -> str:
    """Returns text that cannot break a table's cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _thresholds(group: Sequence[Evaluation], key: str) -> str:
    found = dict.fromkeys(
        value for row in group for name, value in flatten(row.recipe).items() if name.split(".")[-1] == key
    )
    return " or ".join(f"{float(value):g}" for value in found) or "threshold"


def _bound(group: Sequence[Evaluation], column: Column) -> str:
    disjoint = {flatten(row.recipe).get("stability.disjoint") for row in group} == {"true"}
    below = f"{_thresholds(group, 'stable_below')} < " if disjoint and column.threshold == "metastable_below" else ""
    return f"{below}E ≤ {_thresholds(group, column.threshold)}"


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _with_interval(value: Estimate, scale: float, digits: int) -> str:
    assert value.value is not None
    text = _number(value.value * scale, digits)
    if value.low is None or value.high is None:
        return text
    return f"{text} [{_number(value.low * scale, digits)}, {_number(value.high * scale, digits)}]"


def _magnitude(value: Any) -> str:
    if not isinstance(value, int | float):
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def _duration(value: Any) -> str:
    if not isinstance(value, int | float):
        return NONE
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s"


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _chosen(row: Evaluation, stage: str) -> str:
    return _plain((row.recipe.get(stage) or {}).get("potential"))


def _train_hours(row: Evaluation) -> str:
    cores, gpus = row.cost.get("train_core_hours"), row.cost.get("train_gpu_hours")
    return f"{cores:.3g}" if cores is not None else NONE if gpus is None else f"{gpus:.3g} GPU-hours"


COST: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("parameters", "Parameters", _magnitude),
    ("train_seconds", "Training time", _duration),
    ("train_device", "Trained on", _plain),
    ("sample_seconds_per_1000", "Sampling (s per 1,000)", _plain),
    ("network_evaluations", "Network evaluations per crystal", _plain),
    ("device", "Sampled on", _plain),
)
# What stability rests on, and what a row took.
STABILITY_FACTS = (
    Fact("Potential", lambda row: _chosen(row, "relaxation")),
    Fact("Hull (reference crystals)", lambda row: _plain(row.data.get("n_hull"))),
    Fact("Training (core-hours)", _train_hours),
    Fact("Sampling (s per 1,000)", lambda row: _plain(row.cost.get("sample_seconds_per_1000"))),
)
