"""Pinned tables: read when they are the released ones, refused else."""

import pytest

from xtalgen.metrics.compositions import FILE, FILE_SHA256
from xtalgen.metrics.coverage import CONSTANTS, CONSTANTS_SHA256
from xtalgen.runtime import pinned_tables as pinned


def test_tables_are_the_released_ones():
    assert len(pinned.read_pinned(FILE, FILE_SHA256)["elements"]) == 103
    constants = pinned.read_pinned(CONSTANTS, CONSTANTS_SHA256)
    assert len(constants["means"]) == len(constants["deviations"]) == 132
    assert min(constants["deviations"]) > 0


def test_another_table_is_refused(tmp_path):
    changed = tmp_path / FILE.name
    changed.write_text(FILE.read_text().replace("[-1, 1]}", "[1]}", 1))
    with pytest.raises(ValueError, match=r"smact_2_2_1\.yaml: differs from the table of this release"):
        pinned.read_pinned(changed, FILE_SHA256)
