import json
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk

import evaluate as script
from crystal_cases import broken, caesium_chloride, library, moved, one_atom, rock_salt, with_nan
from xtalgen.crystals import ContractError, Crystal, read_crystals, read_facts, to_table, write_table
from xtalgen.featurizers.fingerprints import N_OPS, NOT_CHOSEN
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.metrics.protocols import choose_recipe
from xtalgen.metrics.registry import for_task
from xtalgen.metrics.result_file import read_evaluation, write_evaluation
from xtalgen.metrics.types import MetricConfig
from xtalgen.runtime.parallel import Failure
from xtalgen.stages import evaluate as stage
from xtalgen.stages.evaluate import Sources, correct_for_hull, evaluate
from xtalgen.structure import geometry
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.geometry import usable
from xtalgen.structure.lattice import wrap

SETTINGS = MetricConfig(resamples=50)
RELAXED = {"energy": pa.float64(), "converged": pa.bool_(), "rmsd": pa.float64(), "n_steps": pa.int64()}
CHGNET = {"potential": "chgnet", "potential_sha256": "c" * 64}


def table(path, crystals, columns=None, **metadata):
    write_table(to_table(crystals, columns), path, **metadata)
    return path


def prints(path, crystals, *, status=None):
    """Writes stand-ins for fingerprints: any function of the structure will do for the bookkeeping."""
    kind = pa.list_(pa.float64())
    rows = []
    for crystal in crystals:
        if not usable(crystal) or (status or {}).get(crystal.id):
            rows.append(replace(crystal, status=(status or {}).get(crystal.id, "no_geometry"), info={}))
            continue
        made = np.full(N_OPS, np.cbrt(abs(np.linalg.det(crystal.lattice)) / crystal.n_atoms) / 10)
        composition = magpie_features([reduced_counts(crystal.atomic_numbers)])[0]
        rows.append(replace(crystal, info={"structure_fingerprint": made, "composition_fingerprint": composition}))
    return table(path, rows, {"structure_fingerprint": kind, "composition_fingerprint": kind})


def relaxation(crystals, energies, **info):
    """Returns rows as the relax stage writes them; energies in eV/atom, None where it failed."""
    rows = []
    for crystal, energy in zip(crystals, energies, strict=True):
        if energy is None or not crystal.ok:
            rows.append(replace(crystal, status=crystal.status if not crystal.ok else "timeout", info={}))
        else:
            facts = {"energy": energy * crystal.n_atoms, "converged": True, "rmsd": 0.1, "n_steps": 5}
            rows.append(replace(crystal, info=facts | info))
    return rows


def run(tmp_path, task, sample, train, test, *, columns=None, settings=SETTINGS, metadata=None, **files):
    sources = Sources(
        sample=table(tmp_path / "sample.parquet", sample, columns, **(metadata or {})),
        train=table(tmp_path / "train.parquet", train, dataset="mine", published="yes", caveat="half of it"),
        test=table(tmp_path / "test.parquet", test, dataset="mine", published="yes", caveat=""),
        **files,
    )
    out = {"out_table": tmp_path / "rows.parquet", "out_json": tmp_path / "set.json"}
    evaluate(task, sources, settings, **out)
    text = out["out_json"].read_text()
    return json.loads(text, parse_constant=pytest.fail), {row.id: row for row in read_crystals(out["out_table"])}


def test_truth_against_itself_is_perfect(tmp_path):
    # The test split as a sample of itself.
    crystals = library(4)[:12]
    file = prints(tmp_path / "prints.parquet", crystals)
    found, _ = run(tmp_path, "dng", crystals, [], crystals, fingerprints=file, reference_fingerprints=file)
    values = {name: entry["value"] for name, entry in found["metrics"].items()}
    assert values["cov_recall"] == values["cov_precision"] == 1.0
    assert values["struct_valid"] == 1.0
    assert values["novel"] == 1.0  # nothing is known
    found, rows = run(tmp_path, "dng", crystals, crystals, crystals)
    assert found["metrics"]["novel"]["value"] == 0.0
    assert all(row.info["match_id"] for row in rows.values())


def test_every_table_is_read_once_and_every_geometry_judged_once(tmp_path, monkeypatch):
    read, judged, kept = Counter(), Counter(), []
    read_table, heaviest = stage.read_table, geometry.heaviest_element

    def judge(row):
        kept.append(row)  # so that no other object gets its id
        judged[id(row)] += 1
        return heaviest(row)

    monkeypatch.setattr(stage, "read_table", lambda path: (read.update([path.name]), read_table(path))[1])
    monkeypatch.setattr(geometry, "heaviest_element", judge)
    sample = [rock_salt("a"), one_atom("b"), broken("c")]
    run(
        tmp_path, "dng", sample, [caesium_chloride("k")], [rock_salt("t")],
        relaxed=table(tmp_path / "relaxed.parquet", relaxation(sample, [-3.5, None, None]), RELAXED, **CHGNET),
        hull=table(tmp_path / "hull.parquet", relaxation([one_atom("cu")], [-3.0]), RELAXED, **CHGNET),
    )  # fmt: skip
    assert set(read) == {"sample.parquet", "train.parquet", "test.parquet", "relaxed.parquet", "hull.parquet"}
    assert set(read.values()) == {1}
    assert set(judged.values()) == {1}


def test_the_file_written_is_the_contract(tmp_path):
    run(tmp_path, "dng", [rock_salt()], [], [rock_salt("t")])
    evaluation = read_evaluation(tmp_path / "set.json")
    write_evaluation(evaluation, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "set.json").read_bytes()


def test_distributions_of_truth_are_at_distance_zero(tmp_path):
    crystals = [rock_salt(), one_atom(), caesium_chloride("b", elements=("Cs", "Cl"))]
    found, _ = run(tmp_path, "dng", crystals, [], crystals)
    for name in ("wdist_density", "wdist_num_elems"):
        assert found["metrics"][name]["value"] == 0.0
        assert found["metrics"][name]["n"] == 3


def test_every_row_stays_in_every_denominator(tmp_path):
    sample = [rock_salt("a"), moved(rock_salt(), "b"), broken("c"), with_nan("d"), one_atom("e"), one_atom("f", 2.6)]
    relaxed = relaxation(sample, [-3.5, -3.5, None, None, None, -3.0])
    hull = relaxation([one_atom("cu"), one_atom("na", 3.7, 11), one_atom("cl", 4.0, 17)], [-3.05, -1.0, -2.0])
    found, rows = run(
        tmp_path, "dng", sample, [one_atom("known", number=79)], [rock_salt("t")],
        relaxed=table(tmp_path / "relaxed.parquet", relaxed, RELAXED, **CHGNET),
        hull=table(tmp_path / "hull.parquet", hull, RELAXED | {"source": pa.string()}, **CHGNET),
        fingerprints=prints(tmp_path / "p.parquet", sample, status={"e": "timeout"}),
        reference_fingerprints=prints(tmp_path / "r.parquet", [rock_salt("t")]),
    )  # fmt: skip
    metrics = found["metrics"]
    assert list(rows) == list("abcdef")
    assert found["n"] == 6
    rates = {metric.name for metric in for_task("dng") if metric.percent} - {"cov_recall", "p1"}
    assert {metrics[name]["n"] for name in rates} == {6}
    counts = {name: round(metrics[name]["value"] * 6) for name in rates}
    # "f" equals "e", which failed to relax and is judged as sampled; "b" equals "a"; copper is not like halite.
    assert counts == {
        "struct_valid": 4, "comp_valid": 4, "valid": 3, "cov_precision": 2, "converged": 3, "unique": 2,
        "unique_sampled": 2, "novel": 4, "framework_novel": 4,
        "unique_novel": 2, "stable": 2, "metastable": 3, "sun": 1, "msun": 1,
    }  # fmt: skip
    assert rows["a"].info["e_above_hull"] == pytest.approx(-2.0)
    assert rows["f"].info["e_above_hull"] == pytest.approx(0.05)
    assert rows["e"].info["hull_status"] == "no_energy"
    assert rows["b"].info["duplicate_of"] == "a"
    assert metrics["e_above_hull_median"] | {"low": 0, "high": 0} == {
        "value": pytest.approx(-2.0),
        "n": 3,
        "low": 0,
        "high": 0,
    }
    assert metrics["rmsd"]["value"] == pytest.approx(0.1)
    assert {entry["step"]: entry["count"] for entry in found["funnel"]} == {
        "sampled": 6, "parsed": 4, "valid": 3, "relaxed": 3, "converged": 3, "hull-evaluable": 3, "unique": 1,
        "novel": 1, "metastable S.U.N.": 1,
    }  # fmt: skip
    assert found["failures"] == {
        "fingerprint: timeout": 1, "relax: timeout": 1, "sample: bad_lattice": 1, "sample: unparsable": 1
    }  # fmt: skip
    assert found["data"] == {
        "dataset": "mine", "published": "yes", "caveats": ["half of it"], "n_train": 1, "n_test": 1, "n_reference": 1,
        "n_hull": 3,
    }  # fmt: skip
    assert found["recipe"]["hull"]["potential"] == "chgnet"


def test_thresholds_are_arguments(tmp_path):
    sample = [one_atom("a"), one_atom("b", number=79)]
    files = {
        "relaxed": table(tmp_path / "r.parquet", relaxation(sample, [-3.0, -3.0]), RELAXED, **CHGNET),
        "hull": table(tmp_path / "h.parquet", relaxation([one_atom("x")], [-3.2]), RELAXED, **CHGNET),
    }
    changed = replace(SETTINGS, recipe=choose_recipe(metastable_below=0.25))
    found, rows = run(tmp_path, "dng", sample, [], [], settings=changed, **files)
    assert found["metrics"]["metastable"]["value"] == 0.5
    assert found["recipe"]["metastable_below"] == 0.25
    assert found["recipe"]["name"] == "xtalgen with metastable_below = 0.25"
    assert rows["b"].info["hull_status"] == "no_terminal"
    assert found["failures"] == {"hull: no_terminal": 1}
    found, _ = run(tmp_path, "dng", sample, [], [], **files)
    assert found["metrics"]["metastable"]["value"] == 0.0


def test_rates_of_stability_count_the_crystals_chosen_for_relaxation(tmp_path):
    sample = [rock_salt("a"), one_atom("b"), rock_salt("c"), rock_salt("d")]
    rows = relaxation(sample, [-3.5, None, None, None])
    rows = [replace(row, info={**row.info, "relax_asked": place < 2}) for place, row in enumerate(rows)]
    rows[2:] = [replace(row, status="ok") for row in rows[2:]]
    kept = RELAXED | {"relax_asked": pa.bool_()}
    found, verdicts = run(
        tmp_path, "dng", sample, [caesium_chloride("k")], [rock_salt("t")],
        relaxed=table(tmp_path / "relaxed.parquet", rows, kept, **CHGNET),
        hull=table(tmp_path / "hull.parquet", relaxation([one_atom("cu")], [-3.0]), RELAXED, **CHGNET),
    )  # fmt: skip
    assert found["n"] == 4
    assert {name: found["metrics"][name]["n"] for name in ("struct_valid", "converged", "sun")} == {
        "struct_valid": 4,
        "converged": 2,
        "sun": 2,
    }
    assert found["metrics"]["converged"]["value"] == 0.5
    assert [verdicts[name].info["relax_status"] for name in "abcd"] == ["ok", "timeout", "not_chosen", "not_chosen"]
    assert {"step": "chosen for relaxation", "count": 2} in found["funnel"]


def test_uniqueness_is_judged_after_relaxation(tmp_path):
    salt = rock_salt("a")
    off = Crystal("b", "ok", salt.lattice * 1.3, caesium_chloride().frac_coords, salt.atomic_numbers)
    off = replace(off, lattice=np.diag([3.0, 3.0, 6.5]))
    before, _ = run(tmp_path, "dng", [salt, off], [], [])
    relaxed = [salt, replace(salt, id="b")]
    after, rows = run(
        tmp_path, "dng", [salt, off], [], [],
        relaxed=table(tmp_path / "r.parquet", relaxation(relaxed, [-3.0, -3.0]), RELAXED, **CHGNET),
    )  # fmt: skip
    assert before["metrics"]["unique"]["value"] == 1.0
    assert after["metrics"]["unique"]["value"] == 0.5
    np.testing.assert_allclose(rows["b"].lattice, salt.lattice)
    assert after["metrics"]["stable"]["reason"] == "no hull was given"


@pytest.mark.parametrize("task", ["dng", "own"])
@pytest.mark.parametrize("sample", [[], [broken("a"), with_nan("b"), broken("c", "too_close")]])
def test_all_failed_gives_zeros_and_nulls(tmp_path, task, sample):
    found, rows = run(
        tmp_path, task, sample, [rock_salt()], [rock_salt("t")],
        relaxed=table(tmp_path / "r.parquet", relaxation(sample, [None] * len(sample)), RELAXED, **CHGNET),
        hull=table(tmp_path / "h.parquet", [], RELAXED, **CHGNET),
        fingerprints=prints(tmp_path / "p.parquet", sample),
        reference_fingerprints=prints(tmp_path / "q.parquet", [rock_salt("t")]),
    )  # fmt: skip
    assert len(rows) == len(sample)
    for name, entry in found["metrics"].items():
        assert not entry["value"], name
        assert entry["value"] == 0 or entry["reason"], name
    assert found["metrics"]["wdist_density"]["reason"] == "no valid crystal"
    assert found["metrics"]["cov_recall"]["value"] == 0.0


def test_energies_of_different_potentials_are_refused(tmp_path):
    sample = [one_atom()]
    relaxed = table(tmp_path / "relaxed.parquet", relaxation(sample, [-3.0]), RELAXED, **CHGNET)
    changed = CHGNET | {"potential_sha256": "d" * 64}
    other = table(tmp_path / "hull.parquet", relaxation([one_atom("x")], [-3.0]), RELAXED, **changed)
    with pytest.raises(ContractError, match=r"relaxed\.parquet.*'c+'.*hull\.parquet.*'d+'"):
        run(tmp_path, "dng", sample, [], [], relaxed=relaxed, hull=other)


def test_files_of_other_crystals_are_refused(tmp_path):
    relaxed = table(tmp_path / "relaxed.parquet", relaxation([one_atom("x")], [-3.0]), RELAXED, **CHGNET)
    with pytest.raises(ContractError, match=r"relaxed\.parquet.*sample\.parquet.*'copper'.*Make"):
        run(tmp_path, "dng", [one_atom()], [], [], relaxed=relaxed)
    wrong = prints(tmp_path / "p.parquet", [one_atom("x")])
    with pytest.raises(ContractError, match=r"p\.parquet.*sample\.parquet"):
        run(tmp_path, "dng", [one_atom()], [], [], fingerprints=wrong)


def test_rows_may_come_in_another_order(tmp_path):
    sample = [one_atom("a"), rock_salt("b")]
    relaxed = relaxation(sample, [-3.0, -2.0])[::-1]
    _, rows = run(tmp_path, "dng", sample, [], [], relaxed=table(tmp_path / "r.parquet", relaxed, RELAXED, **CHGNET))
    assert [rows[name].info["energy"] for name in "ab"] == [-3.0, -4.0]


def test_subset_of_references_is_counted(tmp_path):
    test = [rock_salt("t"), one_atom("u"), broken("v")]
    files = {
        "fingerprints": prints(tmp_path / "p.parquet", [rock_salt()]),
        "reference_fingerprints": prints(tmp_path / "q.parquet", test, status={"u": NOT_CHOSEN}),
    }
    found, _ = run(tmp_path, "dng", [rock_salt()], library(2)[:5], test, **files)
    assert found["metrics"]["cov_recall"] | {"low": 0} == {"value": 1.0, "n": 1, "low": 0, "high": 1.0}
    assert found["data"]["n_reference"] == 1
    assert found["data"]["n_test"] == 3


def test_cost_comes_from_training_and_sampling(tmp_path):
    training = tmp_path / "training.json"
    training.write_text(json.dumps({"parameters": 123, "seconds": 4.5, "device": "cpu"}))
    facts = {"seconds": "3.0", "network_evaluations": "100", "device": "CPU, 2 threads"}
    found, _ = run(tmp_path, "dng", [one_atom(), rock_salt()], [], [], metadata=facts, training=training)
    assert found["cost"] == {
        "parameters": 123, "train_seconds": 4.5, "train_device": "cpu", "sample_seconds_per_1000": 1500.0,
        "network_evaluations": 100, "device": "CPU, 2 threads",
    }  # fmt: skip
    training.write_text("{")
    with pytest.raises(ContractError, match=r"training\.json: not readable JSON"):
        run(tmp_path, "dng", [one_atom()], [], [], training=training)


def test_scores_are_reproducible(tmp_path):
    crystals = library(3)[:20]
    first = run(tmp_path, "dng", crystals, crystals[:5], crystals[5:])[0]
    assert first == run(tmp_path, "dng", crystals, crystals[:5], crystals[5:])[0]


@pytest.mark.slow
def test_script_scores_predictions_in_worker_processes(tmp_path):
    test = [*library(4)[:8], broken("bad")]
    sample = [
        replace(moved(target, f"p{i}-{k}", seed=k), info={"target_id": target.id})
        for i, target in enumerate(test[:8])
        for k in range(2)
    ]
    table(tmp_path / "sample.parquet", sample, {"target_id": pa.string()})
    table(tmp_path / "test.parquet", test, dataset="mine")
    table(tmp_path / "train.parquet", [], dataset="mine")
    names = {"sample": "sample", "train": "train", "test": "test"}
    files = [part for flag, name in names.items() for part in (f"--{flag}", str(tmp_path / f"{name}.parquet"))]
    out = ["--out-table", str(tmp_path / "rows.parquet"), "--out-json", str(tmp_path / "set.json")]
    script.main(["--task", "csp", "--set", "run/csp", *files, *out, "--resamples", "50", "--workers", "2"])
    found = json.loads((tmp_path / "set.json").read_text())
    assert (found["set"], found["task"], found["n"]) == ("run/csp", "csp", 16)
    assert found["metrics"]["match_rate_all"]["value"] == 1.0
    assert found["metrics"]["match_rate_all"]["n"] == 8
    assert found["recipe"]["samples_per_target"] == 2
    assert all(row.info["matched"] for row in read_crystals(tmp_path / "rows.parquet"))
    assert not (tmp_path / "work-set").exists()


def test_prediction_of_an_unknown_target_is_refused(tmp_path):
    sample = [replace(one_atom(), info={"target_id": "gone"})]
    with pytest.raises(ContractError, match=r"sample\.parquet: row 0 .*'gone'"):
        run(tmp_path, "csp", sample, [], [rock_salt("t")], columns={"target_id": pa.string()})


def binary(formula, **info):
    atoms = bulk(formula, "rocksalt", a=4.3)
    places = wrap(atoms.get_scaled_positions())
    return Crystal(formula, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8), info)


def test_energies_for_the_hull_stand_beside_those_of_the_potential(monkeypatch):
    monkeypatch.setattr(stage, "CORRECTION_TIMEOUT", 60.0)
    sample = [binary("MgO"), binary("NaCl"), Crystal("broken", "unparsable"), binary("FeO")]
    relaxed = [replace(row, info={"energy": -1.0, "e_initial": -0.5}) for row in sample]
    relaxed[3] = replace(relaxed[3], info={"energy": None, "e_initial": None})
    found = correct_for_hull(CrystalList(relaxed), CrystalList(sample), workers=1)
    assert [row.info["hull_energy"] for row in found] == [pytest.approx(-1.687), pytest.approx(-1.614), None, None]
    assert [row.info["hull_e_initial"] for row in found] == [pytest.approx(-1.187), pytest.approx(-1.114), None, None]
    assert [row.info["energy"] for row in found] == [-1.0, -1.0, -1.0, None]


def test_crystal_without_a_correction_has_no_energy_for_the_hull(monkeypatch):
    monkeypatch.setattr(stage, "map_items", lambda _function, items, **_: _fail(items))
    sample = [binary("MgO", energy=-1.0)]
    assert correct_for_hull(CrystalList(sample), CrystalList(sample), workers=1)[0].info["hull_energy"] is None


def test_imports_of_a_new_process_do_not_count_as_time_of_its_first_crystal(monkeypatch):
    options = {}
    monkeypatch.setattr(stage, "map_items", lambda _function, items, **given: (options.update(given), _fail(items))[1])
    sample = CrystalList([binary("MgO", energy=-1.0)])
    correct_for_hull(sample, sample, workers=1)
    options["initializer"]()
    assert "pymatgen.io.vasp.sets" in sys.modules


def _fail(items):
    return [Failure("error", "CorrectionError: unknown") for _ in items]


@pytest.mark.parametrize(("said", "wanted"), [("raw", -1.687), ("corrected", None)])
def test_only_raw_energies_are_corrected_and_only_for_that_hull(tmp_path, monkeypatch, said, wanted):
    monkeypatch.setattr(stage, "CORRECTION_TIMEOUT", 60.0)
    row = binary("MgO", energy=-1.0, e_initial=-1.0)
    for energies in ("mp2020", "consistent"):
        hull = tmp_path / f"{energies}.parquet"
        table(hull, [row], {"energy": pa.float64()}, energies=energies, energy_scale=said)
        facts = {"relaxed": {}, "hull": read_facts(hull)}
        expected = wanted if energies == "mp2020" else None
        assert stage._hull_has_corrections(facts) == (expected is not None)
    (found,) = correct_for_hull(CrystalList([row]), CrystalList([row]), workers=1)
    assert wanted is None or found.info["hull_energy"] == pytest.approx(wanted)
