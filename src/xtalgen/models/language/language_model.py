"""The language model as a `Trainable`: a small Llama trained from scratch, or adapters (LoRA) on a base model."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from xtalgen.models.language.base_model import BaseError, embeddings, load_base
from xtalgen.models.language.tokenizer import Vocabulary, own_vocabulary, read_vocabulary
from xtalgen.training.batches import mix_seed
from xtalgen.training.checkpoint import CheckpointError
from xtalgen.training.loop import Trainable

SCRATCH = "scratch"
PAD_ROWS = "pad_embedding"
IGNORED = -100


@dataclass(frozen=True)
class Tokens:
    """Texts as tokens, padded on the right; mask: False at padding."""

    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int[Tensor, " taken"]) -> "Tokens":
        """Returns the texts at these indices, without columns that are padding in all of them."""
        mask = self.mask[rows]
        length = int(mask.sum(dim=-1).max())
        return Tokens(self.ids[rows, :length], mask[:, :length])


class LanguageModel(Trainable):
    """A causal language model with its vocabulary.

    base: name or path of a base model, or "scratch"; digest: of the base model, "" from scratch; padded: whether a
    padding token was added.
    """

    network: Any  # of transformers, or of peft around one

    def __init__(self, network: nn.Module, vocabulary: Vocabulary, base: str, *, digest: str, padded: bool) -> None:
        super().__init__()
        self.network = network
        self.vocabulary, self.base, self.digest, self.padded = vocabulary, base, digest, padded

    def loss(self, batch: Tokens, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean cross-entropy over all tokens but the first of each text, prompts included."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        # Dropout draws from the global generator; a seed per step lets a resumed training continue bit by bit.
        devices = [batch.ids.device] if batch.ids.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            # No mask: padding follows the text, and a causal model does not attend to it.
            scores = self.network(input_ids=batch.ids, use_cache=False).logits[:, :-1]
        # The score at position t predicts token t + 1.
        targets = torch.where(batch.mask, batch.ids, IGNORED)[:, 1:]
        return nn.functional.cross_entropy(scores.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED), {}

    def kept(self) -> dict[str, Tensor]:
        """Returns the weights of a checkpoint: all weights from scratch; on a base, adapters and padding embeddings."""
        if self.base == SCRATCH:
            # safetensors stores no tensor twice: a tied output layer is restored from the embeddings.
            tied = self.network.get_output_embeddings().weight is self.network.get_input_embeddings().weight
            weights = self.network.state_dict()
            return {name: weight for name, weight in weights.items() if not (tied and name == "lm_head.weight")}
        from peft import get_peft_model_state_dict

        weights = dict(get_peft_model_state_dict(self.network, save_embedding_layers=False))
        if self.padded:
            rows = [layer.weight[self.vocabulary.pad] for layer in embeddings(self.network)]
            weights[PAD_ROWS] = torch.stack(rows)
        return weights

    def flop(self, n_tokens: int) -> tuple[int, int]:
        """Returns the FLOP of one text of this length: (forward, forward and backward).

        Counts products with weights, and attention over all pairs of tokens. The gradient of frozen weights is not
        computed.
        """
        frozen, learnt = self._weights()
        # Q Kᵀ and A V: 2 products of 2 FLOP per pair of tokens, head and component.
        attention = 4 * self._pair_width() * n_tokens**2
        forward = 2 * (frozen + learnt) * n_tokens + attention
        # Backward: gradient by the inputs for all weights, gradient by the weights for learnt ones only.
        return forward, forward + 2 * (frozen + 2 * learnt) * n_tokens + 2 * attention

    def traffic(self, n_tokens: int) -> int:
        """Estimates the bytes that one text of this length moves in a training step, unfused.

        Inputs and outputs of all products with weights, forward and twice backward; the weights themselves apart.
        """
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)]
        numbers = sum(layer.in_features + layer.out_features for layer in layers)
        width = layers[0].weight.element_size()
        return 3 * width * (n_tokens * numbers + 3 * self.network.config.num_hidden_layers * n_tokens**2)

    def _weights(self) -> tuple[int, int]:
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)]
        sizes = [(layer.in_features * layer.out_features, layer.weight.requires_grad) for layer in layers]
        return sum(size for size, learnt in sizes if not learnt), sum(size for size, learnt in sizes if learnt)

    def _pair_width(self) -> int:
        config = self.network.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return config.num_hidden_layers * config.num_attention_heads * width


def new_model(config: Mapping[str, Any], seed: int, device: str) -> LanguageModel:
    """Returns the model of a configuration (`crystal_text_llm.CrystalTextConfig`) before training.

    Raises BaseError when the base cannot be used.
    """
    if config["base"] == SCRATCH:
        vocabulary = own_vocabulary()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix_seed(seed, 0))
            network = _llama(len(vocabulary), vocabulary, config)
        return LanguageModel(network.to(device), vocabulary, SCRATCH, digest="", padded=False)
    base = load_base(config["base"], config["base_precision"], device, sharded=config.get("share_base", False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix_seed(seed, 0))
        # LoRA (Hu et al. 2022): W + (α / r) B A, with B = 0 at the start.
        network = _adapted(base.network, config)
    return LanguageModel(network, base.vocabulary, config["base"], digest=base.digest, padded=base.padded)


def restore(
    checkpoint: Path,
    weights: dict[str, Tensor],
    facts: Mapping[str, Any],
    device: str,
    *,
    base: str | None = None,
    precision: str | None = None,
) -> LanguageModel:
    """Returns the model of a checkpoint in evaluation mode. weights, facts: of the file `checkpoint`.

    base: current location of the base model, None for that of training; precision: of its weights, None for that of
    training. Raises BaseError when it is another base model, CheckpointError when the adapters do not fit.
    """
    config = {**facts["config"], "share_base": False}
    if config["base"] == SCRATCH:
        vocabulary = read_vocabulary(facts["tokenizer"])
        with torch.random.fork_rng(devices=[]):
            network = _llama(len(vocabulary), vocabulary, config)
        network.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})
        return LanguageModel(network.to(device).eval(), vocabulary, SCRATCH, digest="", padded=False)
    config["base"] = base or config["base"]
    config["base_precision"] = precision or config["base_precision"]
    model = new_model(config, 0, device)
    if model.digest != facts["base_digest"]:
        raise BaseError(
            f"{checkpoint}: trained on another base model than {config['base']!r}. Set `base` to the right one."
        )
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    # Only the row of the padding token was trained of the embeddings of a base model.
    rows = weights.pop(PAD_ROWS, None)
    if set(weights) != set(get_peft_model_state_dict(model.network, save_embedding_layers=False)):
        raise CheckpointError(f"{checkpoint}: its adapters are not those of its configuration. Train again.")
    set_peft_model_state_dict(model.network, weights)
    if rows is not None:
        with torch.no_grad():
            for layer, row in zip(embeddings(model.network), rows, strict=True):
                layer.weight[model.vocabulary.pad] = row.to(layer.weight.dtype)
    if config["base_precision"] == "float32":
        # Merging needs float32: coarser weights would lose the contribution of the adapters.
        model.network = model.network.merge_and_unload()
    return model.eval()


def facts_of(model: LanguageModel) -> dict[str, Any]:
    """Returns the metadata that `restore` needs besides weights and configuration."""
    if model.base == SCRATCH:
        return {"tokenizer": model.vocabulary.tokenizer.to_str()}
    return {"base_digest": model.digest}


def _llama(size: int, vocabulary: Vocabulary, config: Mapping[str, Any]) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=size,
        hidden_size=config["hidden"],
        # 8/3 of the width, since Llama's gated network has three matrices instead of two.
        intermediate_size=config["hidden"] * 8 // 3,
        num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"],
        max_position_embeddings=config["max_length"],
        tie_word_embeddings=True,
        pad_token_id=vocabulary.pad,
        bos_token_id=None,
        eos_token_id=vocabulary.end,
    )
    return LlamaForCausalLM(shape)


def _adapted(network: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(
        r=config["lora_rank"],
        lora_alpha=config["lora_alpha"],
        lora_dropout=config["lora_dropout"],
        target_modules=list(config["lora_targets"]),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft calls transformers by a deprecated name
            return get_peft_model(network, adapters)
    except ValueError as error:
        raise BaseError(f"base {config['base']!r}: {error} Set `lora_targets` to names of its layers.") from error
