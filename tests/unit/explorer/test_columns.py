"""The list of columns, and that one entry is enough for a new one."""

import re

import pyarrow as pa
import pytest

from made_sets import crystal, unpack
from xtalgen.crystals import to_table, write_table
from xtalgen.explorer import columns
from xtalgen.explorer.columns import COLUMNS, Colour, Column, Kind, Shown, column_blocks, computed_by_page
from xtalgen.explorer.crystal_sets import Files
from xtalgen.explorer.encoding import MISSING
from xtalgen.explorer.projection import UmapConfig
from xtalgen.explorer.scripts import PAGE
from xtalgen.stages.explorer import Options, write_explorer

BAND_GAP = Column(
    "band_gap",
    Kind.NUMBER,
    "band gap",
    unit="eV",
    step=0.01,
    digits=2,
    colour=Colour.SCALE,
    ends=(0.0, 5.0),
    shown=Shown.CARD,
)


def test_names_and_blocks_are_unique():
    assert len({column.name for column in COLUMNS}) == len({column.block for column in COLUMNS}) == len(COLUMNS)


def test_implications_name_columns():
    flags = {column.name for column in COLUMNS if column.kind is Kind.FLAG}
    assert {column.implied_by for column in COLUMNS} - {""} <= flags


def test_page_defines_every_way_to_colour_and_every_computed_column():
    colours = (PAGE / "colours.js").read_text()
    for way in Colour:
        assert way is Colour.NONE or re.search(rf"^  {way}\(", colours, re.MULTILINE), way
    computed = (PAGE / "data.js").read_text().split("const COMPUTED")[1]
    for column in COLUMNS:
        assert (column.value is computed_by_page) == bool(re.search(rf"^  {column.name}: ", computed, re.MULTILINE))


def test_flags_and_numbers_are_stored_with_unknown_apart():
    rows = [
        crystal(0, "a", stable=True, rmsd=0.25),
        crystal(1, "b", stable=None, rmsd=None),
        crystal(2, "c", stable=False),
    ]
    kept, blocks = column_blocks(rows, {"stable", "rmsd"})
    assert blocks["is_stable"][1].tolist() == [2, 0, 1]
    assert blocks["rmsd"][1].tolist() == [250, MISSING, MISSING]
    names = {column.name for column in kept}
    assert {"stable", "rmsd", "density"} <= names
    assert not {"novel", "n_steps", "gain"} & names


@pytest.fixture
def page_with_band_gap(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, BAND_GAP))
    rows = [crystal(index, f"x-{index}", band_gap=gap) for index, gap in enumerate((0.0, 1.5, None))]
    write_table(to_table(rows, {"band_gap": pa.float64()}), tmp_path / "x.parquet")
    out = tmp_path / "page.html"
    write_explorer([Files("x", tmp_path / "x.parquet")], [], options=Options(), umap=UmapConfig(), cache=None, out=out)
    return out


def test_one_entry_adds_a_column(page_with_band_gap):
    header, blocks = unpack(re.search(r'id="payload">([^<]*)<', page_with_band_gap.read_text())[1])
    (entry,) = [column for column in header["columns"] if column["name"] == "band_gap"]
    assert (entry["label"], entry["unit"], entry["colour"], entry["ends"]) == ("band gap", "eV", "scale", [0, 5])
    assert blocks["band_gap"].tolist() == [0, 150, MISSING]


def test_guide_names_every_field_of_a_column():
    guide = (PAGE.parents[3] / "docs/guides/add-an-explorer-column.md").read_text()
    fields = set(Column.__dataclass_fields__) - {"name", "kind", "label"}
    assert not {field for field in fields if f"`{field}" not in guide}
