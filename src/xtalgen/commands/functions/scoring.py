"""Scores a user's structures: reads them and the data set, relaxes if requested, and caches slow results."""

import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xtalgen.commands.choices import DEFAULT_RECIPE
from xtalgen.commands.functions.inputs import GIVEN, write_given
from xtalgen.commands.functions.results import Scores
from xtalgen.commands.targets import write_with_targets
from xtalgen.crystals import read_crystals, read_facts
from xtalgen.datasets.registry import DATA_SETS
from xtalgen.datasets.sources import find_copy, find_source
from xtalgen.experiment.places import DOWNLOADS, data_root, user_cache
from xtalgen.metrics.choices import Split
from xtalgen.metrics.protocols import choose_recipe
from xtalgen.metrics.result_file import read_evaluation
from xtalgen.metrics.types import MetricConfig
from xtalgen.runtime.atomic import keep, write_bytes
from xtalgen.runtime.parallel import available_cores
from xtalgen.runtime.provenance import PACKAGE
from xtalgen.runtime.provenance import fingerprint as code_fingerprint
from xtalgen.runtime.resume import content_key
from xtalgen.stages.data import prepare_data
from xtalgen.stages.evaluate import Sources, evaluate
from xtalgen.stages.fingerprints import compute_fingerprints
from xtalgen.stages.import_structures import check_structure_file

log = logging.getLogger(__name__)
RELAXATION = {"fmax": 0.05, "timeout": 600.0}
STEPS = 500
FEW = 50  # crystals that are not worth starting processes


@dataclass(frozen=True)
class Request:
    """Options of a scoring run.

    structures: see `inputs.write_given`; dataset: None scores by what needs none; source: folder or file of the data
    set, None for the embedded or published one, or the user's copy under the data root; column: of a CSV, the one that
    holds the crystals; potential: to relax with; hull, phase_diagram: as `relax` in the configuration has them;
    partial: whether test crystals without a prediction are left out rather than counted as missed.
    """

    structures: Any
    dataset: str | None
    source: Path | None
    task: str
    settings: MetricConfig
    cache: Path
    out: Path
    potential: str | None = None
    hull: str = "consistent"
    phase_diagram: Path | None = None
    column: str | None = None
    partial: bool = False
    fingerprint_timeout: float = 20.0

    @property
    def name(self) -> str:
        """The name of the set: the file's up to its first dot."""
        return Path(self.structures).name.split(".")[0] if isinstance(self.structures, str | Path) else GIVEN


@dataclass(frozen=True)
class Scored:
    """The files written: metrics (JSON) and verdicts per crystal (Parquet). notes: messages for the user.

    sample: the table of the crystals as given, in the cache.
    """

    metrics: Path
    ledger: Path
    sample: Path
    notes: list[str] = field(default_factory=list)

    def read(self) -> Scores:
        """Returns what the files hold."""
        return Scores(read_crystals(self.ledger), read_evaluation(self.metrics), self.notes)


def score(
    structures: Any,
    dataset: str | None = None,
    recipe: str = DEFAULT_RECIPE,
    *,
    task: str = "own",
    source: str | Path | None = None,
    relax: str | None = None,
    hull: str = "consistent",
    phase_diagram: str | Path | None = None,
    column: str | None = None,
    partial: bool = False,
    workers: int | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
) -> Scores:
    """Returns the metrics of structures with their intervals, and the verdicts on each.

    structures: pymatgen Structures, ASE Atoms, crystals of this package, paths of files, one or several. dataset: what
    to compare with, such as "mp_20", fetched where needed; None computes what needs none: validity, uniqueness,
    symmetry. recipe: whose definitions. task: "own", structures judged as a set, or "csp", predictions of the test
    split. source: your copy of the data set. relax: potential to relax with first, for stability. hull, phase_diagram:
    as `relax` in the configuration has them. cache: folder of slow results, by default the user's. Raises ValueError,
    OSError, DownloadError or PotentialError, saying what to do, when something given is wrong as a whole.
    """
    settings = MetricConfig(choose_recipe(recipe), workers=workers or available_cores(), seed=seed)
    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        request = Request(
            structures=structures,
            dataset=dataset,
            source=None if source is None else Path(source),
            task=task,
            settings=settings,
            cache=Path(cache) if cache else user_cache(),
            out=Path(folder),
            potential=relax,
            hull=hull,
            phase_diagram=None if phase_diagram is None else Path(phase_diagram),
            column=column,
            partial=partial,
        )
        return score_request(request).read()


def score_request(request: Request) -> Scored:
    """Scores structures and writes metrics and verdicts to the folder `out`.

    Raises ValueError, OSError, DownloadError or PotentialError, as `score` does.
    """
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # once per noble gas
    if request.task == "csp" and request.dataset is None:
        raise ValueError("task csp compares predictions with a test split. Name its data set.")
    with tempfile.TemporaryDirectory(prefix="xtalgen-") as scratch:
        sample, folder = _sample(request, Path(scratch))
        splits = {split.value: _split(request, split.value) for split in Split} if request.dataset else {}
        relaxed = hull = None
        notes: list[str] = []
        if request.task == "csp":
            named = folder / f"targets-{request.dataset}.parquet"
            notes = write_with_targets(sample, splits["test"], named, partial=request.partial)
            sample = named
        elif request.potential:
            relaxed, hull = _relax(request, sample, folder, list(splits.values()))
        sources = Sources(sample=sample, relaxed=relaxed, hull=hull, **splits, **_prints(request, sample, splits))
        settings = request.settings
        if not splits and len(read_crystals(sample)) <= FEW:
            settings = replace(settings, workers=1)
        metrics, ledger = (request.out / f"{request.name}-{end}" for end in ("metrics.json", "ledger.parquet"))
        evaluate(
            request.task,
            sources,
            settings,
            out_table=ledger,
            out_json=metrics,
            name=request.name,
            work=folder / "work",
        )
        return Scored(metrics, ledger, sample, notes)


def _sample(request: Request, scratch: Path) -> tuple[Path, Path]:
    """Returns the table of the structures, and the folder of what is computed from it, cached by their content."""

    def make(out: Path) -> None:
        write_given(request.structures, out, workers=request.settings.workers, column=request.column)

    if isinstance(request.structures, str | Path):
        file = Path(request.structures)
        check_structure_file(file)
        reading = code_fingerprint(PACKAGE / "stages/import_structures.py")
        key = content_key(file, name=file.name, reading=reading, column=request.column)[:32]
        folder = request.cache / "sets" / key
        return keep(folder / "sample.parquet", make, read_facts), folder
    given = scratch / "sample.parquet"
    make(given)
    folder = request.cache / "sets" / content_key(given)[:32]
    return keep(folder / "sample.parquet", lambda out: write_bytes(out, given.read_bytes()), read_facts), folder


def _split(request: Request, split: str) -> Path:
    """Returns the table of a split of the data set, cached by the content of its source."""
    dataset = str(request.dataset)
    root, known = data_root(), DATA_SETS.get(dataset)
    needed = tuple(map(str, Split)) if known and known.grouped_from else (split,)
    source = request.source or _copy(root, known.grouped_from or dataset if known else dataset, needed)
    files = [] if source is None else [find_source(source, name) for name in needed]
    code = code_fingerprint(PACKAGE / "stages/data.py")
    key = content_key(*files, dataset=dataset, split=split, code=code)[:32]

    def make(out: Path) -> None:
        log.info("%s %s: reading %s", dataset, split, source or "the published split")
        prepare_data(
            dataset,
            split,
            source=source,
            out=out,
            workers=request.settings.workers,
            limit=None,
            seed=0,
            downloads=root / DOWNLOADS,
        )

    return keep(request.cache / "data" / f"{dataset}-{split}-{key}.parquet", make, read_facts)


def _copy(root: Path, dataset: str, splits: tuple[str, ...]) -> Path | None:
    """Returns the user's copy of a data set under the data root; None where it lacks one of these splits."""
    return root / dataset if all(find_copy(root, dataset, split) for split in splits) else None


def _prints(request: Request, sample: Path, splits: Mapping[str, Path]) -> dict[str, Path]:
    """Returns the fingerprints of the sample and the test split; none where nothing is compared by them."""
    if request.task == "csp" or not splits:
        return {}
    prints = {"fingerprints": sample, "reference_fingerprints": splits["test"]}
    return {name: _fingerprints(request, crystals) for name, crystals in prints.items()}


def _fingerprints(request: Request, crystals: Path) -> Path:
    """Returns the fingerprints of a table, cached by its content."""
    code = code_fingerprint(PACKAGE / "featurizers/fingerprints.py")
    key = content_key(crystals, code=code, timeout=request.fingerprint_timeout)[:32]

    def make(out: Path) -> None:
        compute_fingerprints(
            crystals,
            out=out,
            work=request.cache / "work" / key,
            workers=request.settings.workers,
            timeout=request.fingerprint_timeout,
            limit=None,
            seed=0,
        )

    return keep(request.cache / "fingerprints" / f"{key}.parquet", make, read_facts)


def _relax(request: Request, sample: Path, folder: Path, splits: list[Path]) -> tuple[Path, Path | None]:
    """Returns the relaxed structures, and the hull of the data set with the same potential; None without either."""
    from xtalgen.potentials.registry import identify
    from xtalgen.stages.hull import write_hull
    from xtalgen.stages.relax import relax

    name = request.potential or ""
    key = identify(name, None).sha256[:12]
    shared: dict[str, Any] = {"potential": name, "workers": request.settings.workers, **RELAXATION}
    relaxed = keep(
        folder / f"relaxed-{key}.parquet",
        lambda out: relax(sample, max_steps=STEPS, work=folder / f"relaxing-{key}", out=out, **shared),
        read_facts,
    )
    if not splits and request.phase_diagram is None:
        return relaxed, None
    diagram = [] if request.phase_diagram is None else [request.phase_diagram]
    # What was kept before other hulls could be asked for keeps its name.
    other = {} if request.hull == "consistent" else {"hull": request.hull}
    reference = content_key(*splits, *diagram, potential=key, **other)[:12]
    hull: dict[str, Any] = {"energies": request.hull, "phase_diagram": request.phase_diagram, "relax_steps": STEPS}
    return relaxed, keep(
        folder / f"hull-{reference}.parquet",
        lambda out: write_hull(relaxed, splits, cache=request.cache / "hull" / key, out=out, **hull, **shared),
        read_facts,
    )
