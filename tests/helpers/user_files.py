"""Structure files as users bring them, in several formats, and their way through the stage."""

import io
import zipfile

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from pymatgen.core import Lattice, Structure

from xtalgen.crystals import read_crystals
from xtalgen.stages.import_structures import import_structures

SALT = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
CIF = """\
data_{name}
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na Na0 0.1 0.2 0.3 {occupancy}
{symbol} Cl1 0.6 0.7 {z} 1
"""


def cif(name="NaCl", *, c="4.0", occupancy="1", symbol="Cl", z="0.8"):
    return CIF.format(name=name, c=c, occupancy=occupancy, symbol=symbol, z=z)


def imported(folder, name, content):
    """Returns the crystals of a file with this name and content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    import_structures(path, out=[folder / "out.parquet"], workers=1)
    return read_crystals(folder / "out.parquet")


def assert_salt(crystal, prefix="mine"):
    assert crystal.status == "ok", crystal.info["error"]
    assert crystal.id.startswith(f"{prefix}-0")
    np.testing.assert_allclose(crystal.lattice, np.eye(3) * 4.0, atol=1e-8)
    np.testing.assert_allclose(crystal.frac_coords, [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], atol=1e-8)
    assert crystal.atomic_numbers.tolist() == [11, 17]


def frames(*infos):
    atoms = []
    for info in infos:
        one = Atoms("NaCl", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], cell=np.eye(3) * 4.0, pbc=True)
        one.info.update(info)
        if "energy" in info:
            one.calc = SinglePointCalculator(one, energy=one.info.pop("energy"))
        atoms.append(one)
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return text.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(
                name.replace("__MACOSX__", "__MACOSX/").replace("a__", "a/").replace("_cif", ".cif"), content
            )
    return stream.getvalue()


def statuses(crystals):
    return [crystal.status for crystal in crystals]
