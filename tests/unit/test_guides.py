"""What the guides in docs/guides tell a contributor to write works as it stands."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from made_sets import crystal
from xtalgen.crystals import Crystal
from xtalgen.datasets import registry as data_sets
from xtalgen.experiment import plan
from xtalgen.explorer import columns
from xtalgen.metrics import registry as metrics
from xtalgen.metrics import tasks
from xtalgen.metrics.statistics.intervals import Bootstrap

PYTHON = re.compile(r"^ *```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(root, name):
    """Returns the Python blocks of a guide."""
    return [textwrap.dedent(text) for text in PYTHON.findall((root / f"docs/guides/{name}.md").read_text())]


def test_entry_for_an_explorer_column_is_a_column(root):
    (entry,) = blocks(root, "add-an-explorer-column")
    column = eval(entry, vars(columns))  # noqa: S307
    assert column.block == column.name == "band_gap"
    assert column.values([crystal(0, "a", band_gap=1.5)]) == [1.5]


def test_entry_and_value_for_a_metric_are_complete(root):
    entry, code = blocks(root, "add-a-metric")
    metric = eval(entry, vars(metrics))  # noqa: S307
    scope = {"Crystal": Crystal, "Sequence": Sequence, "Bootstrap": Bootstrap, "np": np}
    exec(code, scope)  # noqa: S102
    relaxed = [crystal(0, "a"), Crystal("b", "timeout")]
    estimate = scope[metric.name](relaxed).estimate(seed=0, resamples=100)
    assert estimate.n == 1
    assert abs(estimate.value - 5.64**3 / 8) < 2.0
    assert scope[metric.name]([]).estimate(seed=0).reason == "no crystal was relaxed"
    assert metric.tasks == tasks.GENERATION
    assert metric.better == "lower"


def test_entry_for_a_data_set_has_an_address(root):
    (entry,) = blocks(root, "add-a-data-set")
    data_set = eval(entry, vars(data_sets))  # noqa: S307
    assert data_set.address("val").endswith(
        "/txie-93/cdvae/f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/perov_5/val.csv"
    )
    assert not data_set.embedded


def test_plan_knows_the_data_sets_of_the_registry():
    assert set(plan.PUBLISHED_SETS) == set(data_sets.DATA_SETS)


def test_index_names_every_page(root):
    index = (root / "docs/README.md").read_text()
    pages = [
        path
        for folder in ("guides", "concepts", "reference", "models")
        for path in (root / "docs" / folder).glob("*.md")
    ]
    missing = [path.name for path in pages if f"{path.parent.name}/{path.name}" not in index]
    assert not missing, f"docs/README.md lacks {missing}"
