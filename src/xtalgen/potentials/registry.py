"""The list of potentials, their identification and loading. To add one: docs/guides/add-a-potential.md."""

import hashlib
import importlib.metadata
from pathlib import Path

from xtalgen.potentials.chgnet import Chgnet
from xtalgen.potentials.mace import Mace
from xtalgen.potentials.types import (
    CORRECTED,
    PBE_FLOOR,
    R2SCAN_FLOOR,
    RAW,
    Identity,
    Potential,
    PotentialEntry,
    PotentialError,
)
from xtalgen.runtime.quiet import quiet

CHGNET, MACE = Chgnet(), Mace()
CHECKPOINTS = MACE  # the family of weights given by path
ASL = "ASL"  # Academic Software License, as the authors publish some MACE weights (github.com/ACEsuit/mace-foundations)

# Name, family, licence of the weights, scale of the total energies. Models trained on other data sets (OMat24, MatPES,
# r2SCAN) match neither of the Materials Project's scales.
ENTRIES = (
    PotentialEntry(
        "mace-small",
        MACE,
        "MIT",
        CORRECTED,
        "mace-small.safetensors",
        "389b0b40876b4d39fc9b0075ef88923a4109948a39558bb4e6bbefa6ada2e662",
    ),
    PotentialEntry("chgnet", CHGNET, "BSD-3-Clause-LBNL", CORRECTED, "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
    PotentialEntry(
        "chgnet-r2scan",
        CHGNET,
        "BSD-3-Clause-LBNL",
        None,
        "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        energy_floor=R2SCAN_FLOOR,
    ),
    PotentialEntry("small", MACE, "MIT", RAW),
    PotentialEntry("medium", MACE, "MIT", RAW),
    PotentialEntry("large", MACE, "MIT", RAW),
    PotentialEntry("small-0b", MACE, "MIT", RAW),
    PotentialEntry("medium-0b", MACE, "MIT", RAW),
    PotentialEntry("small-0b2", MACE, "MIT", RAW),
    PotentialEntry("medium-0b2", MACE, "MIT", RAW),
    PotentialEntry("large-0b2", MACE, "MIT", RAW),
    PotentialEntry("medium-0b3", MACE, "MIT", RAW),
    PotentialEntry("medium-mpa-0", MACE, "MIT", RAW),
    PotentialEntry("small-omat-0", MACE, ASL, None),
    PotentialEntry("medium-omat-0", MACE, ASL, None),
    PotentialEntry("mace-matpes-pbe-0", MACE, ASL, None),
    PotentialEntry("mace-matpes-r2scan-0", MACE, ASL, None, energy_floor=R2SCAN_FLOOR),
)
POTENTIALS = {entry.name: entry for entry in ENTRIES}
FAMILIES = {entry.family.name: entry.family for entry in ENTRIES}


def identify(name: str, sha256: str | None = None, dtype: str | None = None) -> Identity:
    """Returns the identity of a potential without loading it; a foundation model that is missing is downloaded.

    name: of an entry of `POTENTIALS`, or the path of a MACE checkpoint (a pickle of mace-torch, or safetensors as the
    stage `distil` writes them). dtype: None for the family's default. Raises PotentialError for an unknown name, a
    missing file, a precision that the family lacks, or weights that differ from `sha256`; ImportError when the family's
    library is not installed.
    """
    entry = POTENTIALS.get(name)
    family = entry.family if entry else CHECKPOINTS
    installed = importlib.metadata.version(family.package)
    file = family.find_weights(entry) if entry else Path(name).absolute()
    if not file.is_file():
        known = ", ".join(POTENTIALS)
        raise PotentialError(f"potential {name!r}: no such file. Give the path of a MACE checkpoint or one of {known}.")
    dtype = dtype or family.dtypes[0]
    if dtype not in family.dtypes:
        raise PotentialError(f"potential {name!r}: has no {dtype}; leave dtype out.")
    wanted = sha256 or (entry.sha256 if entry else None)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if wanted is not None and found != wanted.lower():
        raise PotentialError(
            f"potential {name!r}: {file} has sha256 {found}, the configuration wants {wanted}. "
            "Fetch the file again, or correct the configuration if this is the file you mean."
        )
    # A checkpoint does not state its functional; the authors' file names do.
    floor = entry.energy_floor if entry else R2SCAN_FLOOR if "r2scan" in name else PBE_FLOOR
    return Identity(
        name,
        family.name,
        file,
        found,
        version=f"{family.package} {installed}",
        licence=entry.licence if entry else "as the owner of the file says",
        dtype=dtype,
        energy_floor=floor,
        scale=energy_scale(name) or family.read_metadata(file).get("energy_scale") or None,
        pinned=wanted is not None,
    )


def energy_scale(name: str) -> str | None:
    """Returns the scale of a listed potential's total energies, `RAW` or `CORRECTED`; None for other scales."""
    return POTENTIALS[name].energy_scale if name in POTENTIALS else None


def read_metadata(identity: Identity) -> dict[str, str]:
    """Returns the metadata that a potential's file of weights holds; empty where it holds none."""
    return FAMILIES[identity.family].read_metadata(identity.file)


def load(name: str, device: str = "cpu", dtype: str | None = None, sha256: str | None = None) -> Potential:
    """Returns the potential called `name` (see `identify`), ready on a device ("cpu" or "cuda").

    Raises PotentialError as `identify` does, and when the file holds no usable model.
    """
    return load_identified(identify(name, sha256, dtype), device)


def load_identified(identity: Identity, device: str) -> Potential:
    """Returns the potential of an identity. Raises PotentialError when its file changed or holds no usable model."""
    with quiet():
        try:
            return FAMILIES[identity.family].load(identity, device)
        except PotentialError:
            raise
        except Exception as error:
            raise PotentialError(
                f"potential {identity.name!r}: {identity.file} cannot be loaded ({type(error).__name__}: {error})."
            ) from error
