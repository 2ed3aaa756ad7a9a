"""What the page of tables says of samples that models' authors released, beside their rows and in a table."""

from collections.abc import Sequence

from xtalgen.metrics.result_file import ORIGINS, Evaluation
from xtalgen.report.score_table import NONE, align, escape, origins


def origin_notes(group: Sequence[Evaluation]) -> list[str]:
    """Returns the legend of the column Origin, and which rows were relaxed before their release; none without it."""
    if not origins(group):
        return []
    found = [name for name in ORIGINS if any(row.origin == name for row in group)]
    notes = [f"> **Origin.** {'; '.join(f'`{name}`: {ORIGINS[name]}' for name in found)}."]
    released = [row for row in group if row.released]
    if not released:
        return notes
    done = [f"{escape(row.run)} with {escape(_relaxed(row))}" for row in released if _relaxed(row) != "none"]
    relaxed = f" Relaxed before their release: {', '.join(done)}." if done else ""
    return [*notes, f"> **Released.** Licences, citations and sources are [below](#released-samples).{relaxed}"]


def released_block(rows: Sequence[Evaluation]) -> str:
    """Returns the section on all released samples; empty where there are none."""
    released = [row for row in rows if row.released]
    if not released:
        return ""
    head = ["Set", "Crystals scored", "In the file", "Relaxed before", "Licence", "Cite", "Published at", "Read from"]
    body = [
        [
            f"`{escape(row.set)}`",
            f"{row.n:,}",
            f"{row.released['n']:,}" if "n" in row.released else NONE,
            escape(_relaxed(row)),
            *(escape(row.released.get(key) or NONE) for key in ("licence", "citation", "address", "file")),
        ]
        for row in released
    ]
    about = "Samples that the authors of models, or others with them, made public; scored here like all other rows."
    return "\n".join(["## Released samples", "", about, "", *align([head, *body]), ""])


def released_lines(rows: Sequence[Evaluation]) -> list[str]:
    """Returns one paragraph for a terminal with what must be said of each released set; none where there are none."""
    lines = []
    for row in rows:
        if row.released:
            done = "as sampled" if _relaxed(row) == "none" else f"relaxed with {_relaxed(row)}"
            facts = f"{row.n:,} crystals, {done}, {row.released.get('licence')}; cite {row.released.get('citation')}"
            lines.append(f"  {row.run}: {facts}")
    return ["\n".join(["Released by others, scored here", *lines])] if lines else []


def _relaxed(row: Evaluation) -> str:
    return str(row.released.get("relaxed", "none"))
