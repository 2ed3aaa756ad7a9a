"""Only what an edit can change is run again."""

import os
import shutil

import pytest

from checkout import Checkout

CONFIG = """
seed: 0
shards: 2
datasets: {aflow_20: {}, mine: {source: "my dâta"}}
runs:
  one: {model: flowmm, dataset: aflow_20, sweep: {slope: [0, 5]}}
  two: {model: other, dataset: aflow_20, tasks: [dng]}
  text: {model: crystal_text_llm, dataset: mine, tasks: [conditional]}
  given: {model: diffcsp, dataset: mine, tasks: [csp], checkpoint: {csp: "the author's.safetensors"}}
sample: {n: 10}
relax: {potential: "./a mâce's.model", hull: mp2020, phase_diagram: "phase diagram.json"}
tables: {sets: [own]}
"""
GIVEN = ["the author's.safetensors", "a mâce's.model", "phase diagram.json", "structures/own.cif"]
GIVEN += [f"my dâta/{split}.csv" for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """Returns a checkout in a folder of an unusual name, its experiment run; tests leave it as they find it."""
    folder = tmp_path_factory.mktemp("finished") / "it's a tést folder"
    folder.mkdir()
    checkout = Checkout(root, folder)
    shutil.copy(checkout.folder / "src/xtalgen/models/flowmm.py", checkout.folder / "src/xtalgen/models/other.py")
    (checkout.folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "my dâta").mkdir()
    for name in GIVEN:
        (folder / name).write_text(name, encoding="utf-8")
    checkout.run("all")
    return checkout


def replaced(path):
    """Puts another file, dated long ago, in the place of one: what cp -p, rsync -a and tar x do."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes() + b"more")
    os.utime(other, (1, 1))
    other.replace(path)


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
        assert planned["relax"] == 6
        assert planned["evaluate"] == 3
        assert not {"train", "sample", "data", "fingerprints"} & set(planned)


@pytest.mark.slow
def test_a_metrics_label_reruns_what_prints_it(finished):
    with finished.changing("src/xtalgen/metrics/registry.py"):
        finished.edit("src/xtalgen/metrics/registry.py", '"S.U.N."', '"SUN"')
        assert finished.planned("all") == {"tables": 1, "explorer": 1, "sweep": 1, "conditional": 1, "all": 1}


@pytest.mark.slow
def test_a_prompts_wording_reruns_models_that_take_prompts(finished):
    with finished.changing("src/xtalgen/models/language/prompts.py"):
        finished.edit("src/xtalgen/models/language/prompts.py", "A crystalline solid.", "A crystal.")
        planned = finished.planned("all")
        assert planned == {
            "train": 1,
            "curves": 1,
            "sample": 2,
            "merge": 1,
            "evaluate": 1,
            "conditional": 1,
            "tables": 1,
            "all": 1,
        }


@pytest.mark.slow
def test_a_threshold_reruns_evaluation_and_what_follows(finished):
    with finished.changing("config.yaml"):
        finished.edit("config.yaml", "sample: {n: 10}", "sample: {n: 10}\nevaluate: {stable_below: 0.05}")
        planned = finished.planned("all")
        follows = {"sweep", "tables", "explorer", "figures", "conditional", "candidates", "embeddings", "all"}
        assert set(planned) == {"evaluate", "sweep_evaluate"} | follows


@pytest.mark.slow
def test_other_files_under_older_dates_rerun_what_reads_them(finished):
    for name in ("the author's.safetensors", "phase diagram.json", "structures/own.cif"):
        replaced(finished.folder / name)
    planned = finished.planned("all")
    assert (planned["sample"], planned["hull"], planned["import_structures"]) == (2, 3, 1)
    assert planned["relax"] == 2, "the own set's, as its crystals are read anew"
    assert not {"data", "train"} & set(planned)
    finished.run("all")
    for name in ("my dâta/val.csv", "a mâce's.model"):
        replaced(finished.folder / name)
    planned = finished.planned("all")
    assert planned["data"] == 1, "one split"
    assert planned["relax"] == 6, "of all sets"
    finished.run("all")
    assert finished.planned("all") == {}


@pytest.mark.slow
def test_a_failed_job_leaves_the_earlier_tables(finished):
    before = (finished.folder / "results/tables.md").read_bytes()
    with finished.changing("bin/python"), finished.changing("config.yaml"):
        finished.edit("config.yaml", "sets: [own]", "sets: [own], published: false")
        finished.edit("bin/python", "script=$1", "case $1 in */tables.py) exit 1;; esac; script=$1")
        assert "Restored" in finished.snakemake("--cores", "1", "results/tables.md", fails=True)
    assert (finished.folder / "results/tables.md").read_bytes() == before
    finished.run("results/tables.md")


@pytest.mark.slow
def test_settings_rerun_what_they_set(finished):
    with finished.changing("config.yaml"):
        finished.edit("config.yaml", "relax: {", "relax: {fmax: 0.1, ")
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
