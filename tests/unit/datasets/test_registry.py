import re
from collections import Counter

import pyarrow as pa
import pytest

from xtalgen.crystals import GEOMETRY, write_table
from xtalgen.datasets.embedded import all_records, read_embedded
from xtalgen.datasets.registry import DATA_SETS, compare_with_published, group_of, join_caveats, read_caveats
from xtalgen.datasets.sources import SourceError, read_source

OTHER = {"n_crystals": 26_566, "kind": ".csv", "git_blob_id": "0" * 40, "rows_sha256": "0" * 64}


def test_addresses_are_those_of_the_published_files():
    assert DATA_SETS["mp_20"].address("val") == (
        "https://raw.githubusercontent.com/txie-93/cdvae/f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/mp_20/val.csv"
    )
    assert DATA_SETS["mpts_52"].address("test") == (
        "https://raw.githubusercontent.com/jiaor17/DiffCSP/main/data/mpts_52/test.csv"
    )


def test_registry_is_well_formed():
    assert set(DATA_SETS) == {"aflow_20", "mp_20", "mp_20_grouped", "mpts_52", "perov_5", "carbon_24"}
    for name, data_set in DATA_SETS.items():
        assert data_set.name == name
        base = DATA_SETS[data_set.grouped_from or name]
        assert list(base.splits) == ["train", "val", "test"]
        assert data_set.licence
        assert data_set.reference
        assert data_set.embedded == (name == "aflow_20")
        for split in data_set.splits.values():
            assert re.fullmatch(r"[0-9a-f]{40}", split.git_blob_id or "0" * 40)
            assert re.fullmatch(r"[0-9a-f]{64}", split.rows_sha256 or "0" * 64)
    unpinned = [name for name, known in DATA_SETS.items() if not re.fullmatch(r"[0-9a-f]{40}|", known.commit)]
    assert unpinned == ["mpts_52"]
    assert all(split.git_blob_id for split in DATA_SETS["mpts_52"].splits.values())  # else nothing would protect it


def test_formulas_are_grouped_for_ever():
    # Another hash would make another data set.
    formulas = ["NaCl", "MgO", "TiO2", "SiO2", "LiFePO4", "Cu", "CsPbI3", "Fe2O3"]
    assert [group_of(formula) for formula in formulas] == [
        "test",
        "train",
        "test",
        "train",
        "train",
        "val",
        "train",
        "train",
    ]
    numbers = Counter(group_of(f"A{i}B") for i in range(5000))
    assert {name: round(count / 5000, 1) for name, count in numbers.items()} == {"train": 0.6, "val": 0.2, "test": 0.2}


def test_published_by_file_or_by_rows():
    blob = DATA_SETS["mp_20"].splits["train"].git_blob_id
    rows = DATA_SETS["mp_20"].splits["test"].rows_sha256
    assert compare_with_published("mp_20", "train", **{**OTHER, "git_blob_id": blob}) == ("yes", "")
    assert compare_with_published("mp_20", "test", **{**OTHER, "rows_sha256": rows}) == ("yes", "")
    assert compare_with_published("mp_20", "test", **{**OTHER, "git_blob_id": blob})[0] == "no"


def test_what_is_not_published_is_said():
    published, caveat = compare_with_published("mp_20", "train", **OTHER)
    assert published == "no"
    assert "26,566" in caveat
    assert "27,136" in caveat
    assert "not exactly comparable" in caveat
    published, caveat = compare_with_published("perov_5", "val", **{**OTHER, "kind": ".json"})
    assert published == "no"
    assert "structures only" in caveat


def test_unknown_where_there_is_nothing_to_compare_with():
    assert compare_with_published("mine", "train", **OTHER) == ("unknown", "")
    assert compare_with_published("perov_5", "val", **OTHER) == ("unknown", "")
    assert compare_with_published("mp_20", "holdout", **OTHER) == ("unknown", "")
    published, caveat = compare_with_published("aflow_20", "train", **OTHER)
    assert published == "unknown"
    assert "demonstration" in caveat


def test_caveats_are_read_back_once_each_in_order(tmp_path):
    empty = pa.Table.from_pylist([], schema=GEOMETRY)
    texts = ["", join_caveats("b, c; d", "a"), join_caveats("", "a", "e")]
    paths = [tmp_path / f"{i}.parquet" for i in range(4)]
    for path, text in zip(paths, texts, strict=False):
        write_table(empty, path, caveat=text)
    write_table(empty, paths[3])
    assert read_caveats(paths) == ["b, c; d", "a", "e"]
    assert read_caveats([]) == []


def test_embedded_splits_are_disjoint_and_complete():
    splits = {split: [record.id for record in read_embedded(split).records] for split in ("train", "val", "test")}
    sizes = {split: known.n_crystals for split, known in DATA_SETS["aflow_20"].splits.items()}
    assert {split: len(ids) for split, ids in splits.items()} == sizes == {"train": 200, "val": 25, "test": 25}
    together = [identifier for ids in splits.values() for identifier in ids]
    assert len(set(together)) == 250
    assert set(together) == {record.id for record in all_records()}


def test_embedded_splits_never_change():
    # Changing them makes all earlier numbers on the demonstration incomparable.
    assert [record.id for record in read_embedded("val").records[:3]] == [
        "A3B_tI16_139_cde_e",
        "A2BC4D_tI16_121_d_a_i_b",
        "A_aP4_2_aci",
    ]


def test_embedded_ids_are_aflow_labels():
    ids = [record.id for record in all_records()]
    assert "AB_cF8_225_a_b" in ids
    assert {"A_oC8_64_f", "A_oC8_64_f-2", "A_oC8_64_f-3"} <= set(ids)
    for record in all_records():
        assert record.properties["spg_num"] == record.id.split("_")[2]


def test_embedded_has_no_other_split():
    with pytest.raises(SourceError, match="no split 'holdout'; there are train, val, test"):
        read_embedded("holdout")


@pytest.mark.parametrize(
    ("dataset", "split", "published"),
    [
        ("mp_20", "val", "yes"),
        ("mp_20", "test", "yes"),
        ("mp_20", "train", "no"),
        ("mpts_52", "val", "yes"),
        ("mpts_52", "test", "yes"),
    ],
)
def test_shared_files_are_recognised(shared_data, dataset, split, published):
    source = read_source(shared_data / dataset / f"{split}.csv.gz", split)
    found, caveat = compare_with_published(
        dataset,
        split,
        n_crystals=len(source.records),
        kind=source.kind,
        git_blob_id=source.git_blob_id,
        rows_sha256=source.rows_sha256,
    )
    assert found == published
    assert bool(caveat) == (published == "no")
    if published == "yes":
        assert len(source.records) == DATA_SETS[dataset].splits[split].n_crystals
