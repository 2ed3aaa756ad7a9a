"""The whole pipeline for real on a few embedded crystals: tables, own structures, reruns, a killed training."""

import json
import shutil
import zipfile

import pytest
import yaml

from xtalgen.crystals import read_crystals, read_table

CONFIG = """
seed: 0
device: cpu
shards: 2
datasets:
  aflow_20: {limit: {train: 24, val: 8, test: 6}}
runs:
  tiny:
    model: flowmm
    dataset: aflow_20
    train: {hidden: 32, layers: 2, frequencies: 4, batch_size: 8, epochs: 4}
    sample: {steps: 5}
sample: {n: 5, chunk: 2}
relax: {potential: chgnet, max_steps: 5, reference_steps: 0, timeout: 60}
evaluate: {max_reference: 4}
tables: {published: true}
"""

# The page and the figures have tests of their own, and `make demo` builds them.
TARGETS = ["results/tables.md", "results/train/tiny/dng/curve.svg", "results/candidates/tiny/dng.zip"]

ROCK_SALT = """2
Lattice="5.6 0 0 0 5.6 0 0 0 5.6" Properties=species:S:1:pos:R:3 pbc="T T T"
Na 0 0 0
Cl 2.8 2.8 2.8
"""


@pytest.fixture(scope="module")
def finished(make_experiment):
    experiment = make_experiment(CONFIG)
    experiment.snakemake(*TARGETS)
    return experiment


@pytest.mark.slow
def test_the_tables_hold_every_set(finished):
    text = (finished.folder / "results/tables.md").read_text()
    for words in ("De Novo Generation", "Crystal Structure Prediction", "tiny", "Structural", "Match"):
        assert words in text
    assert "nan" not in text.lower().split()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("tiny/dng", 5), ("tiny/csp", 6)])
def test_every_set_has_a_row_for_every_crystal_asked_for(finished, name, n):
    facts = json.loads((finished.folder / f"results/evaluate/{name}.json").read_text())
    assert facts["n"] == n
    assert facts["recipe"]
    stages = ["sample", "evaluate"] if name.endswith("csp") else ["sample", "relax", "fingerprints", "evaluate"]
    tables = [read_crystals(finished.folder / f"results/{stage}/{name}.parquet") for stage in stages]
    assert len({tuple(crystal.id for crystal in table) for table in tables}) == 1
    assert len(tables[0]) == n


@pytest.mark.slow
def test_files_for_people_are_there(finished):
    assert "<svg" in (finished.folder / "results/train/tiny/dng/curve.svg").read_text()
    with zipfile.ZipFile(finished.folder / "results/candidates/tiny/dng.zip") as archive:
        assert any(name.endswith(".csv") for name in archive.namelist())


@pytest.mark.slow
def test_run_again_there_is_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake(*TARGETS)


@pytest.mark.slow
def test_one_core_gives_what_two_give(finished, make_experiment):
    alone = make_experiment(CONFIG)
    alone.snakemake("results/sample/tiny/csp.parquet", cores=1)
    for name in ("train/tiny/csp/checkpoint.safetensors", "sample/tiny/csp.parquet"):
        one, two = (experiment.folder / "results" / name for experiment in (alone, finished))
        if name.endswith("parquet"):  # how long it took is part of the file
            one, two = (read_table(path).replace_schema_metadata(None) for path in (one, two))
            assert one == two, name
        else:
            assert one.read_bytes() == two.read_bytes(), name


@pytest.mark.slow
def test_own_structures_become_a_row_without_training(finished, make_experiment):
    settings = yaml.safe_load(CONFIG)
    settings |= {"runs": {}, "shards": 1, "tables": {"sets": ["salt"]}}
    other = make_experiment(yaml.safe_dump(settings))
    shutil.copytree(finished.folder / "results/data", other.folder / "results/data")
    shutil.copytree(finished.folder / "results/fingerprints/reference", other.folder / "results/fingerprints/reference")
    (other.folder / "structures").mkdir()
    (other.folder / "structures/salt.extxyz").write_text(ROCK_SALT)
    text = other.snakemake("results/tables.md")
    assert "rule train" not in text
    metrics = json.loads((other.folder / "results/evaluate/salt.json").read_text())["metrics"]
    assert metrics["struct_valid"]["value"] == 1.0
    assert metrics["comp_valid"]["value"] == 1.0
    assert "| salt" in (other.folder / "results/tables.md").read_text()


@pytest.mark.slow
def test_a_broken_training_table_stops_with_its_name(finished, make_experiment):
    other = make_experiment(CONFIG)
    shutil.copytree(finished.folder / "results/data", other.folder / "results/data")
    table = other.folder / "results/data/aflow_20/train.parquet"
    table.write_bytes(table.read_bytes()[:-200])
    text = other.snakemake("results/train/tiny/dng/checkpoint.safetensors", fails=True)
    assert "not a readable Parquet file" in text
    assert "train.parquet" in text
