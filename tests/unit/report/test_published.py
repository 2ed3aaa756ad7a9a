"""The file of published values."""

import pytest

from xtalgen.metrics.registry import METRICS
from xtalgen.report.published import read_published


def test_published_values_are_within_their_range():
    rows = read_published()
    assert {"LLaMA-2", "CDVAE", "FlowMM"} <= {row.name for row in rows}
    for row in rows:
        assert row.source
        assert row.differs
        for name in row.metrics:
            assert 0 <= row.value(name) <= (1 if METRICS[name].percent else 10)


def test_published_file_with_an_unknown_metric_is_refused(tmp_path):
    path = tmp_path / "p.yaml"
    row = "{name: A, dataset: d, task: dng, source: s, metrics: {luck: '1'}}"
    path.write_text(f"sources: {{s: {{source: x, differs: y, checked: true}}}}\nrows: [{row}]\n")
    with pytest.raises(ValueError, match="A: 'luck' is no metric"):
        read_published(path)
