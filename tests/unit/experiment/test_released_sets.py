"""The list of released samples, and what a configuration says of its entries."""

import re

import pytest
import yaml

from xtalgen.datasets.releases import Release
from xtalgen.experiment.plan import ConfigError, Plan
from xtalgen.experiment.released_sets import (
    DEFAULTS,
    OF_THE_PLAN,
    check_within_reach,
    complete,
    describe_releases,
    known_releases,
)
from xtalgen.runtime.download import DownloadError

BLOB = "0" * 40
OWN = {"address": "https://example.org/abc/mine.csv", "git_blob_id": BLOB, "licence": "MIT", "citation": "A. Nobody"}


def plan(**released):
    config = {
        "datasets": {"mp_20": {}},
        "runs": {"diffcsp": {"model": "diffcsp", "dataset": "mp_20", "tasks": ["dng"]}},
        "evaluate": {},
        "tables": {"sets": ["own"]},
    }
    return Plan(config | {"released": released})


def test_every_known_set_is_pinned_and_says_whose_it_is(root):
    keys = {key for entry in known_releases().values() for key in entry}
    assert keys <= {"about", "dataset", *Release.__dataclass_fields__}
    pinned = r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/.+"
    for name, entry in known_releases().items():
        assert re.fullmatch(pinned, entry["address"]), name
        assert re.fullmatch("[0-9a-f]{40}", entry["git_blob_id"]), name
        assert entry["licence"], name
        assert entry["citation"], name
        assert entry["dataset"] == "mp_20", name
    assert set(yaml.safe_load((root / "config.yaml").read_text())["released"]) == set(known_releases())
    assert describe_releases().count("\n") == len(known_releases()) + 2


def test_the_schema_has_the_keys_of_an_entry_and_names_the_known_sets(root):
    schema = yaml.safe_load((root / "workflow/schemas/config.schema.yaml").read_text())["properties"]["released"]
    keys = set(schema["additionalProperties"]["properties"])
    assert keys == set(Release.__dataclass_fields__) | {*OF_THE_PLAN} - {"about"}
    assert set(DEFAULTS) <= keys
    assert [name for name in known_releases() if f"`{name}`" not in schema["description"]] == []


def test_a_set_goes_through_the_stages_as_a_set_of_its_own():
    made = plan(diffcsp={}, mine=OWN)
    assert made.sets() == ["diffcsp/dng", "diffcsp/released", "mine/released", "own"]
    assert made.generated() == made.sets()
    assert [made.task(name) for name in made.sets()] == ["dng", "dng", "dng", "own"]
    assert [made.dataset(name) for name in made.sets()] == ["mp_20"] * 4
    assert all(map(made.relaxed, made.sets()))
    assert made.trained() == ["diffcsp/dng"]
    assert made.facts("diffcsp/released") == []


def test_what_the_stage_is_told():
    made = plan(diffcsp={"limit": 5}, mine=OWN)
    name, entry = made.release("diffcsp/released")
    known = known_releases()["diffcsp"]
    assert name == "diffcsp"
    assert yaml.safe_load(entry) == {
        **{key: known[key] for key in ("address", "git_blob_id", "licence", "citation", "n")}, "relaxed": "none",
        "limit": 5,
    }  # fmt: skip
    assert made.structures("diffcsp/released") == []
    assert made.release("own") is None
    assert made.structures("own") == ["structures/own.extxyz"]


def test_a_copy_is_read_by_path(tmp_path):
    file = tmp_path / "copy.npz"
    file.write_bytes(b"")
    made = plan(diffcsp={"source": str(file)})
    assert made.structures("diffcsp/released") == [str(file)]
    assert "source" not in made.release("diffcsp/released")[1]


def test_another_address_does_not_inherit_the_checksum():
    entry = complete("diffcsp", {"address": OWN["address"], "sha256": "1" * 64})
    assert "git_blob_id" not in entry
    assert "n" not in entry
    assert entry["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("diffcsp", {"source": "nowhere.npz"}, r"released\.diffcsp\.source: there is no file nowhere\.npz"),
        ("mine", {}, r"released\.mine\.licence: say whose crystals these are; only cdvae, .* are known by name"),
        ("mine", {"licence": "MIT", "citation": "A"}, r"released\.mine\.address: give the https address"),
        ("mine", {**OWN, "git_blob_id": None}, r"released\.mine\.git_blob_id: give it .*or `sha256`"),
        ("diffcsp", {"dataset": "perov_5"}, r"released\.diffcsp\.dataset: 'perov_5' is not under `datasets`"),
        ("diff csp", {}, r"released\.diff csp: a name may contain only letters"),
    ],
)
def test_contradictions_are_named_with_their_key(name, entry, message):
    with pytest.raises(ConfigError, match=message):
        plan(**{name: entry})


def test_what_cannot_be_fetched_is_named_with_address_and_key():
    gone = {"address": "http://127.0.0.1:9/x.csv"}
    releases = {"gone": gone, "copied": {**gone, "source": "x.csv"}}
    check_within_reach(releases, ["copied/released", "own", "gone/dng"])
    message = r"released\.gone: cannot reach http://127\.0\.0\.1:9/x\.csv .*released\.gone\.source"
    with pytest.raises(DownloadError, match=message):
        check_within_reach(releases, ["own", "gone/released"])
