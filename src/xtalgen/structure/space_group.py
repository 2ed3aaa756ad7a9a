"""Space groups, found by moyo."""

import logging

import numpy as np

SYMPREC = 0.1  # Å; loose enough for crystals relaxed to a few 0.01 eV/Å

Item = tuple[np.ndarray, np.ndarray, np.ndarray]


def space_group(item: Item, symprec: float = SYMPREC) -> int:
    """Returns the number of the space group of (lattice, frac_coords, atomic_numbers); 0 where moyo finds none.

    symprec: in Å. moyo finds none when atoms overlap, for example.
    """
    from moyopy import Cell, MoyoDataset

    logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns about every cell that is not primitive
    try:
        return int(MoyoDataset(Cell(*(part.tolist() for part in item)), symprec=symprec).number)
    except Exception:  # noqa: BLE001 - moyo raises its own kinds
        return 0
