"""What a stage imports decides when it reruns: geometry stages must not depend on metrics' labels or on models."""

from pathlib import Path

import pytest

from xtalgen.runtime import provenance

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
STAGES = ("relax", "hull", "second_potential", "bonds", "wyckoff", "fingerprints", "embeddings", "merge", "distil")


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, transitively: what `provenance.fingerprint` covers."""
    found, pending = set(), [path.resolve()]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += provenance._parse(path)[1]
    inside = (path for path in found if path.is_relative_to(provenance.PACKAGE) and path.name != "__init__.py")
    return {str(path.relative_to(provenance.PACKAGE)) for path in inside}


@pytest.mark.parametrize("stage", STAGES)
def test_no_label_of_a_metric_and_no_model_can_make_a_geometry_stage_rerun(stage):
    modules = imported(SCRIPTS / f"{stage}.py")
    assert f"stages/{stage}.py" in modules
    assert not {"metrics/registry.py", "metrics/protocols.py"} & modules
    assert not [name for name in modules if name.split("/")[0] in ("models", "training", "explorer", "report")]


def test_a_potential_cannot_make_a_stage_without_potentials_rerun():
    for stage in ("bonds", "wyckoff", "fingerprints", "merge"):
        assert not [name for name in imported(SCRIPTS / f"{stage}.py") if name.startswith("potentials")]
