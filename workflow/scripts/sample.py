"""Samples crystals: sample.py --model flowmm --checkpoint checkpoint.safetensors --n 10 --work W --out ten.parquet."""

import argparse
from pathlib import Path

from xtalgen.crystals import read_crystals
from xtalgen.runtime.arguments import add_job, add_model, pick
from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.errors import one_line
from xtalgen.stages.sample import SamplingRequest, read_targets, sample


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    add_model(parser)
    add_job(parser)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--n", type=int, help="crystals to generate de novo")
    wanted.add_argument("--targets", type=Path, help="split with the compositions to predict structures for")
    wanted.add_argument("--starts", type=Path, help="crystals of another run, to be refined")
    parser.add_argument("--per-target", type=int, default=1, help="predictions per composition")
    parser.add_argument("--limit", type=int, help="use only the first crystals of the split")
    parser.add_argument("--attributes", nargs="+", default=[], help="request these attributes of each target instead")
    parser.add_argument("--infill", action="store_true", help="mask an element of each target and predict it instead")
    parser.add_argument("--chunk", type=int, default=500, help="crystals per call of the model")
    parser.add_argument("--shard", default="1-of-1", help="shard to sample, such as 2-of-8")
    parser.add_argument("--prefix", default="crystal", help="prefix of the ids")
    args = parser.parse_args(argv)
    given = pick(args, "model", "checkpoint", "settings", "seed", "chunk", "prefix", "infill")
    with one_line():
        targets = read_targets(args.targets, args.per_target, args.limit) if args.targets else ()
        starts = tuple(read_crystals(args.starts)) if args.starts else ()
        given |= {"device": pick_device(args.device), "n": args.n or len(targets + starts), "targets": targets}
        request = SamplingRequest(**given, starts=starts, attributes=tuple(args.attributes))
        sample(request, *map(int, args.shard.split("-of-")), work=args.work, out=args.out)


if __name__ == "__main__":
    main()
