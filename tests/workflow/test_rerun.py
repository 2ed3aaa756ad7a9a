"""Only what an edit can change is run again."""

import shutil

import pytest

from checkout import Checkout

CONFIG = """
seed: 0
shards: 2
datasets: {aflow_20: {}}
runs:
  one: {model: flowmm, dataset: aflow_20}
  two: {model: other, dataset: aflow_20, tasks: [dng]}
sample: {n: 10}
"""


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """Returns a checkout whose experiment of two runs has been run; tests leave it as they find it."""
    checkout = Checkout(root, tmp_path_factory.mktemp("finished"))
    shutil.copy(checkout.folder / "src/xtalgen/models/flowmm.py", checkout.folder / "src/xtalgen/models/other.py")
    (checkout.folder / "config.yaml").write_text(CONFIG)
    checkout.run("all")
    return checkout


@pytest.mark.slow
def test_touching_every_file_or_commenting_reruns_nothing(finished):
    for path in finished.folder.rglob("*"):
        if ".snakemake" not in path.parts and "results" not in path.parts:
            path.touch()
    with finished.changing("src/xtalgen/stages/relax.py"):
        finished.append("src/xtalgen/stages/relax.py", "# a comment")
        assert finished.planned("all") == {}


@pytest.mark.slow
def test_a_models_file_reruns_its_own_runs(finished):
    with finished.changing("src/xtalgen/models/other.py"):
        finished.append("src/xtalgen/models/other.py", "CHANGED = 1")
        planned = finished.planned("all")
        assert planned["train"] == 1
        assert planned["sample"] == 2
        assert planned["evaluate"] == 1
        assert planned["tables"] == 1
        assert "data" not in planned


@pytest.mark.slow
def test_a_stages_file_reruns_it_and_what_follows(finished):
    with finished.changing("src/xtalgen/stages/relax.py"):
        finished.append("src/xtalgen/stages/relax.py", "CHANGED = 1")
        planned = finished.planned("all")
        assert planned["relax"] == 4
        assert planned["evaluate"] == 2
        assert not {"train", "sample", "data", "fingerprints"} & set(planned)


@pytest.mark.slow
def test_settings_rerun_what_they_set(finished):
    with finished.changing("config.yaml"):
        finished.edit("config.yaml", "sample: {n: 10}", "sample: {n: 10}\nrelax: {fmax: 0.1}")
        planned = finished.planned("all")
        assert "relax" in planned
        assert not {"train", "sample", "data"} & set(planned)

    with finished.changing("config.yaml"):
        finished.edit("config.yaml", "two: {model: other,", "two: {train: {epochs: 3}, model: other,")
        planned = finished.planned("all")
        assert planned["train"] == 1
        assert planned["evaluate"] == 1


@pytest.mark.slow
def test_a_new_run_reruns_no_other(finished):
    third = "  three: {model: flowmm, dataset: aflow_20, tasks: [dng]}\n"
    with finished.changing("config.yaml"):
        finished.edit("config.yaml", "sample: {n: 10}", f"{third}sample: {{n: 10}}")
        planned = finished.planned("all")
        assert planned["train"] == 1
        assert planned["evaluate"] == 1
        assert planned["tables"] == 1


@pytest.mark.slow
def test_after_the_rerun_there_is_nothing_to_do_nor_in_a_copy_without_snakemakes_own_records(finished):
    """The last test here: it leaves the checkout changed."""
    finished.append("src/xtalgen/stages/relax.py", "CHANGED = 1")
    finished.run("results/tables.md")
    assert finished.planned("results/tables.md") == {}
    shutil.rmtree(finished.folder / ".snakemake")
    assert finished.planned("results/tables.md") == {}
