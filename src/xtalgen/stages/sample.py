"""Stage `sample`: samples exactly the requested number of crystals from a checkpoint, in resumable chunks."""

import json
import logging
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from xtalgen import models
from xtalgen.crystals import ContractError, Crystal, read_crystals, read_metadata, read_table, to_table, write_table
from xtalgen.runtime.devices import device_name
from xtalgen.structure.attributes import conditions_of
from xtalgen.training.checkpoint import check_model
from xtalgen.training.contract import check_sample

logger = logging.getLogger(__name__)
COLUMNS = {"target_id": pa.string(), "text": pa.string(), "n_tries": pa.int64()}
SEPARATOR = ","
INFILL_COLUMNS = {"target_id": pa.string(), "hidden": pa.string(), "rank": pa.int64(), "guesses": pa.string()}


@dataclass(frozen=True)
class SamplingRequest:
    """What to sample: `n` crystals of any composition (dng), or one for the composition of each target (csp).

    attributes: request the targets' values of these attributes instead of compositions (conditional); infill: mask one
    element of each target and predict it (infilling); starts: crystals of another run to be refined, instead of
    targets; chunk: crystals per call of the model; prefix: prefix of the ids.
    """

    model: str
    checkpoint: Path
    settings: dict[str, Any]
    seed: int
    device: str
    n: int
    targets: tuple[Crystal, ...]
    chunk: int
    prefix: str
    starts: tuple[Crystal, ...] = ()
    attributes: tuple[str, ...] = ()
    infill: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a task the model does not support, or for another model's checkpoint."""
        check_model(self.checkpoint, self.model)
        if (self.attributes or self.infill) and not models.load(self.model).takes_prompts:
            raise ValueError(
                f"model {self.model} takes no prompts: it supports neither conditional generation nor infilling."
            )

    def key(self) -> str:
        """Returns a text that differs between requests that may give different crystals."""
        file = self.checkpoint.stat()
        parts = [
            self.model,
            str(self.checkpoint),
            file.st_size,
            file.st_mtime_ns,
            self.settings,
            self.seed,
            self.device,
        ]
        given = [crystal.id for crystal in self.targets + self.starts]
        return json.dumps([*parts, self.n, given, self.chunk, self.attributes, self.infill], sort_keys=True)

    def chunks(self, shard: int, shards: int) -> list[int]:
        """Returns the index of the first crystal of each chunk of a shard; shards count from 1."""
        return list(range(0, self.n, self.chunk))[shard - 1 :: shards]

    def make(self, start: int) -> pa.Table:
        """Returns the crystals from `start` to `start + chunk - 1` as a table.

        Raises ModelContractError when the model gives another number of crystals or breaks another rule.
        """
        stop = min(start + self.chunk, self.n)
        generator = models.load(self.model)
        sampling = models.build(generator.Sampling, self.settings, f"sample settings of {self.model}")
        seed = int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
        make = getattr(generator, "infill" if self.infill else "sample")
        wanted = self._wanted(start, stop)
        made = list(make(self.checkpoint, wanted, sampling, seed, self.device))
        check_sample(self.model, made, wanted)
        return to_table((self._label(crystal, start + i) for i, crystal in enumerate(made)), self.columns)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Returns the columns of the table besides those of the crystals."""
        return INFILL_COLUMNS if self.infill else COLUMNS

    def _wanted(self, start: int, stop: int) -> Any:
        if self.starts:
            return self.starts[start:stop]
        targets = self.targets[start:stop]
        if self.infill:
            return targets
        if self.attributes:
            return [conditions_of(target, self.attributes) for target in targets]
        return [np.asarray(target.atomic_numbers) for target in targets] if targets else stop - start

    def _label(self, crystal: Crystal, index: int) -> Crystal:
        kept = {name: self.starts[index].info.get(name) for name in COLUMNS} if self.starts else {}
        target = {"target_id": self.targets[index].id} if self.targets else {}
        return replace(crystal, id=f"{self.prefix}-{index:06d}", info={**kept, **crystal.info, **target})


def sample(request: SamplingRequest, shard: int, shards: int, *, work: Path, out: Path) -> None:
    """Writes the crystals of one shard to `out`.

    Every chunk has its own seed, so that the crystals do not depend on the number of shards. Finished chunks are kept
    in `work` and reused after a kill. Raises ValueError on unknown settings.
    """
    key, parts = request.key(), []
    bar = tqdm(request.chunks(shard, shards), f"sample {request.prefix}", unit="chunk", disable=not sys.stderr.isatty())
    for start in bar:
        part = work / f"chunk-{start:06d}.parquet"
        if not _is_finished(part, key):
            started = time.monotonic()
            table = request.make(start)
            write_table(table, part, key=key, seconds=f"{time.monotonic() - started:.3f}")
        parts.append(read_table(part))
    generator = models.load(request.model)
    sampling = models.build(generator.Sampling, request.settings, f"sample settings of {request.model}")
    write_table(
        pa.concat_tables([part.replace_schema_metadata(None) for part in parts] or [to_table([], request.columns)]),
        out,
        model=request.model,
        seconds=f"{sum(float(read_metadata(part)['seconds']) for part in parts):.3f}",
        device=device_name(request.device),
        network_evaluations=str(generator.network_evaluations(sampling)),
        **({"attributes": SEPARATOR.join(request.attributes)} if request.attributes else {}),
    )
    for part in work.glob("chunk-*.parquet"):
        part.unlink(missing_ok=True)


def _is_finished(part: Path, key: str) -> bool:
    try:
        return part.is_file() and read_metadata(read_table(part)).get("key") == key
    except ContractError as error:
        logger.warning("%s This chunk is sampled again.", error)
        return False


def read_targets(split: Path, per_target: int, limit: int | None) -> tuple[Crystal, ...]:
    """Returns the usable crystals among the first `limit` of a split, each `per_target` times.

    Raises ValueError when none is usable.
    """
    usable = [crystal for crystal in read_crystals(split) if crystal.ok][:limit]
    if not usable:
        raise ValueError(f"{split}: no crystal is usable as a target. Check the data set's test split.")
    return tuple(crystal for crystal in usable for _ in range(per_target))
