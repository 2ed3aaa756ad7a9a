"""Crystals per second of the language model: written in batches, and one by one with `generate` of transformers.

Both write with the same weights, the same settings and prompts, in one run, with a cache of keys and values. Without
--checkpoint the weights are random and every text is written up to the limit of tokens, so that both do the same work;
with one, texts end where they end, and what is counted are crystals that parse.

python benchmarks/language.py --batch-sizes 1 8 32 128
python benchmarks/language.py --checkpoint results/train/crystal_text_llm/shared/checkpoint.safetensors --n 16
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from xtalgen.models.crystal_text_llm import CrystalTextConfig, open_checkpoint
from xtalgen.models.language.crystal_text import read_crystal_text
from xtalgen.models.language.decoding import Request, Text, TextSampling, write_texts
from xtalgen.models.language.language_model import new_model
from xtalgen.models.language.prompts import ask_crystal
from xtalgen.training.batches import mix_seed


def batched(model, requests, sampling):
    texts = write_texts(model, requests, sampling)
    return sum(text.n_tokens for text in texts), [str(text) for text in texts if text.ended]


def one_by_one(model, requests, sampling):
    """The plain way: one call of `generate` for each crystal."""
    vocabulary = model.vocabulary
    never = [token for token, piece in enumerate(vocabulary.pieces) if not piece and token != vocabulary.end]
    device = next(model.network.parameters()).device
    tokens, texts = 0, []
    for request in requests:
        torch.manual_seed(request.seed % 2**32)
        given = torch.tensor([vocabulary.encode(request.prompt)], device=device)
        made = model.network.generate(
            given,
            attention_mask=torch.ones_like(given),
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            suppress_tokens=never,
            eos_token_id=None if model.endless else vocabulary.end,
            pad_token_id=vocabulary.pad,
        )[0, given.shape[1] :].tolist()
        tokens += len(made)
        if made[-1] == vocabulary.end:
            texts.append(vocabulary.decode(made))
    return tokens, texts


def timed(write, model, requests, sampling):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    tokens, texts = write(model, requests, sampling)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return seconds, tokens, sum(read_crystal_text(text).ok for text in texts)


def endless(model):
    """Makes the model write every text up to the limit, in both ways, since random weights hardly end a text."""
    model.endless = True
    Text.hopeless = property(lambda _: False)
    head = model.network.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(len(head.weight), device=head.weight.device))
    head.bias.data[model.vocabulary.end] = -1e9
    model.network.generation_config.eos_token_id = None
    return model


def load(options):
    if options.checkpoint:
        model = open_checkpoint(options.checkpoint, TextSampling(base=options.base), options.device)
        model.endless = False
        return model
    values = {
        "base": options.base or "scratch",
        "base_precision": "float32",
        "hidden": options.hidden,
        "layers": options.layers,
        "heads": options.heads,
    }
    return endless(new_model({**asdict(CrystalTextConfig()), **values}, 0, options.device).eval())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--base", help="of the checkpoint, or instead of one from scratch")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--n", type=int, default=4, help="crystals in a repetition; at least one batch")
    parser.add_argument("--tokens", type=int, default=150, help="most tokens of a text")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = load(options)
    size = sum(weight.numel() for weight in model.network.parameters())
    print(
        f"{size / 1e6:.1f} million parameters, at most {options.tokens} tokens, {options.device}, "
        f"{options.threads} threads, torch {torch.__version__}"
    )
    ways = {"generate, one by one": (one_by_one, options.n, 1)}
    for batch_size in options.batch_sizes:
        ways[f"batches of {batch_size}"] = (batched, max(options.n, batch_size), batch_size)
    report(model, ways, options)


def report(model, ways, options):
    found = {name: [] for name in ways}
    for repeat in range(options.repeats + 1):
        for name in sorted(ways, reverse=repeat % 2 == 1):
            write, n, batch_size = ways[name]
            sampling = TextSampling(max_new_tokens=options.tokens, batch_size=batch_size, max_tries=1)
            requests = [Request(ask_crystal({}), mix_seed(repeat, place)) for place in range(n)]
            (wall, cpu), tokens, ok = timed(write, model, requests, sampling)
            if repeat:
                found[name].append((n / wall, n / cpu, tokens / wall, ok / n))
    plain = found["generate, one by one"]
    for name, rows in found.items():
        texts, _, tokens, ok = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [[mine[column] / other[column] for mine, other in zip(rows, plain, strict=True)] for column in (0, 1)]
        spread = "; ".join(
            f"{kind} {statistics.median(ratio):6.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
            for kind, ratio in zip(("wall", "CPU"), ratios, strict=True)
        )
        parsed = "" if model.endless else f", {ok:.0%} parse"
        print(f"{name:22} {texts:8.2f} crystals/s {tokens:8.0f} tokens/s{parsed}   times one by one: {spread}")


if __name__ == "__main__":
    main()
