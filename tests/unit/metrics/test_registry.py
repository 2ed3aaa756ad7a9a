import dataclasses

import pytest

from xtalgen.metrics.registry import METRICS, describe_metrics, for_task
from xtalgen.metrics.tasks import EVERY_TASK


def test_page_is_current(root):
    page = root / "docs" / "reference" / "metrics.md"
    assert page.read_text() == describe_metrics(), "docs/reference/metrics.md is stale: run `make docs`"


def test_entries_are_complete():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.better in ("higher", "lower")
        assert metric.definition.endswith(".")
        assert metric.reference
        assert set(metric.tasks) <= set(EVERY_TASK)
        assert not (metric.percent and metric.unit)
        assert "|" not in metric.definition
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


def test_registry_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        METRICS["sun"].label = "other"
    with pytest.raises(TypeError):
        METRICS["sun"] = METRICS["msun"]


def test_tasks():
    assert [metric.name for metric in for_task("own")] == [metric.name for metric in for_task("dng")]
    assert "match_rate" in {metric.name for metric in for_task("csp")}
    assert "match_rate" not in {metric.name for metric in for_task("dng")}
    with pytest.raises(ValueError, match="dng, own, csp"):
        for_task("dgn")
