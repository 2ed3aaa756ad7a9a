"""Crystal-text-LLM: a language model that writes crystals as text (Gruver et al. 2024, arXiv 2402.04379).

Written from the paper; docs/models/crystal_text_llm.md lists defaults, prompts and every deviation. The paper has no
structure prediction; here its prompt states formula and number of atoms.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractPromptedModel
from xtalgen.models.language.crystal_text import read_crystal_text, unwritable, write_crystal
from xtalgen.models.language.dataset import load_texts
from xtalgen.models.language.decoding import Request, Text, TextSampling, write_texts
from xtalgen.models.language.language_model import SCRATCH, LanguageModel, facts_of, new_model, restore
from xtalgen.models.language.likelihood import score_answers
from xtalgen.models.language.prompts import VERSION, Mixture, ask_composition, ask_crystal, ask_hidden
from xtalgen.models.sampling.requests import impossible
from xtalgen.structure.composition import read_formula
from xtalgen.structure.elements import SYMBOLS
from xtalgen.training.artifacts import write_results
from xtalgen.training.batches import mix_seed
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.distributed import current
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit

DEFAULT_BASE = "meta-llama/Llama-2-7b-hf"


@dataclass(frozen=True)
class CrystalTextConfig(FitConfig):
    """Hyper-parameters of Crystal-text-LLM on MP-20.

    base: "scratch", or a causal language model by name, folder, GGUF file or archive with one; base_precision: of its
    frozen weights; share_base: shard these over the processes instead of replicating them (FSDP); lora_*: of the
    adapters; hidden, layers, heads: of the Llama trained from scratch; infilling, composition: see `prompts.Mixture`;
    max_length: of a prompt with its answer, in tokens.
    """

    epochs: int = 10
    batch_size: int = 1
    learning_rate: float = 1e-4
    final_learning_rate: float = 0.0
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "cosine_by_step"
    warmup_steps: int = 100
    ema_decay: float = 0.0
    clip: Literal["value", "norm", "none"] = "norm"
    clip_at: float = 1.0
    val_every: int = 1
    base: str = DEFAULT_BASE
    base_precision: Literal["float32", "bfloat16", "8bit", "4bit"] = "bfloat16"
    share_base: bool = False
    lora_rank: int = 8
    lora_alpha: float = 32.0
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    infilling: float = 0.34
    composition: float = 0.2
    max_length: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        Mixture(self.infilling, self.composition)
        if self.share_base and (self.base == SCRATCH or self.base_precision in ("8bit", "4bit")):
            raise ValueError("share_base needs a base model in float32 or bfloat16.")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden must be a multiple of twice heads, not {self.hidden} with {self.heads} heads.")


@dataclass(frozen=True)
class Asked:
    """A crystal to be generated: its prompt and required atoms (None for any)."""

    prompt: str
    numbers: np.ndarray | None = None


@final
class Model(AbstractPromptedModel):
    """Crystal-text-LLM."""

    Config = CrystalTextConfig
    Sampling = TextSampling
    shared_checkpoint: ClassVar[bool] = True
    takes_prompts: ClassVar[bool] = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: CrystalTextConfig, job: Job) -> None:
        """Trains all tasks together; see `AbstractModel.train`.

        Raises BaseError when the base model cannot be used, ValueError when the processes cannot share it evenly.
        """
        world = current().world
        if config.share_base and max(config.parts, world) % world:
            raise ValueError(f"parts must be a multiple of the {world} processes that share the base model.")
        module = new_model(asdict(config), job.seed, job.device)
        split = load_texts(
            train,
            val,
            module.vocabulary,
            Mixture(config.infilling, config.composition),
            longest=config.max_length,
            batch_size=config.batch_size,
            device=job.device,
        )
        outcome = fit(module, split.train, split.val, config, job)
        facts = {"prompts": VERSION, **facts_of(module)}
        write_results("crystal_text_llm", module, outcome, split=split, config=config, job=job, facts=facts)

    def sample(
        self,
        checkpoint: Path,
        wanted: int | Sequence[np.ndarray] | Sequence[Mapping[str, Any]],
        sampling: TextSampling,
        seed: int,
        device: str,
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractPromptedModel`.

        `info` holds the last text of each and the number of tries. Statuses are those of `read_crystal_text`, and
        "endless" for a text that reached the limit of tokens. Raises ValueError on an unknown attribute, or a number of
        atoms that does not fit the formula.
        """
        asked: list[Asked | Crystal]
        asked = [Asked(ask_crystal({}))] * wanted if isinstance(wanted, int) else [_question(one) for one in wanted]
        questions = [one for one in asked if isinstance(one, Asked)]
        if not questions:
            yield from (one for one in asked if isinstance(one, Crystal))
            return
        written = iter(answer(open_checkpoint(checkpoint, sampling, device), questions, sampling, seed))
        for one in asked:
            yield next(written) if isinstance(one, Asked) else one

    def infill(
        self, checkpoint: Path, crystals: Sequence[Crystal], sampling: TextSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals with their hidden elements; see `AbstractPromptedModel.infill`.

        The likelihood is that of the whole answer, end included. Only `base` and `candidates` of `sampling` are used.
        """
        model = open_checkpoint(checkpoint, sampling, device)
        for index, crystal in enumerate(crystals):
            result: dict[str, Any] = {"hidden": None, "rank": None, "guesses": None}
            if crystal.ok and not unwritable(crystal):
                rng = np.random.default_rng(mix_seed(seed, index))
                masked = int(rng.choice(crystal.atomic_numbers))
                prompt = ask_hidden(write_crystal(crystal, rng.random(3), masked))
                result = _guess(model, prompt, SYMBOLS[masked - 1], sampling.candidates or SYMBOLS)
            yield replace(crystal, info={**crystal.info, **result})

    def network_evaluations(self, sampling: TextSampling) -> int:
        """Returns the largest number of tokens per try; the network is evaluated once per token.

        A crystal of eight atoms takes about 160 with the vocabulary of SmolLM2; `n_tries` counts the tries.
        """
        return sampling.max_new_tokens


def open_checkpoint(checkpoint: Path, sampling: TextSampling, device: str) -> LanguageModel:
    """Returns the model of a checkpoint; `sampling` may name the location and precision of its base model.

    Raises CheckpointError when the file is no checkpoint, BaseError when the base model is missing or another one,
    ValueError when the checkpoint was trained with another version of the prompts.
    """
    weights, facts = load_checkpoint(checkpoint, device)
    if facts.get("prompts") != VERSION:
        raise ValueError(f"{checkpoint}: prompts of version {facts.get('prompts')!r}, not {VERSION!r}. Train again.")
    return restore(checkpoint, weights, facts, device, base=sampling.base, precision=sampling.base_precision)


def answer(model: LanguageModel, asked: Sequence[Asked], sampling: TextSampling, seed: int) -> list[Crystal]:
    """Returns a crystal for each prompt, in order, with up to `sampling.max_tries` tries each.

    `info` holds `text` (the last one) and `n_tries`.
    """
    result: dict[int, Crystal] = {}
    pending = list(range(len(asked)))
    for attempt in range(sampling.max_tries):
        # The seed depends on prompt and attempt, so retries differ and batches do not matter.
        requests = [_request(asked[index], mix_seed(seed, index, attempt)) for index in pending]
        for index, text in zip(pending, write_texts(model, requests, sampling), strict=True):
            crystal = _read(text, asked[index].numbers)
            result[index] = replace(crystal, info={**crystal.info, "n_tries": attempt + 1})
        pending = [index for index in pending if not result[index].ok]
        if not pending:
            break
    return [result[index] for index in range(len(asked))]


def _question(wanted: np.ndarray | Mapping[str, Any]) -> Asked | Crystal:
    """Returns the prompt for atoms or attributes, or a failed crystal for an impossible composition."""
    if isinstance(wanted, Mapping):
        return Asked(ask_crystal(wanted), _atoms(wanted))
    return impossible(wanted) or Asked(ask_composition(wanted), np.asarray(wanted))


def _guess(model: LanguageModel, prompt: str, hidden: str, candidates: Sequence[str]) -> dict[str, Any]:
    scores = score_answers(model, prompt, candidates)
    ranked = [candidates[i] for i in scores.argsort(descending=True, stable=True).tolist()]
    rank = ranked.index(hidden) + 1 if hidden in ranked else None
    return {"hidden": hidden, "rank": rank, "guesses": " ".join(ranked[:5])}


def _request(asked: Asked, seed: int) -> Request:
    if asked.numbers is None:
        return Request(asked.prompt, seed)
    counts = Counter(SYMBOLS[number - 1] for number in asked.numbers.tolist())
    return Request(asked.prompt, seed, dict(counts), len(asked.numbers))


def _read(text: Text, wanted: np.ndarray | None) -> Crystal:
    crystal = read_crystal_text(str(text), wanted)
    if text.ended or text.faulty:
        return crystal
    return Crystal("", "endless", atomic_numbers=None if wanted is None else wanted.astype(np.uint8), info=crystal.info)


def _atoms(stated: Mapping[str, Any]) -> np.ndarray | None:
    """Returns the atomic numbers determined by formula and number of atoms, None when one of them is missing."""
    if "formula" not in stated:
        return None
    counts = read_formula(stated["formula"])
    if "n_atoms" not in stated:
        return None
    units, rest = divmod(int(stated["n_atoms"]), sum(counts.values()))
    if rest or units < 1:
        raise ValueError(f"{stated['n_atoms']} atoms are not a whole number of {stated['formula']}.")
    return np.repeat([SYMBOLS.index(symbol) + 1 for symbol in counts], [units * n for n in counts.values()])
