"""Bases of language models: by path, out of GGUF files, too large, gated, without a pad token."""

import os
import zipfile
from dataclasses import asdict

import pytest
import torch

from tiny_language import SCRATCH, SIZE, sample, save_base, train
from xtalgen.models.language import base_model as language_bases
from xtalgen.models.language.base_model import BaseError, check_memory, load_base
from xtalgen.models.language.language_model import new_model
from xtalgen.models.language.tokenizer import END, PAD


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("pad", [None, END])
def test_a_tokenizer_without_pad_gets_one_with_the_mean_embedding(tmp_path, pad):
    folder = save_base(tmp_path, pad=pad)
    found = load_base(folder, "float32", "cpu")
    assert found.padded
    assert found.vocabulary.pad == SIZE != found.vocabulary.end
    rows = found.network.get_input_embeddings().weight
    torch.testing.assert_close(rows[SIZE], rows[:SIZE].mean(0))
    heads = found.network.get_output_embeddings().weight
    torch.testing.assert_close(heads[SIZE], heads[:SIZE].mean(0))


def test_a_pad_of_its_own_is_kept(tmp_path):
    found = load_base(save_base(tmp_path, pad=PAD), "float32", "cpu")
    assert not found.padded
    assert len(found.network.get_input_embeddings().weight) == SIZE


def test_too_little_memory_is_told_before_loading(base, monkeypatch):
    monkeypatch.setattr(language_bases, "available_memory", lambda _: 50_000)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    with pytest.raises(BaseError, match=r"parameters need 0\.0 GB in float32, but 0\.0 GB are free on cpu"):
        load_base(base, "float32", "cpu")


def test_what_would_fit_is_said(monkeypatch):
    monkeypatch.setattr(language_bases, "available_memory", lambda _: int(12e9))
    check_memory("x", 10**9, "bfloat16", "cpu")
    with pytest.raises(BaseError) as error:
        check_memory("meta-llama/Llama-2-7b-hf", 6_738_000_000, "bfloat16", "cuda")
    said = str(error.value)
    assert "6.74 billion parameters need 16.2 GB in bfloat16, but 12.0 GB are free on cuda" in said
    assert "base_precision 8bit (8.1 GB); base_precision 4bit (4.4 GB)" in said
    assert "at most 5.00 billion parameters in bfloat16" in said
    with pytest.raises(BaseError, match=r"What would fit: a base of at most"):
        check_memory("x", 6_738_000_000, "bfloat16", "cpu")


def test_a_gated_base_says_how_to_get_access(monkeypatch):
    def refuse(*_, **__):
        raise OSError("You are trying to access a gated repo. 401 Client Error.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(BaseError) as error:
        load_base("meta-llama/Llama-2-7b-hf", "bfloat16", "cpu")
    said = str(error.value)
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in said
    assert "hf auth login" in said
    assert "hf download meta-llama/Llama-2-7b-hf --local-dir FOLDER" in said
    assert "set `base: FOLDER`" in said
    assert "\n" not in said


def test_quantised_bases_need_their_package(base):
    with pytest.raises(BaseError, match=r"4bit needs a GPU and the package bitsandbytes.*set base_precision to bfl"):
        load_base(base, "4bit", "cpu")


def test_wrong_paths_and_files_are_told(tmp_path):
    with pytest.raises(BaseError, match="there is no such file or folder"):
        load_base(str(tmp_path / "absent"), "float32", "cpu")
    with pytest.raises(BaseError, match="there is no such file"):
        load_base(str(tmp_path / "absent.gguf"), "float32", "cpu", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BaseError, match="not a readable causal language model"):
        load_base(str(tmp_path), "float32", "cpu")
    with pytest.raises(BaseError, match="Set `lora_targets` to names of its layers"):
        new_model({**asdict(SCRATCH), "base": save_base(tmp_path / "base"), "base_precision": "float32",
                   "lora_targets": ("c_attn",)}, 0, "cpu")  # fmt: skip


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return str(path)


def test_archives_are_opened_with_care(tmp_path):
    cases = {
        "none.whl": ({"a.txt": b"x"}, "holds 0 .gguf files, not one"),
        "two.zip": ({"a.gguf": b"x", "b.gguf": b"x"}, "holds 2 .gguf files, not one"),
        "fake.zip": ({"../../evil.gguf": b"no such format"}, "is not a GGUF file"),
        "torn.zip": ({"base.gguf": b"GGUF and nothing else"}, "not a readable causal language model"),
    }
    for name, (members, message) in cases.items():
        with pytest.raises(BaseError, match=message):
            load_base(archive(tmp_path / name, members), "float32", "cpu", tmp_path / "cache")
    assert not list(tmp_path.parent.glob("evil.gguf"))
    (tmp_path / "damaged.whl").write_bytes(b"not a zip")
    with pytest.raises(BaseError, match="a damaged archive"):
        load_base(str(tmp_path / "damaged.whl"), "float32", "cpu", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_real_base_out_of_a_gguf_file(tmp_path):
    given = os.environ.get("XTALGEN_GGUF")
    if not given:
        pytest.skip("needs a GGUF file or an archive that holds one, named by XTALGEN_GGUF")
    found = load_base(given, "float32", "cpu")
    assert found.vocabulary.pad != found.vocabulary.end
    text = "4.0 5.0 6.0\n90 90 120\nNa\n0.25 0.50 0.75"
    assert found.vocabulary.decode(found.vocabulary.encode(text)) == text
    del found
    out = train(tmp_path, base=given, base_precision="float32", batch_size=3, epochs=1, hidden=512, heads=8)
    losses = (out / "log.csv").read_text().splitlines()
    assert len(losses) == 2
    crystals = sample(out / "checkpoint.safetensors", 2, constrained=True, max_new_tokens=60)
    assert all(crystal.ok for crystal in crystals)
