"""The sample stage gives exactly what was asked for, whatever the shards, and does nothing twice."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from xtalgen import models
from xtalgen.crystals import Crystal, read_crystals, read_metadata, read_table, to_table, write_table
from xtalgen.models import AbstractModel, AbstractPromptedModel
from xtalgen.stages import sample
from xtalgen.stages.merge import merge
from xtalgen.training.checkpoint import CheckpointError, save_checkpoint


@dataclass(frozen=True)
class Settings:
    steps: int = 10


class Dice(AbstractModel):
    """Throws one atom per crystal; every third de novo crystal fails. Counts its calls."""

    Config = Settings
    Sampling = Settings
    calls = 0
    forgets = 0

    def train(self, train, val, config, job):
        raise AssertionError("the sample stage trained")

    def sample(self, checkpoint, wanted, sampling, seed, device) -> Iterator[Crystal]:
        type(self).calls += 1
        generator = np.random.default_rng(seed)
        numbers = [np.array([3], np.uint8)] * (wanted - self.forgets) if isinstance(wanted, int) else wanted
        for i, atoms in enumerate(numbers):
            position = generator.random((len(atoms), 3))
            status = "bad_lattice" if isinstance(wanted, int) and i % 3 == 2 else "ok"
            yield Crystal("", status, np.eye(3) * 4, position, np.asarray(atoms, np.uint8))

    def network_evaluations(self, sampling):
        return sampling.steps


class Oracle(AbstractPromptedModel):
    """Makes a crystal of as many lithium atoms as the attributes say; guesses the element of the first atom."""

    Config = Settings
    Sampling = Settings
    takes_prompts = True

    def train(self, train, val, config, job):
        raise AssertionError("the sample stage trained")

    def sample(self, checkpoint, wanted, sampling, seed, device) -> Iterator[Crystal]:
        for asked in wanted:
            n = asked["n_atoms"]
            yield Crystal("", "ok", np.eye(3) * 4, np.zeros((n, 3)), np.full(n, 3, np.uint8), {"text": str(asked)})

    def infill(self, checkpoint, crystals, sampling, seed, device) -> Iterator[Crystal]:
        for crystal in crystals:
            yield replace(crystal, info={"hidden": "O", "rank": 2, "guesses": "S O"})

    def network_evaluations(self, sampling):
        return 1


@pytest.fixture
def make_request(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda _: Dice())
    monkeypatch.setattr(Dice, "calls", 0)
    monkeypatch.setattr(Dice, "forgets", 0)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"weights")

    def make(**changes):
        asked = {"n": 10, "targets": (), "settings": {}, "seed": 0, "chunk": 4, **changes}
        return sample.SamplingRequest(model="dice", checkpoint=checkpoint, device="cpu", prefix="dice-dng", **asked)

    return make


def test_every_crystal_asked_for_has_a_row(make_request, tmp_path):
    sample.sample(make_request(), 1, 1, work=tmp_path / "work", out=tmp_path / "out.parquet")
    found = read_crystals(tmp_path / "out.parquet")
    assert [crystal.id for crystal in found] == [f"dice-dng-{i:06d}" for i in range(10)]
    assert sum(crystal.ok for crystal in found) == 8
    metadata = read_metadata(read_table(tmp_path / "out.parquet"))
    assert metadata["network_evaluations"] == "10"
    assert float(metadata["seconds"]) >= 0
    assert not list((tmp_path / "work").glob("*.parquet"))


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_the_crystals_do_not_depend_on_the_number_of_shards(make_request, tmp_path, shards):
    parts = [tmp_path / f"{shard}.parquet" for shard in range(1, shards + 1)]
    for shard, part in enumerate(parts, start=1):
        sample.sample(make_request(), shard, shards, work=tmp_path / f"work{shard}", out=part)
    merge(parts, tmp_path / "all.parquet")
    sample.sample(make_request(), 1, 1, work=tmp_path / "work", out=tmp_path / "whole.parquet")
    assert read_table(tmp_path / "all.parquet").equals(read_table(tmp_path / "whole.parquet"))


def test_finished_chunks_are_not_made_again(make_request, tmp_path):
    work = tmp_path / "work"
    key = make_request().key()
    write_table(make_request().make(0), work / "chunk-000000.parquet", key=key, seconds="1.000")
    assert Dice.calls == 1
    sample.sample(make_request(), 1, 1, work=work, out=tmp_path / "out.parquet")
    assert Dice.calls == 3, "two of three chunks were missing"


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": {"steps": 3}}, {"n": 9}, {"chunk": 5}])
def test_chunks_of_another_request_are_not_used(make_request, tmp_path, change):
    work = tmp_path / "work"
    write_table(make_request().make(0), work / "chunk-000000.parquet", key=make_request().key(), seconds="1.000")
    before = Dice.calls
    changed = make_request(**change)
    sample.sample(changed, 1, 1, work=work, out=tmp_path / "out.parquet")
    assert Dice.calls - before == -(-changed.n // changed.chunk)


def test_seeds_differ_between_chunks_and_requests(make_request):
    first, second = make_request().make(0), make_request().make(4)
    assert first["frac_coords"].to_pylist() != second["frac_coords"].to_pylist()
    assert first.equals(make_request().make(0))
    assert not first.equals(make_request(seed=1).make(0))


def test_targets_keep_their_atoms_and_are_named(make_request, tmp_path):
    split = tmp_path / "test.parquet"
    targets = [
        Crystal("mp-1", "ok", np.eye(3), np.zeros((2, 3)), np.array([11, 17], np.uint8)),
        Crystal("mp-2", "unparsable"),
        Crystal("mp-3", "ok", np.eye(3), np.zeros((1, 3)), np.array([14], np.uint8)),
    ]
    write_table(to_table(targets), split)
    wanted = sample.read_targets(split, 2, None)
    sample.sample(make_request(n=len(wanted), targets=wanted), 1, 1, work=tmp_path / "w", out=tmp_path / "o.parquet")
    found = read_crystals(tmp_path / "o.parquet")
    assert [crystal.info["target_id"] for crystal in found] == ["mp-1", "mp-1", "mp-3", "mp-3"]
    assert found[0].atomic_numbers.tolist() == [11, 17]
    assert len(sample.read_targets(split, 1, 1)) == 1


def test_a_split_without_usable_crystals_is_refused(tmp_path):
    write_table(to_table([Crystal("a", "unparsable")]), tmp_path / "test.parquet")
    with pytest.raises(ValueError, match="no crystal is usable as a target"):
        sample.read_targets(tmp_path / "test.parquet", 1, None)


def test_a_model_that_gives_too_few_is_an_error(make_request, monkeypatch):
    monkeypatch.setattr(Dice, "forgets", 1)
    with pytest.raises(RuntimeError, match="asked for 4 crystals and gave 3"):
        make_request().make(0)


def test_an_unknown_setting_is_named(make_request):
    with pytest.raises(ValueError, match="unknown key 'step'; there are steps"):
        make_request(settings={"step": 3}).make(0)


TARGETS = tuple(
    Crystal(f"target-{n}", "ok", np.eye(3) * 4, np.zeros((n, 3)), np.full(n, 8, np.uint8), {"spg_num": n})
    for n in (1, 2, 3, 4, 5)
)


@pytest.fixture
def prompted(make_request, monkeypatch):
    monkeypatch.setattr(models, "load", lambda _: Oracle())
    return make_request


def test_crystals_are_made_for_the_attributes_of_their_targets(prompted, tmp_path):
    asked = prompted(n=5, targets=TARGETS, attributes=("n_atoms", "spg_num", "band_gap"))
    sample.sample(asked, 1, 1, work=tmp_path / "w", out=tmp_path / "o.parquet")
    rows = read_crystals(tmp_path / "o.parquet")
    assert [row.n_atoms for row in rows] == [1, 2, 3, 4, 5]
    assert [row.info["target_id"] for row in rows] == [target.id for target in TARGETS]
    assert rows[2].info["text"] == "{'n_atoms': 3, 'spg_num': 3}", "an attribute that a target lacks is not asked for"
    assert read_metadata(read_table(tmp_path / "o.parquet"))["attributes"] == "n_atoms,spg_num,band_gap"


def test_targets_come_back_with_their_hidden_elements(prompted, tmp_path):
    asked = prompted(n=5, targets=TARGETS, infill=True)
    sample.sample(asked, 1, 1, work=tmp_path / "w", out=tmp_path / "o.parquet")
    rows = read_crystals(tmp_path / "o.parquet")
    assert [row.id for row in rows] == [f"dice-dng-{i:06d}" for i in range(5)]
    assert [row.info["rank"] for row in rows] == [2] * 5
    assert [row.n_atoms for row in rows] == [1, 2, 3, 4, 5]


def test_requests_for_other_things_share_no_chunks(prompted):
    requests = [prompted(targets=TARGETS, attributes=attributes) for attributes in (("n_atoms",), ("spg_num",))]
    assert len({one.key() for one in [*requests, prompted(targets=TARGETS, infill=True)]}) == 3


@pytest.mark.parametrize("asked", [{"attributes": ("formula",)}, {"infill": True}])
def test_a_model_without_prompts_cannot_be_asked(make_request, asked):
    with pytest.raises(ValueError, match="model dice takes no prompts"):
        make_request(targets=TARGETS, **asked)


def test_the_checkpoint_of_another_model_is_named_before_any_work(make_request, tmp_path):
    save_checkpoint(tmp_path / "checkpoint.safetensors", {}, {"model": "flowmm", "task": "dng"})
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: a checkpoint of model flowmm, not of dice\."):
        make_request()
