"""Crystals that tests of the evaluation share: hand-made ones, the embedded library, and real data where it lies."""

import csv
import functools
import gzip
import warnings
from dataclasses import fields, replace

import numpy as np
from pymatgen.core import Lattice, Structure

from xtalgen.crystals import Crystal
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.pymatgen import from_structure


def rock_salt(identifier="salt", edge=5.64, elements=("Na", "Cl")):
    spaced = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), elements, [[0, 0, 0], [0.5, 0.5, 0.5]])
    return from_structure(spaced.get_primitive_structure(), identifier)


def caesium_chloride(identifier="cesium", edge=3.5, elements=("Na", "Cl")):
    return from_structure(Structure(Lattice.cubic(edge), elements, [[0, 0, 0], [0.5, 0.5, 0.5]]), identifier)


def one_atom(identifier="copper", edge=2.55, number=29):
    lattice = edge / np.sqrt(2) * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(identifier, "ok", lattice, np.zeros((1, 3)), np.array([number], dtype=np.uint8))


def broken(identifier="broken", status="unparsable"):
    return Crystal(identifier, status)


def with_nan(identifier="nan", status="bad_lattice"):
    salt = rock_salt()
    return Crystal(identifier, status, np.full((3, 3), np.nan), salt.frac_coords, salt.atomic_numbers)


def moved(crystal, identifier, *, seed=0, supercell=None):
    """Returns the same crystal rotated, translated, its atoms shuffled, as a supercell where asked for."""
    generator = np.random.default_rng(seed)
    structure = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)
    if supercell:
        structure.make_supercell(supercell)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    order = generator.permutation(len(structure))
    coordinates = (structure.frac_coords[order] + generator.random(3)) % 1.0
    numbers = np.array([site.specie.Z for site in structure], dtype=np.uint8)[order]
    return Crystal(identifier, "ok", structure.lattice.matrix @ rotation, coordinates, numbers)


@functools.cache
def library(largest=20):
    """Returns the crystals with at most so many atoms of the AFLOW prototype library that pymatgen ships."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    found = [entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY]
    return [from_structure(item, f"aflow-{i:03d}") for i, item in enumerate(found) if len(item) <= largest]


@functools.cache
def mp_20(folder, split, n):
    """Returns the first n crystals of a published split of MP-20."""
    with gzip.open(folder / "mp_20" / f"{split}.csv.gz", "rt") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [row for row, _ in zip(csv.DictReader(file), range(n), strict=False)]
        return [from_structure(Structure.from_str(row["cif"], fmt="cif"), row["material_id"]) for row in rows]


@functools.cache
def diffcsp(folder, n):
    """Returns the first n samples of DiffCSP trained on MP-20."""
    with np.load(folder / "samples" / "diffcsp_mp_20.npz") as file:
        data = {name: file[name] for name in file.files}  # each look-up in the file unpacks the whole array
    ends = np.cumsum(data["num_atoms"])
    lattices = lattice_from_parameters(data["lengths"][:n], data["angles"][:n])
    crystals = []
    for index, (end, size) in enumerate(zip(ends[:n], data["num_atoms"][:n], strict=True)):
        coordinates = data["frac_coords"][end - size : end].astype(float) % 1.0
        numbers = data["atom_types"][end - size : end].astype(np.uint8)
        crystals.append(Crystal(f"diffcsp-{index:06d}", "ok", lattices[index], coordinates, numbers))
    return crystals


def listed(kind, *values, **named):
    """Returns an `Inputs`, `Predictions` or `Requests` whose plain lists of crystals are made CrystalLists."""
    given = dict(zip((item.name for item in fields(kind)), values, strict=False)) | named
    lists = {item.name for item in fields(kind) if "CrystalList" in str(item.type)}
    return kind(**{
        name: CrystalList.of(value) if name in lists and value is not None else value for name, value in given.items()
    })  # fmt: skip


# Rock salt, and crystals without a description by Wyckoff positions.
BROKEN = Crystal("broken", "unparsable")
SALT = Crystal("salt", "ok", 2.8 * (1.0 - np.eye(3)), np.array([[0.0] * 3, [0.5] * 3]), np.array([11, 17], np.uint8))


def doubled(given):
    """Returns the supercell of two cells along a."""
    coords = np.concatenate([given.frac_coords, given.frac_coords + np.eye(3)[0]]) / [2.0, 1.0, 1.0]
    numbers = np.tile(given.atomic_numbers, 2)
    return replace(given, lattice=given.lattice * [[2], [1], [1]], frac_coords=coords, atomic_numbers=numbers)


NOT_DESCRIBED = {
    "overlap": replace(SALT, id="overlap", frac_coords=np.zeros((2, 3))),
    "doubled": replace(doubled(SALT), id="doubled"),
}
