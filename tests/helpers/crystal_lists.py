"""Inputs of scoring from plain lists of crystals."""

from dataclasses import fields

from xtalgen.structure.crystal_list import CrystalList


def listed(kind, *values, **named):
    """Returns an `Inputs`, `Predictions` or `Requests` whose plain lists of crystals are made CrystalLists."""
    given = dict(zip((item.name for item in fields(kind)), values, strict=False)) | named
    lists = {item.name for item in fields(kind) if "CrystalList" in str(item.type)}
    return kind(**{
        name: CrystalList.of(value) if name in lists and value is not None else value for name, value in given.items()
    })  # fmt: skip
