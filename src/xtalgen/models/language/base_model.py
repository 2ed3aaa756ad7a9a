"""Base models, pretrained language models to be adapted: by name, by path, or from a GGUF file.

Only weights are read, from safetensors or GGUF files; code of a base model is never executed.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xtalgen.models.language.sharded_base_model import load_sharded
from xtalgen.models.language.tokenizer import Vocabulary
from xtalgen.runtime.atomic import file_sum
from xtalgen.training.distributed import current

BYTES = {"float32": 4.0, "bfloat16": 2.0, "8bit": 1.0, "4bit": 0.55}
# Factor for memory besides the weights: while loading, and for activations.
OVERHEAD = 1.2
SAMPLED_ROWS = 64
PAD = "<|pad|>"
GGUF_MAGIC = b"GGUF"
ARCHIVES = (".whl", ".zip")
logger = logging.getLogger(__name__)


class BaseError(ValueError):
    """A base model cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Base:
    """A causal language model with its vocabulary. padded: whether a padding token was added to both.

    digest: differs between base models of different weights or tokenizers.
    """

    network: Any
    vocabulary: Vocabulary
    padded: bool
    digest: str


def load_base(base: str, precision: str, device: str, cache: Path | None = None, *, sharded: bool = False) -> Base:
    """Returns a base model. base: name on the Hugging Face hub, folder, GGUF file, or archive with one.

    precision: of the weights, see `BYTES`; "8bit" and "4bit" need bitsandbytes and a GPU. cache: folder in which GGUF
    files are unpacked and converted once; by default `xtalgen` in the user's cache folder. sharded: whether the current
    processes share the weights, see `sharded_base_model`. Raises BaseError without access, file, fast tokenizer or
    enough memory.
    """
    _quiet()
    base = str(Path(base).expanduser()) if base.startswith("~") else base
    location = str(_unpack(Path(base), cache or cache_folder()) if base.endswith((".gguf", *ARCHIVES)) else base)
    network = _read(base, lambda: _load_network(base, location, precision, device, sharded=sharded))
    tokenizer = _read(base, lambda: _load_tokenizer(location))
    if getattr(tokenizer, "backend_tokenizer", None) is None or tokenizer.eos_token_id is None:
        raise BaseError(f"base {base!r}: its tokenizer is not a fast one or has no end token. Choose another base.")
    padded = _add_pad(network, tokenizer)
    try:
        vocabulary = Vocabulary(tokenizer.backend_tokenizer, tokenizer.eos_token_id, tokenizer.pad_token_id)
    except ValueError as error:
        raise BaseError(f"base {base!r}: {error}") from error
    if len(vocabulary) > len(network.get_input_embeddings().weight):
        raise BaseError(f"base {base!r}: its tokenizer has more tokens than the network. Choose another base.")
    return Base(network, vocabulary, padded, _digest(network, vocabulary))


def cache_folder() -> Path:
    """Returns the folder of converted base models: $XTALGEN_CACHE, or xtalgen in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("XTALGEN_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xtalgen"


def available_memory(device: str) -> int:
    """Returns the free memory of a device in bytes."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    import psutil  # comes with peft and accelerate

    return psutil.virtual_memory().available


def check_memory(base: str, parameters: int, precision: str, device: str) -> None:
    """Raises BaseError, naming what would fit, when a base model of this size exceeds the free memory."""
    free = available_memory(device)
    # Bytes: parameters · bytes per weight · overhead for loading and activations.
    need = {name: parameters * size * OVERHEAD for name, size in BYTES.items()}
    if need[precision] <= free:
        return
    smaller = [name for name in BYTES if need[name] <= free and (device == "cuda" or BYTES[name] >= 2)]
    options = [f"base_precision {name} ({need[name] / 1e9:.1f} GB)" for name in smaller]
    largest = free / OVERHEAD / BYTES["bfloat16"]
    options.append(f"a base of at most {largest / 1e9:.2f} billion parameters in bfloat16")
    raise BaseError(
        f"base {base!r}: its {parameters / 1e9:.2f} billion parameters need {need[precision] / 1e9:.1f} GB in "
        f"{precision}, but {free / 1e9:.1f} GB are free on {device}. What would fit: {'; '.join(options)}."
    )


def _load_network(base: str, location: str, precision: str, device: str, *, sharded: bool) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(location)
    # Counting parameters on the meta device needs no memory, so a base that is too large is refused first.
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    check_memory(base, parameters // (current().world if sharded else 1), precision, device)
    if sharded:
        return load_sharded(config, location, getattr(torch, precision), device)
    if precision in ("8bit", "4bit"):
        return _load_quantised(base, location, precision, device)
    network = AutoModelForCausalLM.from_pretrained(location, dtype=getattr(torch, precision), use_safetensors=True)
    return network.to(device)


def _load_quantised(base: str, location: str, precision: str, device: str) -> Any:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None or device != "cuda":
        raise BaseError(
            f"base {base!r}: base_precision {precision} needs a GPU and the package bitsandbytes (pip install "
            "bitsandbytes). Install it, or set base_precision to bfloat16."
        )
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    kind = BitsAndBytesConfig(load_in_8bit=precision == "8bit", load_in_4bit=precision == "4bit")
    network = AutoModelForCausalLM.from_pretrained(
        location, quantization_config=kind, device_map={"": torch.cuda.current_device()}, use_safetensors=True
    )
    return prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)


def _load_tokenizer(location: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location)


def _read(base: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except BaseError:
        raise
    except Exception as error:  # a damaged file may raise anything
        if _is_path(base) and not Path(base).exists():
            raise BaseError(f"base {base!r}: there is no such file or folder.") from error
        said = " ".join(str(error).split())[:150]
        if Path(base).exists():
            raise BaseError(f"base {base!r}: not a readable causal language model ({said}).") from error
        raise BaseError(
            f"base {base!r}: no folder of this name, and the Hugging Face hub does not give it ({said}). A gated one "
            f"needs access: ask at https://huggingface.co/{base}, then log in (`hf auth login` or HF_TOKEN). "
            f"Without a network, fetch it elsewhere (`hf download {base} --local-dir FOLDER`) and set `base: FOLDER`. "
            "Bases without a login are in docs/models/crystal_text_llm.md."
        ) from error


def _is_path(base: str) -> bool:
    return base.startswith((".", "/")) or base.count("/") > 1


def _add_pad(network: Any, tokenizer: Any) -> bool:
    """Adds a padding token with the mean embedding, unless there is one that differs from the end token."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return False
    tokenizer.add_special_tokens({"pad_token": PAD})
    network.config.pad_token_id = tokenizer.pad_token_id
    size = network.get_input_embeddings().weight.shape[0]
    if tokenizer.pad_token_id >= size:
        network.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
    for layer in embeddings(network):
        with torch.no_grad():
            # Any value would do, since padding is masked; the mean has a usual norm.
            layer.weight[tokenizer.pad_token_id] = layer.weight[:size].float().mean(dim=0).to(layer.weight.dtype)
    return True


def embeddings(network: Any) -> list[Any]:
    """Returns the layers with one row per token: the first, and the last unless it shares the first one's weights."""
    first, last = network.get_input_embeddings(), network.get_output_embeddings()
    return [first] if last is None or last.weight is first.weight else [first, last]


def _digest(network: Any, vocabulary: Vocabulary) -> str:
    """Returns a digest of tokenizer, vectors (norms, biases) and some embeddings, equal in every precision."""
    digest = hashlib.sha256(vocabulary.tokenizer.to_str().encode())
    vectors = [weight for _, weight in sorted(network.named_parameters()) if weight.dim() == 1]
    for weight in [network.get_input_embeddings().weight[:SAMPLED_ROWS], *vectors]:
        weight = weight.full_tensor() if hasattr(weight, "full_tensor") else weight  # noqa: PLW2901 - sharded
        # In bfloat16, so that float32 and bfloat16 copies of a base model agree.
        digest.update(weight.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _unpack(path: Path, cache: Path) -> Path:
    """Returns the folder of safetensors converted from a GGUF file, or from an archive with one."""
    if not path.is_file():
        raise BaseError(f"base {str(path)!r}: there is no such file.")
    with tempfile.TemporaryDirectory() as folder:
        file = path if path.suffix == ".gguf" else _extract(path, Path(folder))
        with file.open("rb") as stream:
            if stream.read(4) != GGUF_MAGIC:
                raise BaseError(f"base {str(path)!r}: {file.name} is not a GGUF file. Fetch it again.")
            stream.seek(0)
            name = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        out = cache / "bases" / name
        if not _is_whole(out):
            logger.info("converting %s to %s, once", file.name, out)
            _read(str(path), lambda: _convert(file, out))
    return out


def _is_whole(out: Path) -> bool:
    """Whether a folder holds what `_convert` wrote; a damaged one is removed, with a warning."""
    if not out.is_dir():
        return False
    try:
        sums = json.loads((out / "done.json").read_text(encoding="utf-8")).get("sha256", {})
        if all(file_sum(out / name) == kept for name, kept in sums.items()):
            return True
    except (OSError, ValueError, AttributeError):
        pass
    logger.warning("%s: damaged; it is converted again", out)
    shutil.rmtree(out)
    return False


def _extract(path: Path, folder: Path) -> Path:
    """Extracts the only .gguf member of an archive into the folder, and returns its path."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
            if len(members) != 1:
                raise BaseError(f"base {str(path)!r}: holds {len(members)} .gguf files, not one.")
            out = folder / "base.gguf"
            with archive.open(members[0]) as packed, out.open("wb") as file:
                shutil.copyfileobj(packed, file, length=1 << 20)
    except zipfile.BadZipFile as error:
        raise BaseError(f"base {str(path)!r}: a damaged archive ({error}). Fetch it again.") from error
    return out


def _convert(file: Path, out: Path) -> None:
    """Converts a GGUF file to a folder of safetensors in bfloat16: reading GGUF takes half a minute each time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # A model read from GGUF counts as quantised and cannot be saved; a new model with the same weights can.
    config = type(network.config)(**{k: v for k, v in network.config.to_dict().items() if k != "quantization_config"})
    plain = type(network)(config).to(torch.bfloat16)
    plain.load_state_dict(network.state_dict())
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        plain.save_pretrained(part)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(part)
        sums = {kept.name: file_sum(kept) for kept in part.iterdir()}
        (part / "done.json").write_text(json.dumps({"file": file.name, "sha256": sums}), encoding="utf-8")
        part.rename(out)
    except OSError:
        if not (out / "done.json").is_file():  # else another process was faster
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _quiet() -> None:
    if not sys.stderr.isatty():
        from transformers.utils import logging as their_logging

        their_logging.disable_progress_bar()
