import csv
import gzip
import json
import zipfile

import pytest

from xtalgen.datasets.sources import SourceError, find_source, git_blob_id, read_source

COLUMNS = ["material_id", "cif", "band_gap"]


def write_csv(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])
    return path


def error_of(path, split="train"):
    with pytest.raises(SourceError) as caught:
        read_source(path, split)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def two_rows(tmp_path):
    return write_csv(tmp_path / "train.csv", [["a", "line 1\nline 2, 'x'\n", "1.5"], ["b", "text", ""]])


def test_csv_keeps_order_texts_and_further_columns(two_rows):
    source = read_source(two_rows, "train")
    assert [record.id for record in source.records] == ["a", "b"]
    assert source.records[0].text == "line 1\nline 2, 'x'\n"
    assert source.records[0].properties == {"band_gap": "1.5"}
    assert source.kind == ".csv"


def test_compression_changes_the_file_sum_only(two_rows, tmp_path):
    plain = read_source(two_rows, "train")
    packed = tmp_path / "val.csv.gz"
    packed.write_bytes(gzip.compress(two_rows.read_bytes()))
    zipped = tmp_path / "test.csv.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(two_rows, "anything.csv")
    for path in (packed, zipped):
        source = read_source(path, "train")
        assert source.records == plain.records
        assert (source.git_blob_id, source.rows_sha256) == (plain.git_blob_id, plain.rows_sha256)
        assert source.sha256 != plain.sha256


def test_git_blob_id_is_that_of_git():
    assert git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_rows_sum_ignores_other_columns_but_no_text(two_rows, tmp_path):
    same = write_csv(tmp_path / "same.csv", [["line 1\nline 2, 'x'\n", "a"], ["text", "b"]], ["cif", "material_id"])
    other = write_csv(tmp_path / "other.csv", [["a", "line 1\nline 2, 'x'\n", "1.5"], ["b", "texts", ""]])
    sums = [read_source(path, "train").rows_sha256 for path in (two_rows, same, other)]
    assert sums[0] == sums[1] != sums[2]


def test_byte_order_mark_is_no_part_of_the_first_column(two_rows):
    two_rows.write_bytes(b"\xef\xbb\xbf" + two_rows.read_bytes())
    assert len(read_source(two_rows, "train").records) == 2


def test_missing_column_names_those_there(tmp_path):
    message = error_of(write_csv(tmp_path / "train.csv", [["a", "x"]], ["id", "cif"]))
    assert "no column 'material_id'" in message
    assert "id, cif" in message


def test_repeated_column(tmp_path):
    path = write_csv(tmp_path / "train.csv", [["a", "x", "y"]], ["material_id", "cif", "cif"])
    assert "'cif' occurs twice" in error_of(path)


def test_duplicate_ids_name_both_rows(tmp_path):
    message = error_of(write_csv(tmp_path / "train.csv", [["a", "x", ""], ["b", "x", ""], ["a", "y", ""]]))
    assert "rows 1 and 3" in message
    assert "'a'" in message


def test_missing_id_names_the_row(tmp_path):
    assert "row 2 has no material_id" in error_of(write_csv(tmp_path / "train.csv", [["a", "x", ""], ["", "x", ""]]))


@pytest.mark.parametrize("rows", [[], None])
def test_empty_split(tmp_path, rows):
    path = tmp_path / "train.csv"
    if rows is None:
        path.write_text("")
        assert "no column" in error_of(path)
    else:
        assert "is empty" in error_of(write_csv(path, rows))


@pytest.mark.parametrize("cut", [1, 5, 12, 13, 22])
def test_truncated_csv(two_rows, cut):
    content = two_rows.read_bytes()
    two_rows.write_bytes(content[: content.index(b"line 2") + cut])
    message = error_of(two_rows)
    assert "cut off or damaged" in message
    assert "again" in message


def test_csv_cut_inside_the_last_column(tmp_path):
    path = write_csv(tmp_path / "train.csv", [["a", "line 1\nline 2\n"]], ["material_id", "cif"])
    path.write_bytes(path.read_bytes()[:-5])
    assert "cut off or damaged" in error_of(path)


def test_row_with_too_few_cells(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("material_id,cif,band_gap\na,x,1\nb,y\n")
    assert "row 2 has 2 of 3 columns" in error_of(path)


def test_truncated_archives(two_rows, tmp_path):
    packed = tmp_path / "train.csv.gz"
    packed.write_bytes(gzip.compress(two_rows.read_bytes() * 50)[:-20])
    assert "cut off or damaged" in error_of(packed)
    packed.write_bytes(two_rows.read_bytes())
    assert "cut off or damaged" in error_of(packed)
    zipped = tmp_path / "train.csv.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(two_rows, "train.csv")
    zipped.write_bytes(zipped.read_bytes()[:-30])
    assert "cut off or damaged" in error_of(zipped)


def test_zip_of_several_files(two_rows, tmp_path):
    zipped = tmp_path / "train.csv.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(two_rows, "a.csv")
        archive.write(two_rows, "b.csv")
    assert "holds 2 files" in error_of(zipped)


def test_other_encodings_and_names(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"material_id,cif\na,\xff\n")
    assert "not UTF-8" in error_of(path)
    path = tmp_path / "train.pkl"
    path.write_bytes(b"x")
    assert "neither in .csv nor in .json" in error_of(path)


def test_json_of_all_splits_with_escaped_line_ends(tmp_path):
    path = tmp_path / "structures.json"
    path.write_text(json.dumps({"train": {"1": "a\\nb"}, "val": {"2": "c"}, "test": {}}))
    assert [(record.id, record.text) for record in read_source(path, "train").records] == [("1", "a\nb")]
    assert "no split 'holdout'; there are train, val, test" in error_of(path, "holdout")
    assert "the split 'test' is empty" in error_of(path, "test")


def test_json_of_one_split_with_texts_or_structures(tmp_path):
    path = tmp_path / "train.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"1": "a", "2": {"sites": [], "lattice": {}}}).encode()))
    records = read_source(path, "train").records
    assert [record.id for record in records] == ["1", "2"]
    assert json.loads(records[1].text) == {"sites": [], "lattice": {}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"train": {"1": "a", "1": "b"}}', "entries 1 and 2 have the same id '1'"),
        ('{"train": {"1": "a", "2"', "not whole JSON"),
        ("[1, 2]", "not of the form"),
        ('{"train": {"1": 5}}', "the entry '1' is no crystal"),
        ("{}", "is empty"),
    ],
)
def test_bad_json(tmp_path, content, said):
    path = tmp_path / "train.json"
    path.write_text(content)
    assert said in error_of(path)


def test_find_source_prefers_the_split_over_the_shared_file(tmp_path):
    for name in ("structures.json.zip", "train.csv.gz", "val.json", "train_ids.csv"):
        (tmp_path / name).touch()
    assert find_source(tmp_path, "train").name == "train.csv.gz"
    assert find_source(tmp_path, "val").name == "val.json"
    assert find_source(tmp_path, "test").name == "structures.json.zip"
    assert find_source(tmp_path / "val.json", "train").name == "val.json"


def test_find_source_names_what_there_is(tmp_path):
    (tmp_path / "other.csv").touch()
    with pytest.raises(SourceError, match=r"train\.csv.*other\.csv"):
        find_source(tmp_path, "train")
    with pytest.raises(SourceError, match="no such file or folder"):
        find_source(tmp_path / "absent", "train")
