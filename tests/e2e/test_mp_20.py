"""The shipped example configuration, with smaller limits: MP-20 on a CPU to a table."""

import json

import pytest
import yaml


@pytest.mark.slow
def test_the_example_runs_to_a_table(root, shared_data, make_experiment, monkeypatch):
    monkeypatch.setenv("XTALGEN_DATA", str(shared_data))
    config = yaml.safe_load((root / "examples/mp_20_cpu/config.yaml").read_text())
    assert "source" not in config["datasets"]["mp_20"], "the example names a folder that users do not have"
    # A smaller limit of everything that takes long; what remains is as shipped.
    config["datasets"]["mp_20"]["limit"] = {"train": 600, "val": 100, "test": 200}
    config["train"]["max_seconds"] = 20
    config["runs"] = {"flowmm": config["runs"]["flowmm"]}
    config["sample"] |= {"n": 10, "max_targets": 12}
    config["relax"] |= {"max_steps": 30, "timeout": 60}
    config["evaluate"] = {"max_reference": 20}
    experiment = make_experiment(yaml.safe_dump(config))
    experiment.snakemake("results/tables.md")
    text = (experiment.folder / "results/tables.md").read_text()
    assert "mp_20" in text
    assert "numbers are close to but not exactly comparable" in text, (
        "the caveat about the training split is not printed"
    )
    facts = json.loads((experiment.folder / "results/evaluate/flowmm/dng.json").read_text())
    assert facts["n"] == config["sample"]["n"]
    assert facts["metrics"]["struct_valid"]["n"] == config["sample"]["n"]
