"""`python -m xtalgen score`: scores a file, keeps what took long, says what is wrong."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Lattice, Structure

from crystal_cases import caesium_chloride, one_atom, rock_salt
from xtalgen.commands import score as command
from xtalgen.commands.functions import scoring
from xtalgen.crystals import read_crystals, to_table, write_table
from xtalgen.featurizers.fingerprints import N_OPS
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.pymatgen import to_structure

SPLITS = {
    "train": {"cscl": caesium_chloride(elements=("Cs", "Cl")), "cu": one_atom()},
    "val": {"kcl": rock_salt("kcl", 6.3, ("K", "Cl"))},
    "test": {"nacl": rock_salt(), "mgo": rock_salt("mgo", 4.2, ("Mg", "O"))},
}


def cif(crystal):
    return str(to_structure(crystal).to(fmt="cif"))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for split, crystals in SPLITS.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["material_id", "cif"])
            writer.writerows([name, cif(crystal)] for name, crystal in crystals.items())
    return folder


@pytest.fixture
def run(tmp_path, source):
    def call(file, *options, dataset="mine"):
        common = ["--dataset", dataset, "--source", str(source), "--cache", str(tmp_path / "cache"), "--workers", "1"]
        command.main([str(file), *common, *options])
        name = file.name.split(".")[0]
        folder = tmp_path / "out" if "--out" in options else file.parent
        return json.loads((folder / f"{name}-metrics.json").read_text()), folder / f"{name}-ledger.parquet"

    return call


@pytest.fixture
def sample(tmp_path):
    file = tmp_path / "mine.csv"
    rows = [cif(rock_salt()), cif(rock_salt("x", 5.7)), "no crystal", cif(caesium_chloride(elements=("Cs", "Cl")))]
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([["id", "cif"], *([f"s{i}", text] for i, text in enumerate(rows))])
    return file


@pytest.fixture
def quick_fingerprints(monkeypatch):
    kind = pa.list_(pa.float64())

    def write(crystals, *, out, **_):
        rows = [
            replace(
                row,
                info={
                    "structure_fingerprint": [0.1] * N_OPS,
                    "composition_fingerprint": magpie_features([reduced_counts(row.atomic_numbers)])[0],
                },
            )
            if row.ok
            else replace(row, info={})
            for row in read_crystals(crystals)
        ]
        write_table(to_table(rows, {"structure_fingerprint": kind, "composition_fingerprint": kind}), out)

    monkeypatch.setattr(scoring, "compute_fingerprints", write)


@pytest.mark.usefixtures("quick_fingerprints")
def test_structures_are_scored(run, sample, capsys, tmp_path):
    found, ledger = run(sample, "--recipe", "lemat", "--out", str(tmp_path / "out"))
    assert (found["set"], found["n"], found["recipe"]["name"]) == ("mine", 4, "lemat")
    values = {name: entry["value"] for name, entry in found["metrics"].items()}
    assert values["unique"] == 0.5  # of four: salt, its copy, nothing, and another
    assert values["novel"] == 0.0  # lemat looks at all splits
    assert values["cov_recall"] is not None
    rows = read_crystals(ledger)
    assert [row.status for row in rows] == ["ok", "ok", "unparsable", "ok"]
    assert [row.info["source_name"] for row in rows] == ["s0", "s1", "s2", "s3"]
    assert rows[1].info["duplicate_of"] == rows[0].id
    printed = capsys.readouterr().out
    assert "mine: 4 crystals, compared with mine, recipe lemat" in printed
    assert "Unique (%) ↑" in printed
    assert "failures: sample: unparsable 1" in printed
    assert "not computed (not relaxed): Converged" in printed


@pytest.mark.usefixtures("quick_fingerprints")
def test_what_took_long_is_kept_by_content(run, sample, monkeypatch, source):
    first, _ = run(sample)
    made = []
    for name in ("prepare_data", "compute_fingerprints", "write_given"):
        real = getattr(scoring, name)
        monkeypatch.setattr(
            scoring, name, lambda *a, _real=real, _name=name, **o: (made.append(_name), _real(*a, **o))[1]
        )
    assert run(sample)[0] == first
    assert made == []
    other, _ = run(sample, "--recipe", "mattergen")
    assert made == []
    assert other["recipe"] != first["recipe"]
    # A split with another content is read again, the others are not.
    (source / "train.csv").write_text((source / "train.csv").read_text().replace("cscl", "other"))
    run(sample)
    assert made == ["prepare_data"]


def test_predictions_are_paired_by_name_or_in_order(run, tmp_path, capsys):
    by_name = tmp_path / "named.csv"
    rows = [["id", "cif"], ["mgo", cif(rock_salt("p", 4.25, ("Mg", "O")))], ["nacl", cif(rock_salt("q", 5.6))]]
    with by_name.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found, ledger = run(by_name, "--task", "csp")
    assert found["metrics"]["match_rate"]["value"] == 1.0
    assert [row.info["target_id"] for row in read_crystals(ledger)] == ["mgo", "nacl"]
    structures = [to_structure(crystal) for crystal in SPLITS["test"].values() for _ in range(2)]
    for structure in structures[1::2]:
        structure.perturb(0.05)
    in_order = tmp_path / "ordered.json"
    in_order.write_text(json.dumps([structure.as_dict() for structure in structures]))
    found, _ = run(in_order, "--task", "csp")
    assert found["metrics"]["match_rate"]["value"] == found["metrics"]["match_rate_best"]["value"] == 1.0
    assert found["recipe"]["samples_per_target"] == 2
    printed = capsys.readouterr().out
    assert "Match rate, best of k" in printed
    assert "targets: matched by the order of the file" in printed
    in_order.write_text(json.dumps([structures[0].as_dict()]))
    with pytest.raises(SystemExit, match="1 structures, 2 test crystals: give each structure the id"):
        run(in_order, "--task", "csp")


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("form", ["{}.cif", "preds/{}.cif", "{}/1.cif"])
def test_truth_in_a_zip_scores_100_per_cent(run, tmp_path, form):
    # Members in another order than the test split: the order of the file would pair them wrongly.
    members = {form.format(name): cif(crystal) for name, crystal in reversed(SPLITS["test"].items())}
    found, ledger = run(zipped(tmp_path / "truth.zip", members), "--task", "csp")
    assert found["metrics"]["match_rate"]["value"] == 1.0
    assert [row.info["target_id"] for row in read_crystals(ledger)] == ["mgo", "nacl"]


def test_blocks_of_a_cif_are_matched_by_name(run, tmp_path):
    texts = {name: cif(crystal) for name, crystal in reversed(SPLITS["test"].items())}
    file = tmp_path / "truth.cif"
    file.write_text("\n".join(re.sub(r"(?m)^data_.*$", f"data_{name}", text) for name, text in texts.items()))
    found, _ = run(file, "--task", "csp")
    assert found["metrics"]["match_rate"]["value"] == 1.0


def test_targets_without_prediction_count_as_missed(run, tmp_path, capsys):
    file = zipped(tmp_path / "half.zip", {f"nacl_{k}.cif": cif(rock_salt("p", 5.6 + 0.05 * k)) for k in range(2)})
    found, ledger = run(file, "--task", "csp")
    assert {name: found["metrics"]["match_rate_all"][name] for name in ("value", "n")} == {"value": 0.5, "n": 2}
    assert found["metrics"]["match_rate_best_all"]["value"] == 0.5
    assert found["failures"] == {"sample: not_predicted": 1}
    assert [row.status for row in read_crystals(ledger)] == ["ok", "ok", "not_predicted"]
    assert "targets: 1 of 2 test crystals have no prediction and count as missed" in capsys.readouterr().out
    found, _ = run(file, "--task", "csp", "--partial")
    assert {name: found["metrics"]["match_rate_all"][name] for name in ("value", "n")} == {"value": 1.0, "n": 1}
    assert "1 of 2 test crystals have no prediction and are left out (--partial)" in capsys.readouterr().out


def test_some_misspelt_ids_are_refused(run, tmp_path):
    members = {f"{name}.cif": cif(crystal) for name, crystal in SPLITS["test"].items()}
    members["nacI.cif"] = members.pop("nacl.cif")
    with pytest.raises(SystemExit, match=r"1 of 2 names are not test ids: 'nacI\.cif'"):
        run(zipped(tmp_path / "wrong.zip", members), "--task", "csp")


def test_a_file_without_any_crystal_is_refused_before_data_are_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "prepare_data", lambda *_, **__: pytest.fail("read the data set"))
    file = tmp_path / "broken.csv"
    file.write_text('id,cif\na,nothing\nb,"more nothing"\n')
    with pytest.raises(SystemExit, match=r"broken\.csv: none of its 2 entries is a crystal \(a: unparsable"):
        run(file)


def test_help_and_mistakes_are_answered_at_once(root, tmp_path):
    (tmp_path / "mine.foo").write_text("x")
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}

    def answer(*words):
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-m", "xtalgen", "score", *words],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        assert seconds < 5  # of processor time; about one on a free core
        return done

    done = answer("--help")
    assert done.returncode == 0
    assert "--partial" in done.stdout
    wrong = {
        "mine.foo": "unknown suffix; allowed are .extxyz",
        ".": "no structure file in this folder",
        "gone.cif": "there is no such file",
    }
    for word, message in wrong.items():
        done = answer(word)
        assert done.returncode != 0
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("quick_fingerprints")
def test_arrays_are_scored(run, tmp_path):
    file = tmp_path / "samples.npz"
    np.savez(
        file,
        frac_coords=np.tile([[0.0, 0, 0], [0.5, 0.5, 0.5]], (3, 1)),
        atom_types=np.array([55, 17, 55, 17, 11, 250]),
        num_atoms=np.array([2, 2, 2]),
        lengths=np.array([[4.1] * 3, [np.nan] * 3, [4.0] * 3]),
        angles=np.full((3, 3), 90.0),
    )
    found, ledger = run(file)
    assert [row.status for row in read_crystals(ledger)] == ["ok", "bad_lattice", "unknown_element"]
    assert found["metrics"]["struct_valid"]["value"] == pytest.approx(1 / 3)
    assert found["metrics"]["novel"]["value"] == 0.0


@pytest.mark.usefixtures("quick_fingerprints")
def test_relaxation_gives_stability(run, sample, monkeypatch):
    energy = {"energy": pa.float64(), "e_initial": pa.float64(), "converged": pa.bool_(), "rmsd": pa.float64()}
    calls = []

    def write(out, rows, per_atom):
        found = [
            replace(row, info={"energy": per_atom * row.n_atoms, "e_initial": 0.0, "converged": True, "rmsd": 0.2})
            if row.ok
            else replace(row, info={})
            for row in rows
        ]
        write_table(to_table(found, energy), out, potential="made", potential_sha256="a" * 64)

    def relax(crystals, *, out, **_):
        calls.append("relax")
        write(out, read_crystals(crystals), -3.0)

    def hull(relaxed, references, *, out, **_):
        calls.append("hull")
        terminals = [one_atom(f"e{number}", number=number) for number in (11, 17, 55)]
        write(out, terminals, -2.0)

    monkeypatch.setattr("xtalgen.stages.relax.relax", relax)
    monkeypatch.setattr("xtalgen.stages.hull.write_hull", hull)
    monkeypatch.setattr("xtalgen.potentials.registry.identify", lambda *_: SimpleNamespace(sha256="a" * 64))
    found, ledger = run(sample, "--relax", "made")
    values = {name: entry["value"] for name, entry in found["metrics"].items()}
    assert values["stable"] == 0.75
    assert values["rmsd"] == pytest.approx(0.2)
    assert found["recipe"]["relaxation"]["potential"] == "made"
    assert [row.info["e_above_hull"] for row in read_crystals(ledger)] == pytest.approx([-1.0, -1.0, None, -1.0])
    run(sample, "--relax", "made", "--recipe", "flowmm")
    assert calls == ["relax", "hull"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.cif", None, "there is no such file"),
        ("mine.cif", "", "is empty"),
        ("mine.pt", "x", "can run code when it is read"),
        ("mine.txt", "x", "unknown suffix"),
    ],
)
def test_wrong_files_end_in_one_line(run, tmp_path, name, content, message):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit, match=rf"error: .*{name}.*{message}"):
        run(file)


def test_unknown_data_set_is_named(tmp_path, sample):
    with pytest.raises(SystemExit, match="error: nowhere: no published data set of this name"):
        command.main([str(sample), "--dataset", "nowhere", "--cache", str(tmp_path / "cache"), "--workers", "1"])


@pytest.mark.slow
def test_module_runs_on_the_embedded_data_set(tmp_path, root):
    Structure(Lattice.cubic(3.61), ["Cu"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]).to(
        str(tmp_path / "mine.cif"), fmt="cif"
    )
    call = [sys.executable, "-m", "xtalgen", "score"]
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {"PYTHONPATH": str(root / "src")}}
    text = subprocess.run([*call, "--help"], check=True, **options).stdout
    assert "xtalgen score samples.npz --dataset mp_20 --recipe cdvae" in text
    asked = [*call, "mine.cif", "--dataset", "aflow_20", "--cache", "cache", "--workers", "1"]
    done = subprocess.run(asked, check=True, **options)
    assert "mine: 1 crystals, compared with aflow_20, recipe xtalgen" in done.stdout
    assert json.loads((tmp_path / "mine-metrics.json").read_text())["metrics"]["cov_recall"]["n"] == 25
