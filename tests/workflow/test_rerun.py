"""Only what an edit can change is run again."""

import shutil

import pytest

CONFIG = """
seed: 0
shards: 2
datasets: {aflow_20: {}}
runs:
  one: {model: flowmm, dataset: aflow_20}
  two: {model: other, dataset: aflow_20, tasks: [dng]}
sample: {n: 10}
"""
SCORED = {"evaluate", "tables", "all", "candidates"}


@pytest.fixture
def finished(checkout):
    """Returns a checkout whose experiment of two runs has been run."""
    shutil.copy(checkout.folder / "src/xtalgen/models/flowmm.py", checkout.folder / "src/xtalgen/models/other.py")
    (checkout.folder / "config.yaml").write_text(CONFIG)
    checkout.run("all")
    return checkout


@pytest.mark.slow
def test_the_rerun_table(finished):
    """Walks through the edits one after another; each is undone by finishing the run again."""
    assert finished.planned("all") == {}

    for path in finished.folder.rglob("*"):
        if ".snakemake" not in path.parts and "results" not in path.parts:
            path.touch()
    assert finished.planned("all") == {}, "touching every file of the checkout reran something"

    finished.append("src/xtalgen/relax.py", "# a comment")
    assert finished.planned("all") == {}, "a comment reran something"

    finished.append("src/xtalgen/models/other.py", "CHANGED = 1")
    planned = finished.planned("all")
    assert planned["train"] == 1
    assert planned["sample"] == 2
    assert planned["evaluate"] == 1
    assert planned["tables"] == 1
    assert "data" not in planned
    finished.run("all")

    finished.append("src/xtalgen/relax.py", "CHANGED = 1")
    planned = finished.planned("all")
    assert planned["relax"] == 4
    assert planned["evaluate"] == 2
    assert not {"train", "sample", "data", "fingerprints"} & set(planned)
    finished.run("all")

    finished.edit("config.yaml", "sample: {n: 10}", "sample: {n: 10}\nrelax: {fmax: 0.1}")
    assert "relax" in finished.planned("all")
    assert not {"train", "sample", "data"} & set(finished.planned("all"))
    finished.run("all")

    finished.edit("config.yaml", "two: {model: other,", "two: {train: {epochs: 3}, model: other,")
    planned = finished.planned("all")
    assert planned["train"] == 1
    assert planned["evaluate"] == 1
    finished.run("all")

    finished.edit(
        "config.yaml", "sample: {n: 10}", "  three: {model: flowmm, dataset: aflow_20, tasks: [dng]}\nsample: {n: 10}"
    )
    planned = finished.planned("all")
    assert planned["train"] == 1
    assert planned["evaluate"] == 1
    assert planned["tables"] == 1


@pytest.mark.slow
def test_a_copy_without_snakemakes_own_records_reruns_nothing(finished):
    shutil.rmtree(finished.folder / ".snakemake")
    assert finished.planned("all") == {}
