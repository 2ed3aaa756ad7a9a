"""Relaxes a user's structures with a machine-learned potential."""

import tempfile
from pathlib import Path
from typing import Any

from xtalgen.commands.functions.inputs import write_given
from xtalgen.commands.functions.results import CrystalSet
from xtalgen.crystals import read_crystals
from xtalgen.experiment.places import user_cache
from xtalgen.potentials.registry import identify
from xtalgen.runtime.parallel import available_cores
from xtalgen.runtime.resume import content_key
from xtalgen.stages.relax import relax as relax_table

DEFAULT_POTENTIAL = "chgnet"


def relax(
    structures: Any,
    potential: str = DEFAULT_POTENTIAL,
    *,
    fmax: float = 0.05,
    max_steps: int = 500,
    timeout: float | None = 600.0,
    column: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
) -> CrystalSet:
    """Returns the relaxed structures, in order, with `energy` (eV), `converged`, `n_steps`, `rmsd` (Å) and more.

    structures: pymatgen Structures, ASE Atoms, crystals of this package, or paths, one or several. potential: its name,
    or the path of a MACE checkpoint. fmax: largest force on atoms and cell, eV/Å. timeout: seconds per crystal. A
    crystal that fails keeps its geometry; `status` and `relax_error` say why. Finished crystals are kept in `cache`, so
    that a killed run resumes. Raises PotentialError, ValueError or OSError, saying what to do.
    """
    workers = workers or available_cores()
    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        given, out = (Path(folder) / name for name in ("given.parquet", "relaxed.parquet"))
        write_given(structures, given, workers=workers, column=column)
        # Ids are part of the table but not of the work: equal structures of another file are found again, too.
        named = {"potential": identify(potential).sha256, "fmax": fmax, "max_steps": max_steps}
        work = (Path(cache) if cache else user_cache()) / "relaxing" / content_key(given, **named)[:32]
        relax_table(
            given,
            potential=potential,
            fmax=fmax,
            max_steps=max_steps,
            workers=workers,
            timeout=timeout,
            work=work,
            out=out,
            device=device,
        )
        return CrystalSet(read_crystals(out))
