import re

import numpy as np
import pytest

from made_sets import HOSTILE, KINDS, crystal, evaluated, unpack, write_embedding, write_reference, write_set
from xtalgen.crystals import ContractError, Crystal, read_table, to_table, write_table
from xtalgen.explorer import projection
from xtalgen.explorer.crystal_sets import Files, learning_curves, load, thin
from xtalgen.explorer.encoding import MISSING
from xtalgen.explorer.projection import UmapConfig
from xtalgen.stages.explorer import Options, viewer_script, write_explorer


@pytest.fixture(autouse=True)
def by_components(monkeypatch):
    monkeypatch.setattr(projection, "FEWEST", 1000)  # UMAP has its own test and takes half a minute to compile itself


def build(folder, files, logs=(), **options):
    out = folder / "page.html"
    write_explorer(files, logs, options=Options(**options), umap=UmapConfig(), cache=None, out=out)
    text = out.read_text()
    return text, *unpack(re.search(r'id="payload">([^<]*)<', text)[1])


def test_page_holds_every_crystal_with_its_verdicts(tmp_path):
    rows = evaluated(20, "x", hostile=True)
    files = [write_set(tmp_path, "x/dng", rows), write_reference(tmp_path, 6)]
    _, header, blocks = build(tmp_path, files)
    assert header["ids"] == [row.id for row in rows] + [f"mp-{index}" for index in range(6)]
    assert [(entry["name"], entry["reference"], entry["n"]) for entry in header["sets"]] == [
        ("x/dng", False, 20),
        ("made test", True, 6),
    ]
    assert blocks["set"].tolist() == [0] * 20 + [1] * 6
    assert blocks["is_valid"][:4].tolist() == [2, 2, 2, 1]
    assert blocks["is_valid"][20:].tolist() == [0] * 6
    assert blocks["e_above_hull"][:2].tolist() == [-500, -300]
    assert blocks["e_above_hull"][-1] == MISSING
    assert blocks["gain"][0] == round(1e4 / 8)
    assert header["statuses"][blocks["status"][19]] == "unparsable"
    assert header["matches"][blocks["match"][2]] == "train-7"
    assert blocks["duplicate_of"][6] == 5
    assert blocks["nearest"][0] == 20  # the same crystal among the references
    assert header["parked"]["count"] == 1
    assert "made descriptors" in header["embedding"]


def test_page_is_one_file_that_asks_for_nothing(tmp_path):
    text, _, _ = build(tmp_path, [write_set(tmp_path, "x/dng", evaluated(3, "x"))])
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "default-src 'none'" in text
    assert "%%" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_hostile_names_stay_text(tmp_path):
    rows = [crystal(0, HOSTILE), crystal(1, 'a"b'), crystal(2, "é\n<b>")]
    text, header, _ = build(tmp_path, [write_set(tmp_path, "x/dng", rows)], title=f"{HOSTILE}%%PAYLOAD%%")
    assert "onerror=window.hacked=1>" not in text.replace("&gt;", "")
    assert header["ids"] == [row.id for row in rows]
    assert text.count("</script>") == 3


def test_same_input_gives_the_same_bytes(tmp_path):
    files = [write_set(tmp_path, "x/dng", evaluated(5, "x"))]
    assert build(tmp_path, files)[0] == build(tmp_path, files)[0]


def test_sets_without_anything_still_make_a_page(tmp_path):
    _, header, blocks = build(tmp_path, [])
    assert header["ids"] == []
    _, header, _ = build(tmp_path, [write_set(tmp_path, "empty", [])])
    assert header["notes"] == ["empty: no crystals."]
    bare = tmp_path / "bare.parquet"
    write_table(to_table([crystal(0, "a"), Crystal("b", "unparsable")]), bare)
    _, header, blocks = build(tmp_path, [Files("bare", bare)])
    assert any("1 of 2 crystals have no geometry" in note for note in header["notes"])
    assert any("not judged" in note for note in header["notes"])
    assert "No descriptors were given" in header["embedding"]
    assert not any(name.startswith("is_") for name in blocks)
    assert header["parked"]["count"] == 2


def test_all_invalid_and_a_formula_of_sixty_elements(tmp_path):
    numbers = np.arange(1, 61, dtype=np.uint8)
    places = np.column_stack([np.arange(60) / 60] * 3)
    big = Crystal("big", "ok", np.eye(3) * 15, places, numbers, dict.fromkeys(KINDS) | {"valid": False})
    _, header, blocks = build(tmp_path, [write_set(tmp_path, "x", [big])])
    assert blocks["n_atoms"].tolist() == [60]
    assert blocks["is_valid"].tolist() == [1]
    assert len(header["elements"]["symbol"]) == len(header["elements"]["colour"]) == 119


def test_too_many_crystals_become_a_seeded_subset_that_is_stated(tmp_path):
    files = [write_set(tmp_path, f"{name}/dng", evaluated(20, name)) for name in "ab"] + [write_reference(tmp_path, 9)]
    layers = [load(entry) for entry in files]
    first, second = (thin(layers, 10, 3, seed=1) for _ in range(2))
    assert [len(layer.rows) for layer in first] == [5, 5, 3]
    assert [row.id for row in first[0].rows] == [row.id for row in second[0].rows]
    assert first[0].notes == ["a/dng: 5 of 20 crystals are shown, chosen at random."]
    assert first[0].total == 20
    assert thin(layers, 40, 9, seed=1) == layers
    _, header, blocks = build(tmp_path, files, max_crystals=10, max_reference=3)
    assert len(header["ids"]) == 13
    assert blocks["duplicate_of"].max() < 13


def test_descriptors_of_two_kinds_are_refused(tmp_path):
    files = [write_set(tmp_path, f"{name}/dng", evaluated(4, name)) for name in "ab"]
    table = read_table(files[1].embedding)
    write_table(table, files[1].embedding, embedding="another potential")
    with pytest.raises(ContractError, match="another potential / made descriptors"):
        build(tmp_path, files)


def test_rows_without_descriptor_stand_below_the_map(tmp_path):
    rows = [crystal(index, str(index)) for index in range(6)]
    files = write_set(tmp_path, "x", rows)
    write_embedding(files.embedding, [*rows[:4], *(Crystal(row.id, "timeout") for row in rows[4:])])
    _, header, blocks = build(tmp_path, [files])
    height = blocks["positions"].reshape(-1, 2)[:, 1]
    assert height[4:].max() < height[:4].min()
    assert header["parked"]["count"] == 2


def test_metrics_come_with_their_definitions(tmp_path):
    _, header, _ = build(tmp_path, [write_set(tmp_path, "x/dng", evaluated(8, "x"))])
    names = {metric["name"]: metric for metric in header["metrics"]}
    assert header["sets"][0]["metrics"]["valid"]["value"] == 0.75
    assert header["sets"][0]["metrics"]["cov_recall"]["reason"] == "no fingerprints were given"
    assert names["valid"]["percent"] is True
    assert header["sets"][0]["funnel"] == [["asked for", 8], ["valid", 4]]


def test_learning_curves_are_thinned(tmp_path):
    log = tmp_path / "log.csv"
    lines = [f"{step},{1 / (step + 1)},{1.0 if step % 100 == 0 else ''}\n" for step in range(5000)]
    log.write_text("step,loss,val_loss\n" + "".join(lines))
    (curve,) = learning_curves([("x/dng", log)])
    assert 300 <= len(curve["step"]) <= 360
    assert sum(value is not None for value in curve["val_loss"]) == 50
    (curve,) = learning_curves([("x/dng", _written(tmp_path / "empty.csv", "step,loss,val_loss\n"))])
    assert curve["step"] == []


def test_viewer_brings_its_licence():
    script = viewer_script()
    assert b"Redistribution and use in source and binary forms" in script[:60000]
    assert b"$3Dmol" in script


def test_reference_energies_of_another_method_are_not_mixed_in(tmp_path):
    rows = evaluated(3, "mp")
    files = write_set(tmp_path, "reference", rows)
    layer = load(Files("reference", files.crystals, None, None, reference=True))
    assert all("e_above_hull" not in row.info for row in layer.rows)


def _written(path, text):
    path.write_text(text)
    return path
