"""Machine-learned potentials by name: CHGNet from its wheel, a small MACE of our own, MACE foundation models, files."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from xtalgen.potentials import restricted_unpickler as pickled
from xtalgen.potentials.batch import capacity, chgnet_evaluator, mace_evaluator
from xtalgen.potentials.mace_safetensors import SUFFIX, ModelFileError, load_mace, read_metadata
from xtalgen.potentials.types import Identity, Potential, PotentialError

CHGNET = {
    "chgnet": ("0.3.0", "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"),
    "chgnet-r2scan": ("r2scan", "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar"),
}
# Licences of the weights as their authors publish them (github.com/ACEsuit/mace-foundations).
MACE = {
    **dict.fromkeys(("small", "medium", "large", "small-0b", "medium-0b"), "MIT"),
    **dict.fromkeys(("small-0b2", "medium-0b2", "large-0b2", "medium-0b3", "medium-mpa-0"), "MIT"),
    **dict.fromkeys(("small-omat-0", "medium-omat-0", "mace-matpes-pbe-0", "mace-matpes-r2scan-0"), "ASL"),
}
# Our own, shipped with the package, experimental: a MACE that learned from CHGNet (docs/models/mace-small.md).
SMALL = "mace-small"
SMALL_FILE = Path(__file__).parent / "weights" / f"{SMALL}{SUFFIX}"
SMALL_SHA256 = "389b0b40876b4d39fc9b0075ef88923a4109948a39558bb4e6bbefa6ada2e662"
# On which scale the Materials Project would put the total energies: "corrected" with its MP2020 corrections, "raw" as
# VASP gave them with its settings. Other training sets (OMat24, MatPES, r2SCAN) lie on neither.
RAW, CORRECTED = "raw", "corrected"
SCALES = {
    SMALL: CORRECTED,
    "chgnet": CORRECTED,
    **dict.fromkeys(("small", "medium", "large", "small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2"), RAW),
    **dict.fromkeys(("medium-0b3", "medium-mpa-0"), RAW),
}
# Total energies of PBE end near -15 eV/atom (lanthanides, W), those of r2SCAN lie lower because their cores do.
ENERGY_FLOOR = {"pbe": -20.0, "r2scan": -60.0}


def identify(name: str, sha256: str | None = None, dtype: str | None = None) -> Identity:
    """Returns the identity of a potential without loading it; a foundation model that is not here is downloaded.

    name: "mace-small", "chgnet", "chgnet-r2scan", a name of `MACE`, or the path of a MACE checkpoint (a pickle, or
    safetensors as the stage `distil` writes them). dtype: None for the potential's
    own (MACE float64, as its authors advise for relaxation; CHGNet knows float32 only). Raises PotentialError for an
    unknown name, a missing file, or weights that differ from the wanted `sha256`.
    """
    if name in CHGNET:
        spec = importlib.util.find_spec("chgnet")
        folder = Path(str(spec and spec.origin)).parent / "pretrained"
        kind, file, licence, package = "chgnet", folder / CHGNET[name][1], "BSD-3-Clause-LBNL", "chgnet"
    elif name == SMALL:
        kind, file, licence, package = "mace", SMALL_FILE, "MIT", "mace-torch"
        sha256 = sha256 or SMALL_SHA256
    else:
        kind, package = "mace", "mace-torch"
        file = _foundation_file(name) if name in MACE else Path(name).absolute()
        licence = MACE.get(name, "as the owner of the file says")
    if not file.is_file():
        known = ", ".join((SMALL, *CHGNET, *MACE))
        raise PotentialError(f"potential {name!r}: no such file. Give the path of a MACE checkpoint or one of {known}.")
    dtype = dtype or {"chgnet": "float32", "mace": "float64"}[kind]
    if dtype not in ("float32", "float64") or (kind == "chgnet" and dtype != "float32"):
        raise PotentialError(f"potential {name!r}: has no {dtype}; leave dtype out.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise PotentialError(
            f"potential {name!r}: {file} has sha256 {found}, the configuration wants {sha256}. "
            "Fetch the file again, or correct the configuration if this is the file you mean."
        )
    floor = ENERGY_FLOOR["r2scan" if "r2scan" in name else "pbe"]
    version = f"{package} {importlib.metadata.version(package)}"
    stored = stored_facts(file) if file.name.endswith(SUFFIX) else {}
    scale = energy_scale(name) or stored.get("energy_scale") or None
    return Identity(name, kind, file, found, version, licence, dtype, floor, scale, sha256 is not None)


def energy_scale(name: str) -> str | None:
    """Returns the scale of a potential's total energies, "raw" or "corrected"; None where they lie on neither."""
    return SCALES.get(name)


def load(name: str, device: str = "cpu", dtype: str | None = None, sha256: str | None = None) -> Potential:
    """Returns the potential called `name` (see `identify`), ready on a device ("cpu" or "cuda").

    Raises PotentialError as `identify` does, and when the file holds no usable model.
    """
    return load_identified(identify(name, sha256, dtype), device)


def load_identified(identity: Identity, device: str) -> Potential:
    """Returns the potential of an identity. Raises PotentialError when its file changed or holds no usable model."""
    with quiet():
        try:
            return _load_chgnet(identity, device) if identity.kind == "chgnet" else _load_mace(identity, device)
        except PotentialError:
            raise
        except Exception as error:
            raise PotentialError(
                f"potential {identity.name!r}: {identity.file} cannot be loaded ({type(error).__name__}: {error})."
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what the libraries print, warn and log; their errors still pass."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _load_chgnet(identity: Identity, device: str) -> Potential:
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator

    model = CHGNet.load(model_name=CHGNET[identity.name][0], use_device=device, verbose=False)
    # CHGNet gives an atom without neighbours zero force, so a cell that fell apart would pass as converged.
    calculator = CHGNetCalculator(model, use_device=device, on_isolated_atoms="error")
    known = frozenset(range(1, model.composition_model.fc.in_features + 1))
    cutoff = float(model.graph_converter.atom_graph_cutoff)
    return Potential(identity, calculator, known, cutoff, chgnet_evaluator(model, device), capacity("chgnet", device))


def _load_mace(identity: Identity, device: str) -> Potential:
    with _mace_environment():
        import mace  # noqa: F401 - before e3nn: it lets e3nn 0.4.4 load its own constants with torch >= 2.6
        import torch
        from mace.calculators import MACECalculator

        content = identity.file.read_bytes()
        if hashlib.sha256(content).hexdigest() != identity.sha256:
            raise PotentialError(f"potential {identity.name!r}: {identity.file} changed while it was in use. Rerun.")
        if identity.file.name.endswith(SUFFIX):
            model = load_mace(content).to(device)
        else:
            # A MACE checkpoint is a pickled module: unpickling runs its code. One that names anything but the libraries
            # of such a model is opened only where the owner of the configuration gave its digest.
            module = None if identity.pinned else pickled
            model = torch.load(io.BytesIO(content), map_location=device, weights_only=False, pickle_module=module)
        calculator = MACECalculator(models=model, device=device, default_dtype=identity.dtype)
        head = calculator.available_heads.index(calculator.head)
        evaluate = mace_evaluator(calculator.models[0], device, identity.dtype, head)
    known = frozenset(int(z) for z in model.atomic_numbers)
    return Potential(identity, calculator, known, float(calculator.r_max), evaluate, capacity("mace", device))


def stored_facts(file: Path) -> dict[str, str]:
    """Returns what a MACE model in safetensors says of itself; nothing where the file is no such model."""
    try:
        return read_metadata(file.read_bytes())
    except ModelFileError:
        return {}  # loading the model says what is wrong


def _foundation_file(name: str) -> Path:
    with _mace_environment(), quiet():
        import mace  # noqa: F401 - before e3nn, as above
        from mace.calculators import foundations_models as foundations
        from mace.tools.utils import get_cache_dir
    url = foundations.mace_mp_urls[name]
    cache = Path(get_cache_dir())
    file = cache / "".join(letter for letter in url.rsplit("/", 1)[1] if letter.isalnum() or letter == "_")
    if file.is_file():
        return file
    print(f"potential {name}: downloading {url} to {file}", file=sys.stderr)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own, as jobs of one cluster may start together and mace writes to one fixed name.
        with tempfile.TemporaryDirectory(dir=cache) as folder, _environment("XDG_CACHE_HOME", folder), quiet():
            fetched = Path(foundations.download_mace_mp_checkpoint(name))
            if Path(folder) not in fetched.parents:
                return fetched
            fetched.replace(file)
    except (OSError, RuntimeError) as error:
        raise PotentialError(
            f"potential {name!r}: cannot download {url} ({error}). Fetch it on a machine with network and put it at "
            f"{file}, or give the path of the file as the potential."
        ) from error
    return file


@contextlib.contextmanager
def _mace_environment() -> Iterator[None]:
    """Undoes, after the import, that mace makes every later `torch.load` unpickle anything."""
    with _environment("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None):
        yield


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Sets an environment variable (None: unset) and puts back what was there, whatever was set meanwhile."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
