"""Released samples through the real workflow: as rows of the tables, with the numbers that their publishers found."""

import csv
import json

import numpy as np
import pytest
import yaml

from xtalgen.crystals import read_crystals
from xtalgen.datasets.releases import Release
from xtalgen.metrics.choices import OxidationStates
from xtalgen.metrics.protocols import RECIPES
from xtalgen.metrics.validity import ValidityRules
from xtalgen.stages.import_structures import import_release
from xtalgen.structure.crystal_list import CrystalList

LIMIT = 12
# Validity in %, structures and compositions (smact14): WyckoffTransformer's notebook at 6551d3f.
PUBLISHED = {"crystalformer_mp_20": (93.39, 84.98), "flowmm_mp_20_chgnet_relaxed": (96.59, 83.25)}


@pytest.mark.slow
def test_a_local_copy_runs_to_a_row_of_the_tables(shared_data, make_experiment):
    source = shared_data / "samples/crystalformer_mp_20.npz"
    few = {"train": 30, "val": 30, "test": 30}
    experiment = make_experiment(
        yaml.safe_dump(
            {
                "device": "cpu",
                "threads": 1,
                "datasets": {"mp_20": {"source": str(shared_data / "mp_20"), "limit": few}},
                "released": {"crystalformer": {"source": str(source), "limit": LIMIT}},
                "relax": {"potential": "chgnet", "max_steps": 0, "reference_steps": 0, "hull": "dft"},
            }
        )
    )
    experiment.snakemake("results/tables.md", "results/candidates/crystalformer/released.zip", cores=1)
    found = json.loads((experiment.folder / "results/evaluate/crystalformer/released.json").read_text())
    assert found["n"] == LIMIT
    sample = CrystalList(read_crystals(experiment.folder / "results/sample/crystalformer/released.parquet"))
    assert [crystal.id for crystal in sample] == [f"crystalformer-released-{row:06d}" for row in range(LIMIT)]
    verdicts = RECIPES["xtalgen"].validity.judge(sample)
    assert found["metrics"]["struct_valid"]["value"] == pytest.approx(verdicts.structure.mean())
    assert found["metrics"]["comp_valid"]["value"] == pytest.approx(verdicts.composition.mean())
    assert found["data"]["released"]["licence"] == "Apache-2.0"
    page = (experiment.folder / "results/tables.md").read_text()
    assert "| crystalformer | released" in page
    assert f"the first {LIMIT} of 999 crystals" in page
    assert "read from a copy that is not the published file" in page
    assert "Cao et al., arXiv:2403.15734" in page
    rows = list(csv.DictReader((experiment.folder / "results/tables.csv").read_text().splitlines()))
    assert {row["origin"] for row in rows} == {"released", "published"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_come_out_of_the_imported_table(shared_data, tmp_path, name):
    release, out = Release("Apache-2.0", "Kazeev et al., arXiv:2503.02407"), tmp_path / "out.parquet"
    import_release("set", release, shared_data / f"samples/{name}.npz", out=[out], downloads=tmp_path, workers=1)
    sample = CrystalList(read_crystals(out))
    rules = ValidityRules(OxidationStates.SMACT14, composition_needs_geometry=False, max_number=118)
    verdicts = rules.judge(sample)
    found = tuple(round(100 * float(np.mean(flags)), 2) for flags in (verdicts.structure, verdicts.composition))
    assert found == PUBLISHED[name]


def test_without_a_network_nothing_is_begun(make_experiment):
    entry = {"address": "https://127.0.0.1:9/x.csv", "git_blob_id": "0" * 40, "licence": "MIT", "citation": "A. Nobody"}
    experiment = make_experiment(yaml.safe_dump({"datasets": {"aflow_20": {}}, "released": {"mine": entry}}))
    text = experiment.snakemake("results/evaluate/mine/released.json", fails=True, cores=1)
    line = next(line for line in text.splitlines() if "released.mine" in line)
    assert "cannot reach https://127.0.0.1:9/x.csv" in line
    assert "released.mine.source" in line
    assert not (experiment.folder / "results").exists(), "a job was begun"
    assert "Traceback" not in text
