"""Writes the generated pages (`make docs`): configuration, metrics, recipes, data sets, formats, graph of the rules.

With --check nothing is written and a stale page is an error.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from xtalgen.datasets.registry import describe_data_sets
from xtalgen.experiment.released_sets import describe_releases
from xtalgen.io.structure_files import describe_formats
from xtalgen.io.writers.registry import describe_forms
from xtalgen.metrics.protocols import describe_recipes
from xtalgen.metrics.registry import describe_metrics

ROOT = Path(__file__).parents[1]
DATA_SETS = re.compile(r"(<!-- data sets -->\n).*?(<!-- /data sets -->)", re.DOTALL)
RELEASES = re.compile(r"(<!-- released samples -->\n).*?(<!-- /released samples -->)", re.DOTALL)
FORMATS = re.compile(r"(<!-- formats -->\n).*?(<!-- /formats -->)", re.DOTALL)
FORMS = re.compile(r"(<!-- forms -->\n).*?(<!-- /forms -->)", re.DOTALL)
GRAPH = re.compile(r"(<!-- graph -->\n).*?(<!-- /graph -->)", re.DOTALL)


def describe_config(schema: dict[str, Any]) -> str:
    """Returns the page of all configuration keys, from the schema."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from `workflow/schemas/config.schema.yaml`. A key that is not listed here is refused.",
        "",
        "| key | kind | default | meaning |",
        "|---|---|---|---|",
        *_rows(schema, ""),
    ]
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any], prefix: str) -> list[str]:
    rows = []
    for key, inner in schema.get("properties", {}).items():
        rows += _row(inner, f"{prefix}{key}")
    free = schema.get("additionalProperties")
    if isinstance(free, dict):
        rows += _row({"description": "One entry per name.", **free}, f"{prefix}NAME")
    return rows


def _row(schema: dict[str, Any], key: str) -> list[str]:
    kind = schema.get("type", "one of " + ", ".join(f"`{value}`" for value in schema.get("enum", [])))
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    default = schema.get("default")
    shown = "" if "default" not in schema or default == {} else f"`{'null' if default is None else default}`"
    return [f"| `{key}` | {kind} | {shown} | {schema['description']} |", *_rows(schema, f"{key}.")]


def draw_graph() -> str:
    """Returns the Mermaid graph of the rules of the full experiment, from Snakemake's own, one sorted line per edge."""
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [str(snakemake), "--quiet", "all", "--rulegraph", "mermaid-js", "--", "all"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", done.stdout))
    edges = sorted({f"  {names[a]} --> {names[b]}" for a, b in re.findall(r"(id\d+) --> (id\d+)", done.stdout)})
    return "\n".join(["```mermaid", "flowchart LR", *edges, "```", ""])


def build() -> dict[Path, str]:
    """Returns the generated pages: path → text."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    pipeline = (ROOT / "docs/concepts/pipeline.md").read_text()
    data = (ROOT / "docs/reference/data.md").read_text()
    data = DATA_SETS.sub(lambda found: found[1] + describe_data_sets() + found[2], data)
    data = RELEASES.sub(lambda found: found[1] + describe_releases() + found[2], data)
    own = (ROOT / "docs/guides/own-structures.md").read_text()
    own = FORMATS.sub(lambda found: found[1] + describe_formats() + found[2], own)
    own = FORMS.sub(lambda found: found[1] + describe_forms() + found[2], own)
    graph = draw_graph()
    return {
        ROOT / "docs/concepts/pipeline.md": GRAPH.sub(lambda found: found[1] + graph + found[2], pipeline),
        ROOT / "docs/guides/own-structures.md": own,
        ROOT / "docs/reference/config.md": describe_config(schema),
        ROOT / "docs/reference/data.md": data,
        ROOT / "docs/reference/metrics.md": describe_metrics(),
        ROOT / "docs/reference/recipes.md": describe_recipes(),
    }


def main() -> int:
    """Writes the pages, or with --check names those that are stale."""
    pages = build()
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
        return bool(stale)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
