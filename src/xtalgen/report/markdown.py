"""The page of tables in Markdown, and its compact form for a terminal.

Heads, units, directions and definitions come from the registry of metrics; this module only places them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation, flatten
from xtalgen.metrics.tasks import GENERATION
from xtalgen.report.long_csv import recipe_hash
from xtalgen.report.published import Published, published_block
from xtalgen.report.released import origin_notes, released_block, released_lines
from xtalgen.report.score_table import (
    CONDITIONAL,
    COST,
    DE_NOVO,
    INFILLING,
    NONE,
    PREDICTION,
    STABILITY,
    STABILITY_FACTS,
    SYMMETRY,
    Column,
    align,
    escape,
    explain_marks,
    heads,
    origins,
    score_block,
    scores,
    shown,
    told,
)

# The tables of scores: title, tasks, columns.
TABLES = (
    ("De Novo Generation", GENERATION, DE_NOVO),
    ("Crystal Structure Prediction", ("csp",), PREDICTION),
    ("Stability", GENERATION, STABILITY),
    ("Symmetry", GENERATION, SYMMETRY),
    ("Conditional Generation", ("conditional",), CONDITIONAL),
    ("Infilling", ("infilling",), INFILLING),
)
# How many of them a terminal shows; the page has all.
IN_TERMINAL = 3
# The values that the page begins with.
SUMMARY = (
    ("Generated crystals", GENERATION, (*DE_NOVO[:2], *(c for c in STABILITY if c.metric in {"novel", "sun", "msun"}))),
    ("Predicted crystals", ("csp",), (PREDICTION[0], PREDICTION[2], PREDICTION[3])),
)
# Facts beside the scores of a table, by its title.
FACTS = {"Stability": STABILITY_FACTS}

INTRODUCTION = f"""\
# Results

Every value stands with its 95 % interval, as `value [low, high]`. A rate has the number of crystals asked for, `n`, as
its denominator, failures included; where another number of crystals stands behind a value it follows as `(n = …)`.
**Bold**: best of the rows scored here in that table, unless all are equal. A line below each table explains its marks;
the next ones name the test. `{NONE}`: no value; the footnote says why. *Italic*: published by others, not run here.
Rows share a table when they share data set and recipe. Columns are [defined below](#definitions);
[the recipe](#recipe) of every number follows the tables.
"""


def markdown(rows: Sequence[Evaluation], others: Sequence[Published] = ()) -> str:
    """Returns the page of tables."""
    sections = [
        _summary(rows),
        *(section for table in TABLES for section in _sections(rows, others, *table)),
        released_block(rows),
        _cost(rows, others),
        _counts("Funnel", "Crystals left after each step, and their share of those asked for.", rows, _funnel),
        _counts("Failures", "Crystals of each failure class; they stay in every denominator.", rows, _failures),
        _recipe(rows),
        _definitions({row.task for row in rows}),
    ]
    return "\n".join([INTRODUCTION, *(section for section in sections if section)])


def compact(rows: Sequence[Evaluation]) -> str:
    """Returns the seed's two tables and that of stability without intervals, for a terminal, with their legends.

    Where there is nothing to show in them, it returns the others.
    """
    parts = [part for table in TABLES[:IN_TERMINAL] for part in _compact_parts(rows, *table)]
    parts = parts or [part for table in TABLES for part in _compact_parts(rows, *table)]
    return "\n\n".join([*parts, *released_lines(rows)]) + "\n"


def _compact_parts(
    rows: Sequence[Evaluation], title: str, tasks: Sequence[str], every: Sequence[Column]
) -> Iterator[str]:
    for name, group in _groups(rows, tasks):
        if not _has(group, every):
            continue
        columns = shown(group, every)
        cells = scores(group, columns, plain=True)
        first, last = origins(group), FACTS.get(title, ())
        names = [text.replace("Property Distribution: ", "") for text in heads(group, columns)]
        head = ["", *(fact.head for fact in first), *names, "n", *(fact.head for fact in last)]
        body = [
            [row.run, *padded(told(row, first)), *line, *padded([f"{row.n:,}", *told(row, last)])]
            for row, line in zip(group, cells, strict=True)
        ]
        # With many columns one line per metric is easier to read than one line per set.
        turned = [list(line) for line in zip(head, *body, strict=True)]
        widths = [max(map(len, column)) for column in zip(*turned, strict=True)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in turned
        ]
        legend = explain_marks(group, columns)
        yield "\n".join([f"{title.capitalize()} on {name.replace('`', '')}", *lines, *([legend] if legend else [])])


def padded(cells: Sequence[str]) -> list[str]:
    """Returns cells with room where scores have their mark."""
    return [f"{cell} " for cell in cells]


def _summary(rows: Sequence[Evaluation]) -> str:
    """Returns what one reads first: the leading values of every set without intervals, and where the rest stands."""
    lines = ["## Summary", ""]
    for title, tasks, every in SUMMARY:
        for name, group in _groups(rows, tasks):
            columns = [column for column in every if any(row.value(column.metric).value is not None for row in group)]
            if not columns:
                continue
            cells = scores(group, columns, plain=True)
            first = origins(group)
            head = ["Method", *(fact.head for fact in first), *heads(group, columns), "n"]
            body = [
                [escape(row.run), *told(row, first), *map(str.strip, line), f"{row.n:,}"]
                for row, line in zip(group, cells, strict=True)
            ]
            legend = explain_marks(group, columns)
            lines += [f"{title} on {name}:", "", *align([head, *body]), "", *([f"{legend}.", ""] if legend else [])]
    return "\n".join(lines)


def _groups(rows: Sequence[Evaluation], tasks: Sequence[str]) -> Iterator[tuple[str, list[Evaluation]]]:
    """Yields the heading and rows of each data set and recipe; values are comparable only within such a group."""
    chosen = [row for row in rows if row.task in tasks]
    for dataset, recipe in dict.fromkeys((row.dataset, row.recipe_name) for row in chosen):
        name = f"`{escape(dataset)}`" + (f", recipe `{escape(recipe)}`" if recipe else "")
        yield name, [row for row in chosen if (row.dataset, row.recipe_name) == (dataset, recipe)]


def _has(group: Sequence[Evaluation], columns: Sequence[Column]) -> bool:
    """Whether any row has an entry for any of the columns, be it a value or a reason."""
    return any(column.metric in row.metrics for row in group for column in columns)


def _sections(
    rows: Sequence[Evaluation],
    others: Sequence[Published],
    title: str,
    tasks: Sequence[str],
    columns: Sequence[Column],
) -> list[str]:
    sections = []
    quoted: set[str] = set()  # data sets whose published rows are already printed below another recipe
    for name, group in _groups(rows, tasks):
        if not _has(group, columns):
            continue
        dataset = group[0].dataset
        wanted = [row for row in others if row.dataset == dataset and row.task in tasks and dataset not in quoted]
        quoted.add(dataset)
        notes = _notes(group, beside_published=bool(wanted))
        lines = [f"## {title} on {name}", "", *notes, *score_block(group, columns, FACTS.get(title, ())), ""]
        sections.append("\n".join([*lines, *published_block(wanted, columns)]))
    return sections


def _notes(group: Sequence[Evaluation], *, beside_published: bool) -> list[str]:
    """Returns the notes on comparing rows: caveats of the data and differences between recipes."""
    notes: dict[str, list[str]] = {}
    for row in group:
        if row.recipe.get("about"):
            followed = f", but {row.recipe['not_followed']}" if row.recipe.get("not_followed") else ""
            text = escape(f"{row.recipe['about']}{followed}")
            notes.setdefault(f"**Recipe** `{escape(row.recipe_name)}`: {text}.", []).append(row.label)
        for caveat in row.data.get("caveats") or []:
            notes.setdefault(f"**Data.** {escape(caveat)}", []).append(row.label)
        if beside_published and row.has_other_splits:
            note = "**Data.** The splits are not exactly the published ones; published values are not on the same data."
            notes.setdefault(note, []).append(row.label)
    lines = [
        f"> {note}" + ("" if len(runs) == len(group) else f" (rows: {', '.join(map(escape, runs))})")
        for note, runs in notes.items()
    ]
    lines += origin_notes(group)
    flat = [flatten(row.recipe) for row in group]
    differing = [
        key
        for key in dict.fromkeys(key for recipe in flat for key in recipe)
        if "seed" not in key and len({recipe.get(key) for recipe in flat}) > 1
    ]
    if differing:
        listed = ", ".join(f"`{key}`" for key in differing[:8]) + (" and more" if len(differing) > 8 else "")
        lines.append(f"> **Recipes differ** between these rows in {listed}; see [the recipe](#recipe).")
    # A bare ">" separates two paragraphs of one block quote.
    return [*"\n>\n".join(lines).split("\n"), ""] if lines else []


def _cost(rows: Sequence[Evaluation], others: Sequence[Published]) -> str:
    body = [[f"`{escape(row.set)}`", *(escape(show(row.cost.get(name))) for name, _, show in COST)] for row in rows]
    head = ["Set", *(label for _, label, _ in COST)]
    note = "Cost of each row on the device named. Times on different devices are not comparable, so nothing is bold."
    lines = ["## Cost", "", note, "", *align([head, *body]), ""]
    quoted = [row for row in others if row.cost]
    if quoted:
        body = [
            [f"*{escape(row.name)}*", *(_italic(show(row.cost.get(name))) for name, _, show in COST)] for row in quoted
        ]
        lines += ["Published, not run here:", "", *align([head, *body]), ""]
        lines += [f"{source}." for source in dict.fromkeys(f"{row.source}; {row.differs}" for row in quoted)] + [""]
    return "\n".join(lines)


def _italic(text: str) -> str:
    return text if text == NONE else f"*{escape(text)}*"


def _funnel(row: Evaluation) -> dict[str, str]:
    first = row.funnel[0][1] if row.funnel else 0
    return {step: f"{count:,}" + (f" ({count / first:.1%})" if first else "") for step, count in row.funnel}


def _failures(row: Evaluation) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in row.failures.items()}


def _counts(title: str, about: str, rows: Sequence[Evaluation], read: Callable[[Evaluation], Mapping[str, str]]) -> str:
    lines = [f"## {title}", "", about, ""]
    any_counts = False
    for tasks in dict.fromkeys(tasks for _, tasks, _ in TABLES):
        for name, group in _groups(rows, tasks):
            counts = [read(row) for row in group]
            names = list(dict.fromkeys(name for found in counts for name in found))
            if not names:
                continue
            any_counts = True
            # A failure class that a set does not list did not occur; a step that it does not list does not apply.
            absent = "0" if title == "Failures" else NONE
            head = [f"On {name}", *(f"`{escape(row.set)}`" for row in group)]
            body = [[escape(name), *(found.get(name, absent) for found in counts)] for name in names]
            lines += [*align([head, *body]), ""]
    if not any_counts:
        return "" if title == "Funnel" else "\n".join([f"## {title}", "", "None.", ""])
    return "\n".join(lines)


def _recipe(rows: Sequence[Evaluation]) -> str:
    flat = [flatten(row.recipe) for row in rows]
    keys = list(dict.fromkeys(key for recipe in flat for key in recipe))
    shared = [key for key in keys if len({recipe.get(key) for recipe in flat}) == 1]
    lines = ["## Recipe", "", "How the numbers were computed. The CSV gives the hash beside each value.", ""]
    if shared:
        head = "All sets" if len(rows) > 1 else f"`{escape(rows[0].set)}`"
        lines += [*align([["Setting", head], *([f"`{key}`", escape(flat[0][key])] for key in shared)]), ""]
    sets = [f"`{escape(row.set)}`" for row in rows]
    body = [[f"`{key}`", *(escape(recipe.get(key, NONE)) for recipe in flat)] for key in keys if key not in shared]
    body.append(["recipe hash", *(f"`{recipe_hash(row.recipe)}`" for row in rows)])
    body += [
        [label, *(escape(_count(row.data.get(key))) for row in rows)]
        for key, label in (
            ("dataset", "data set"),
            ("n_train", "training crystals"),
            ("n_test", "test crystals"),
            ("n_reference", "reference crystals used"),
        )
    ]
    return "\n".join([*lines, *align([["Differs by set", *sets], *body]), ""])


def _count(value: Any) -> str:
    return NONE if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _definitions(asked: set[str]) -> str:
    head = ["Column", "Name in the CSV", "Unit", "Better", "Definition", "Reference"]
    body = []
    for column in dict.fromkeys(column for _, tasks, columns in TABLES if asked & {*tasks} for column in columns):
        metric = METRICS[column.metric]
        unit = "%" if metric.percent else metric.unit or NONE
        body.append([column.label, f"`{metric.name}`", unit, metric.better, metric.definition, metric.reference])
    note = "Thresholds and tables are those of the recipe `xtalgen`; table heads and recipe state those used."
    cells = [[escape(cell) for cell in row] for row in (head, *body)]
    return "\n".join(["## Definitions", "", note, "", *align(cells), ""])
