"""A tiny Llama with a tokenizer, as the Hugging Face hub keeps them: a base for adapters that needs no download."""

import torch

from xtalgen.models.language.tokenizer import END, UNKNOWN, own_vocabulary


def save_base(folder, seed=0, pad=None):
    """Writes a tiny Llama with a tokenizer, as the Hugging Face hub keeps them."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = own_vocabulary()
    torch.manual_seed(seed)
    shape = LlamaConfig(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False,
                        bos_token_id=None, eos_token_id=vocabulary.end)  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary.tokenizer, eos_token=END, unk_token=UNKNOWN, pad_token=pad,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return str(folder)
