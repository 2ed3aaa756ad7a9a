"""Stage `phase_diagram`: the Materials Project's entries of 2023-02-07 with MP2020 corrections, in one small file.

matbench-discovery downloads them (figshare, 170 MB, with structures). Only this module imports it, since its import
downloads files and creates folders.
"""

import gzip
import json
from pathlib import Path

from xtalgen.runtime.atomic import write_bytes
from xtalgen.thermodynamics.phase_diagram_files import read_phase_diagram


def fetch_phase_diagram(out: Path) -> None:
    """Writes the composition and the corrected energy (eV) of every entry, whole or not at all.

    Raises ModuleNotFoundError, with the remedy, where matbench-discovery is not installed, and ContractError when the
    downloaded file does not hold corrected entries.
    """
    try:
        from matbench_discovery.data import DataFiles
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: hull mp2020 fetches its phase diagram in an environment of its own. Run Snakemake with --sdm "
            "conda, or give a phase diagram that you have as relax.phase_diagram."
        ) from error
    entries = read_phase_diagram(Path(DataFiles.mp_computed_structure_entries.path))
    content = [
        {"entry_id": each.name, "composition": dict(each.composition), "energy": each.energy} for each in entries
    ]
    write_bytes(out, gzip.compress(json.dumps(content).encode(), mtime=0))
