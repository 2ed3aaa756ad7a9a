"""What a configuration means, and what is wrong with a contradictory one."""

import json
from pathlib import Path

import pytest
import yaml

from xtalgen.experiment import model_traits
from xtalgen.experiment.plan import WEIGHTS, ConfigError, Plan, own_file


def config(**changes):
    base = {
        "datasets": {"mp_20": {}, "mine": {"source": "data/mine"}},
        "runs": {
            "big": {"model": "flowmm", "dataset": "mp_20", "tasks": ["dng", "csp"]},
            "small": {
                "model": "flowmm",
                "dataset": "mine",
                "tasks": ["csp"],
                "checkpoint": {"csp": "given.safetensors"},
            },
        },
        "evaluate": {},
        "tables": {"sets": ["own"]},
    }
    return {**base, **changes}


def refining(**changes):
    """A run that refines another, beside the others."""
    refined = {"model": "flowllm", "dataset": "mp_20", "tasks": ["dng", "csp"], **changes}
    return {"runs": {**config()["runs"], "refined": refined}}


def test_sets_tasks_and_data_sets():
    plan = Plan(config())
    assert plan.sets() == ["big/dng", "big/csp", "small/csp", "own"]
    assert [plan.task(name) for name in plan.sets()] == ["dng", "csp", "csp", "own"]
    assert [plan.dataset(name) for name in plan.sets()] == ["mp_20", "mp_20", "mine", "mp_20"]
    assert plan.dataset("small") == "mine"


def test_a_given_checkpoint_leaves_training_out():
    plan = Plan(config())
    assert plan.trained() == ["big/dng", "big/csp"]
    assert plan.checkpoint("small", "csp") == "given.safetensors"
    assert plan.checkpoint("big", "csp") == "results/train/big/csp/checkpoint.safetensors"


def test_pretrained_weights_leave_training_out():
    run = {"model": "formula_orbits", "dataset": "mp_20", "tasks": ["dng", "csp"], "checkpoint": "pretrained"}
    plan = Plan(config(runs={"ours": run}))
    assert plan.trained() == []
    assert {plan.checkpoint("ours", task) for task in run["tasks"]} == {
        str(WEIGHTS / "formula_orbits/shared.safetensors")
    }
    assert plan.facts("ours/dng") == [str(WEIGHTS / "formula_orbits/shared.json")]  # what their training took


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "substitution", "tasks": ["csp"]}, "no weights of substitution for the task 'csp'"),
        ({"train": {"hidden": 64}}, "nothing is trained; remove `train`"),
    ],
)
def test_pretrained_weights_that_do_not_fit_are_refused(changes, said):
    run = {"model": "formula_orbits", "dataset": "mp_20", "tasks": ["dng"], "checkpoint": "pretrained", **changes}
    with pytest.raises(ConfigError, match=said):
        Plan(config(runs={"ours": run}))


def test_settings_of_a_task_override_the_common_ones():
    runs = {
        "big": {"model": "flowmm", "dataset": "mp_20", "tasks": ["csp"], "sample": {"steps": 9, "csp": {"slope": 5}}}
    }
    plan = Plan(config(runs=runs))
    assert json.loads(plan.settings("big", "sample", "csp")) == {"slope": 5, "steps": 9}
    assert json.loads(plan.settings("big", "sample", "dng")) == {"steps": 9}
    assert json.loads(plan.settings("big", "train", "dng")) == {}


def test_a_setting_with_the_name_of_a_task_reaches_the_model():
    train = {"infilling": 0.1, "composition": 0.5}
    runs = {"text": {"model": "crystal_text_llm", "dataset": "mp_20", "tasks": ["dng"], "train": train}}
    assert json.loads(Plan(config(runs=runs)).settings("text", "train", "shared")) == train


def test_the_time_budget_of_a_run_goes_before_that_of_all():
    train = {"hidden": 64, "max_seconds": 60, "dng": {"max_seconds": 9.5}}
    runs = {"big": {**config()["runs"]["big"], "train": train}, "small": config()["runs"]["small"]}
    plan = Plan(config(runs=runs, train={"max_seconds": 3600}))
    assert [plan.max_seconds("big", task) for task in ("csp", "dng")] == [60, 9.5]
    assert plan.max_seconds("small", "csp") == 3600
    assert Plan(config()).max_seconds("small", "csp") is None
    assert json.loads(plan.settings("big", "train", "dng")) == {"hidden": 64}


@pytest.mark.parametrize("limit", [0, -1, "1 h", True])
def test_a_time_budget_is_a_number_of_seconds(limit):
    runs = {"x": {"model": "flowmm", "dataset": "mp_20", "tasks": ["csp"], "train": {"csp": {"max_seconds": limit}}}}
    with pytest.raises(ConfigError, match=r"runs\.x\.train\.csp\.max_seconds: .* above 0"):
        Plan(config(runs=runs))


def test_own_structures_are_compared_with_the_named_reference():
    assert Plan(config(evaluate={"reference": "mine"})).dataset("own") == "mine"
    assert Plan(config(runs={})).dataset("own") == "mp_20"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"runs": {"a b": {"model": "flowmm", "dataset": "mp_20", "tasks": []}}},
            "runs.a b: a name may contain only letters",
        ),
        ({"runs": {"x": {"model": "nope", "dataset": "mp_20", "tasks": []}}}, "runs.x.model: there is no file"),
        ({"runs": {"x": {"model": "flowmm", "dataset": "no", "tasks": []}}}, "runs.x.dataset: 'no' is not under"),
        (
            {"runs": {"x": {"model": "flowmm", "dataset": "mp_20", "tasks": ["infilling"]}}},
            "runs.x.tasks: model flowmm takes no prompts; remove 'infilling'",
        ),
        (
            {"runs": {"x": {"model": "omatg", "dataset": "mp_20", "tasks": ["dng", "csp"]}}},
            r"runs.x.tasks: model omatg does not support 'dng'; write `tasks: \[csp\]`",
        ),
        (
            {"runs": {"x": {"model": "flowmm", "dataset": "mp_20", "tasks": ["dng"], "attributes": ["formula"]}}},
            "runs.x.attributes: only the task 'conditional' uses them",
        ),
        ({"evaluate": {"reference": "no"}}, "evaluate.reference: 'no' is not under `datasets`; there are mp_20, mine"),
        ({"datasets": {"mp_20": {}, "mine": {}}}, "datasets.mine: give its folder as `source`"),
        ({"tables": {"sets": ["big"]}}, "'big' is the name of a run"),
        (refining(), "runs.refined.base: model flowllm refines another run; name one that needs no base"),
        (refining(base="nobody"), "runs.refined.base: model flowllm refines another run"),
        (refining(base="refined"), "runs.refined.base: model flowllm refines another run"),
        (refining(base="small"), "runs.refined.base: 'small' is trained on another data set than 'refined'"),
        (refining(base="big", model="flowmm"), "runs.refined.base: model flowmm takes no base run; remove `base`"),
    ],
)
def test_contradictions_are_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        Plan(config(**changes))


def test_the_file_of_an_own_set_is_found_by_its_stem(tmp_path):
    (tmp_path / "more.json.gz").write_text("")
    assert own_file(tmp_path, "more") == str(tmp_path / "more.json.gz")
    assert own_file(tmp_path, "nope") == f"{tmp_path}/nope.extxyz"
    assert own_file(tmp_path / "absent", "nope").endswith("absent/nope.extxyz")


def test_the_map_shows_every_set_that_is_generated_as_a_whole_above_their_data_sets():
    plan = Plan(config())
    assert plan.shown() == ["big/dng", "own"]
    assert plan.references() == ["mp_20"]


def test_models_that_see_bonds_are_trained_on_tables_with_bonds():
    runs = {name: {"model": name, "dataset": "mp_20", "tasks": ["dng"]} for name in ("cdvae", "flowmm")}
    plan = Plan(config(runs=runs))
    assert plan.training_table("cdvae", "train") == "results/bonds/mp_20/train.parquet"
    assert plan.training_table("flowmm", "val") == "results/data/mp_20/val.parquet"


def test_models_that_need_wyckoff_positions_are_trained_on_tables_with_them(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "orbits.py").write_text("class Model:\n    needs_wyckoff: ClassVar[bool] = True\n")
    monkeypatch.setattr(model_traits, "PACKAGE", tmp_path)
    plan = Plan(config(runs={"orbits": {"model": "orbits", "dataset": "mp_20", "tasks": ["dng"]}}))
    assert plan.training_table("orbits", "val") == "results/wyckoff/mp_20/val.parquet"


def test_a_run_that_refines_another_learns_from_pairs_and_starts_from_samples():
    sample = {"n": 3, "per_target": 2, "max_targets": None}
    plan = Plan(config(**refining(base="big"), sample=sample))
    assert plan.training_table("refined", "train") == "results/refinement_pairs/refined/train.parquet"
    assert plan.asked_for("refined", "csp") == {"starts": "results/sample/big/csp.parquet"}
    assert plan.sampled_from("refined", "csp") == ["results/sample/big/csp.parquet"]
    assert plan.sampled_from("big", "csp") == ["results/data/mp_20/test.parquet"]
    assert plan.sampled_from("big", "dng") == []


def test_where_splits_come_from():
    datasets = {"mp_20": {}, "mine": {"source": "data/mine", "limit": {"train": 5}}}
    plan = Plan(config(datasets=datasets))
    assert plan.reading("mp_20", "train") == {"source": None, "limit": None}
    assert plan.reading("mine", "train") == {"source": "data/mine", "limit": 5}
    assert plan.reading("mine", "test") == {"source": "data/mine", "limit": None}


def test_the_files_that_a_split_may_come_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/mine"
    folder.mkdir(parents=True)
    for name in ("train.csv.gz", "test.csv", "structures.json.zip", "notes.txt"):
        (folder / name).write_text("")
    datasets = {"mp_20": {}, "mine": {"source": "data/mine"}}
    plan = Plan(config(datasets=datasets))
    assert [file.name for file in plan.source_files("mine", "train")] == ["structures.json.zip", "train.csv.gz"]
    assert plan.source_files("mp_20", "train") == []
    datasets["mine"]["source"] = "data/mine/test.csv"
    assert Plan(config(datasets=datasets)).source_files("mine", "val") == [Path("data/mine/test.csv")]


def test_files_that_settings_name_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/llama").mkdir(parents=True)
    run = {"model": "flowmm", "dataset": "mp_20", "tasks": ["dng"], "train": {"base": "models/llama", "other": "a/b"}}
    assert Plan(config(runs={"x": run})).files_in_settings("x", "train", "dng") == ["models/llama"]


@pytest.mark.parametrize(
    "name", ["config.yaml", "demo/config.yaml", "examples/mp_20_cpu/config.yaml", "examples/pretrained/config.yaml"]
)
def test_models_accept_the_settings_of_every_shipped_run(root, name):
    from xtalgen import models

    shipped = yaml.safe_load((root / name).read_text())
    for run_name, run in shipped["runs"].items():
        plan = Plan(
            {"evaluate": {}, "tables": {"sets": []}, **{k: v for k, v in shipped.items() if k in ("runs", "datasets")}}
        )
        model = models.load(run["model"])
        for task in ("dng", "csp"):
            models.build(model.Config, json.loads(plan.settings(run_name, "train", task)), name)
            models.build(model.Sampling, json.loads(plan.settings(run_name, "sample", task)), name)


def test_a_model_that_takes_prompts_is_asked_about_the_test_split():
    run = {"model": "crystal_text_llm", "dataset": "mp_20", "tasks": ["conditional", "infilling"]}
    sample = {"n": 9, "per_target": 2, "max_targets": 7}
    plan = Plan(config(runs={"text": run, "energies": {**run, "attributes": ["e_above_hull"]}}, sample=sample))
    split = "results/data/mp_20/test.parquet"
    assert plan.sets()[:2] == ["text/conditional", "text/infilling"]
    assert plan.asked_for("text", "conditional") == {"targets": split, "limit": 7, "attributes": ["formula", "spg_num"]}
    assert plan.asked_for("text", "infilling") == {"targets": split, "limit": 7, "infill": True}
    assert plan.sampled_from("text", "infilling") == [split]
    assert plan.trained() == ["text/shared", "energies/shared"]
    assert plan.generated() == ["own"]
    relaxed = [name for name in plan.sets() if plan.relaxed(name)]
    assert relaxed == ["energies/conditional", "own"], "only energies need a potential"


@pytest.mark.parametrize("name", ["a b", "a;touch b", "../a", "$(a)", "a'"])
def test_names_that_are_no_names(name):
    for changes, where in (
        ({"runs": {name: {"model": "flowmm", "dataset": "mp_20", "tasks": ["dng"]}}}, "runs"),
        ({"tables": {"sets": [name]}}, "tables.sets"),
    ):
        with pytest.raises(ConfigError, match=rf"^{where}.*a name may contain only letters, digits"):
            Plan(config(**changes))


def test_a_sweep_tries_every_combination():
    run = {
        "model": "flowmm",
        "dataset": "mp_20",
        "tasks": ["csp"],
        "sample": {"steps": 50, "slope": 1},
        "sweep": {"slope": [0, 5], "batch_size": [10, 20]},
    }
    plan = Plan(config(runs={"flow": run}))
    assert plan.swept() == ["flow"]
    assert len(plan.points("flow")) == 4
    assert plan.point_files("flow")[3] == "results/sweep/flow/3.json"
    assert json.loads(plan.at_point("flow", 3)) == {"steps": 50, "slope": 5, "batch_size": 20}
    with pytest.raises(ConfigError, match=r"runs\.flow\.sweep: a sweep needs a run"):
        Plan(config(runs={"flow": {**run, "tasks": ["dng"]}}))


def test_copies_under_the_data_root_are_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path))
    plan = Plan(config())
    assert plan.data_root == tmp_path
    assert plan.source("mp_20") is None
    folder = tmp_path / "mp_20"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}.csv.gz").touch()
    assert plan.source("mp_20") is None, "a split is missing"
    (folder / "test.csv").touch()
    assert plan.source("mp_20") == str(folder)
    assert [file.name for file in plan.source_files("mp_20", "test")] == ["test.csv"]
    assert plan.reading("mp_20", "val")["source"] == str(folder)
    grouped = Plan(config(datasets={"mp_20_grouped": {}, "mp_20": {}, "mine": {"source": "x"}}))
    assert grouped.source("mp_20_grouped") == str(folder), "it is read from the files of mp_20"


def test_what_was_fetched_is_no_copy_of_the_user(tmp_path, monkeypatch):
    # Otherwise the first download would change the plan, and everything would run again.
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path))
    for split in ("train", "val", "test"):
        file = tmp_path / f"downloads/mp_20/{split}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert Plan(config()).source("mp_20") is None


def test_the_configured_data_root_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path / "other"))
    (tmp_path / "root/samples").mkdir(parents=True)
    (tmp_path / "root/samples/theirs.npz").touch()
    entry = {"source": "samples/theirs.npz", "licence": "MIT", "citation": "x"}
    plan = Plan(config(data_root=str(tmp_path / "root"), released={"theirs": entry}))
    assert plan.data_root == tmp_path / "root"
    assert plan.structures("theirs/released") == [str(tmp_path / "root/samples/theirs.npz")]
