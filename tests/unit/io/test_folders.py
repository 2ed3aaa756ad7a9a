"""Folders: files of one kind in natural order, MatterGen's output, mixtures refused with a list."""

import json

import numpy as np
import pytest

from user_files import SALT, cif, frames, statuses, zipped
from xtalgen.io.folders import check_structure_file, find_files, iterate_folder
from xtalgen.io.structure_files import parse_entry
from xtalgen.stages.import_structures import iterate_structures, read_structures

POSCAR = SALT.to(fmt="poscar")


def write(folder, **files):
    """Writes files whose names have __ for a slash and _ for the dot of a suffix."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_D_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def names(folder, **options):
    return [entry.name for entry in iterate_folder(folder, **options)]


def test_files_below_a_folder_in_natural_order(tmp_path):
    write(tmp_path, gen_10_D_cif=cif(), gen_2_D_cif=cif("x") + cif("y"), deep__b_D_cif=cif(), README_D_md="x")
    write(tmp_path, _D_hidden_D_cif="x", _D_git__c_D_cif="x", __MACOSX__d_D_cif="x")
    (tmp_path / "__MACOSX").mkdir(exist_ok=True)
    (tmp_path / "__MACOSX" / "d.cif").write_text("x")
    assert names(tmp_path)[-3:] == ["gen_2.cif:x", "gen_2.cif:y", "gen_10.cif"]
    assert "deep/b.cif" in names(tmp_path)
    assert not any("hidden" in name or "MACOSX" in name or ".git" in name for name in names(tmp_path))


def test_names_of_entries_are_kept_and_numbers_get_the_file(tmp_path):
    write(tmp_path, a_D_extxyz=frames({"name": "halite"}, {}), sub__b_D_xyz=frames({}))
    crystals = read_structures(tmp_path, 1)
    assert [crystal.info["source_name"] for crystal in crystals] == ["halite", "a.extxyz:frame 1", "sub/b.xyz:frame 0"]
    assert [crystal.id.rpartition("-")[2] for crystal in crystals] == ["000000", "000001", "000002"]


def test_vasp_files_in_folders_of_their_own(tmp_path):
    write(tmp_path, mp_1__CONTCAR=POSCAR, mp_2__CONTCAR=POSCAR, mp_1__INCAR="x")
    assert names(tmp_path) == ["mp_1/CONTCAR", "mp_2/CONTCAR"]
    write(tmp_path, mp_1__POSCAR=POSCAR)
    with pytest.raises(ValueError, match=r"several kinds \(2 CONTCAR, 1 POSCAR\).*--files"):
        find_files(tmp_path)
    assert names(tmp_path, pattern="CONTCAR*") == ["mp_1/CONTCAR", "mp_2/CONTCAR"]


def test_a_mixture_is_refused_with_a_list(tmp_path):
    write(tmp_path, a_D_cif=cif(), b_D_cif=cif(), all_D_extxyz=frames({}))
    with pytest.raises(ValueError, match=r"several kinds \(2 \.cif, 1 \.extxyz\), which may be the same"):
        check_structure_file(tmp_path)
    assert names(tmp_path, pattern="*.extxyz") == ["all.extxyz:frame 0"]


def test_what_describes_the_files_is_left_out(tmp_path):
    write(tmp_path, a_D_cif=cif(), atom_init_D_json=json.dumps({"1": [0, 1]}), id_prop_D_csv="a,1.0\n")
    assert names(tmp_path) == ["a.cif"]
    write(tmp_path, more_D_csv=f'id,cif\nb,"{cif()}"\n')
    with pytest.raises(ValueError, match=r"several kinds \(1 \.cif, 1 \.csv\)"):
        find_files(tmp_path)


def test_json_alone_is_read(tmp_path):
    write(tmp_path, a_D_json=json.dumps([SALT.as_dict()]), b_D_json_D_gz=b"no gzip")
    crystals = read_structures(tmp_path, 1)
    assert statuses(crystals) == ["ok", "unparsable"]
    assert crystals[1].info["source_name"] == "b.json.gz"
    assert "not a readable gzip file" in crystals[1].info["error"]


def test_mattergens_folder_is_its_extxyz_with_the_energies(tmp_path):
    write(
        tmp_path,
        generated_crystals_D_extxyz=frames({}, {}),
        generated_crystals_cif_D_zip=zipped(gen_0_cif=cif(), gen_1_cif=cif()),
        generated_trajectories_D_zip=zipped(gen_0_cif=cif()),
    )
    assert [crystal.info["energy_given"] for crystal in read_structures(tmp_path, 1)] == [None, None]
    np.save(tmp_path / "energies.npy", np.array([-7.5, -8.5]))
    assert [crystal.info["energy_given"] for crystal in read_structures(tmp_path, 1)] == [-7.5, -8.5]
    np.save(tmp_path / "energies.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"energies\.npy: not an array of numbers"):
        read_structures(tmp_path, 1)


def test_folders_without_a_crystal(tmp_path):
    with pytest.raises(ValueError, match=r"no structure file in this folder \(it is empty\)\. Give a folder with"):
        check_structure_file(tmp_path)
    write(tmp_path, a_D_txt="x", b_D_txt="x", Makefile="x")
    with pytest.raises(ValueError, match=r"no structure file in this folder \(it holds 2 \.txt, 1 Makefile\)"):
        check_structure_file(tmp_path)


def test_an_id_twice_is_a_warning_of_the_row(tmp_path):
    text = "".join(f'{name},"{cif()}"\n' for name in ("mp-1", "mp-2", "mp-1"))
    (tmp_path / "mine.csv").write_text(f"id,cif\n{text}")
    crystals = list(iterate_structures(tmp_path / "mine.csv", 1))
    assert [crystal.info["source_name"] for crystal in crystals] == ["mp-1", "mp-2", "mp-1"]
    warnings = [crystal.info["warning"] for crystal in crystals]
    assert warnings == [None, None, "an earlier entry is called 'mp-1', too"]


def test_entries_parse(tmp_path):
    write(tmp_path, a_D_cif=cif(), b_D_cif="rubbish")
    assert statuses([parse_entry(entry) for entry in iterate_folder(tmp_path)]) == ["ok", "unparsable"]
