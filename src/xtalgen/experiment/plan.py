"""Interprets the configuration: sets, tasks, data sets, settings, and checks beyond the schema.

Read by the Snakefile on every start, so it imports nothing heavy.
"""

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from xtalgen.experiment.config_values import check_settings
from xtalgen.experiment.data_set_names import based_on, published_sets
from xtalgen.experiment.model_traits import (
    model_file,
    needs_base,
    needs_bonds,
    needs_wyckoff,
    shares_checkpoint,
    takes_prompts,
    tasks_of,
)
from xtalgen.experiment.places import data_root
from xtalgen.experiment.released_sets import OF_THE_PLAN, RELEASED, complete, what_is_wrong
from xtalgen.runtime.names import ENERGIES, GENERATION, PROMPTED_TASKS, SHARED, SPLITS, TASKS, TRAINED_TASKS
from xtalgen.runtime.provenance import PACKAGE

# The one setting of training that belongs to the workflow rather than the model.
BUDGET = "max_seconds"
# `checkpoint: pretrained` names the weights that come with the package, one file for each model and task.
PRETRAINED = "pretrained"
WEIGHTS = PACKAGE / "weights"
PUBLISHED_SETS = published_sets()
ALL_SPLITS = "structures"  # stem of the file that holds every split of a data set
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class ConfigError(ValueError):
    """The configuration contradicts itself; the message names the key and the remedy."""


@dataclass(frozen=True)
class Plan:
    """The experiment that a validated configuration describes."""

    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises ConfigError when names or settings contradict each other."""
        for name, run in self.runs.items():
            where = f"runs.{name}"
            self._check_name(name, where)
            if not model_file(run["model"]).is_file():
                raise ConfigError(f"{where}.model: there is no file {model_file(run['model'])}.")
            self._check_dataset(run["dataset"], f"{where}.dataset")
            self._check_base(name, run)
            self._check_prompts(name, run)
            self._check_tasks(name, run)
            self._check_budget(name, run)
            for stage in ("train", "sample", "sweep"):
                check_settings(run.get(stage, {}), f"{where}.{stage}")
            self._check_pretrained(name, run)
            if "sweep" in run and ("csp" not in run.get("tasks", TASKS) or needs_base(run["model"])):
                raise ConfigError(f"{where}.sweep: a sweep needs a run with the task 'csp' that refines no other run.")
        for name, dataset in self.config["datasets"].items():
            self._check_name(name, f"datasets.{name}")
            if name not in PUBLISHED_SETS and "source" not in dataset:
                known = ", ".join(PUBLISHED_SETS)
                raise ConfigError(f"datasets.{name}: give its folder as `source`; only {known} come without.")
        self._check_released()
        self._check_dataset(self.reference, "evaluate.reference")
        self._check_dataset(self.distilled, "distil.dataset")
        check_settings(self.config.get("distil", {}).get("train", {}), "distil.train")
        relax = self.config.get("relax", {})
        if relax.get("second_potential") and relax["hull"] != "consistent":
            raise ConfigError("relax.second_potential: only a hull of kind `consistent` can be evaluated again.")
        for name in self.config["tables"]["sets"]:
            self._check_name(name, f"tables.sets: {name!r}")
            if name in self.runs:
                raise ConfigError(f"tables.sets: {name!r} is the name of a run; rename structures/{name}.*.")

    def _check_released(self) -> None:
        for name, entry in self.released.items():
            self._check_name(name, f"released.{name}")
            if wrong := what_is_wrong(entry):
                raise ConfigError(f"released.{name}.{wrong}")
            self._check_dataset(self.dataset(f"{name}/{RELEASED}"), f"released.{name}.dataset")

    def _check_name(self, name: str, where: str) -> None:
        # Names become parts of paths and commands.
        if not re.fullmatch(NAME, name):
            raise ConfigError(f"{where}: a name may contain only letters, digits, '.', '_' and '-'. Rename it.")

    def _check_base(self, name: str, run: Mapping[str, Any]) -> None:
        where, base = f"runs.{name}.base", run.get("base")
        if not needs_base(run["model"]):
            if base is not None:
                raise ConfigError(f"{where}: model {run['model']} takes no base run; remove `base`.")
            return
        if base is None or base not in self.runs or base == name or needs_base(self.runs[base]["model"]):
            raise ConfigError(f"{where}: model {run['model']} refines another run; name one that needs no base.")
        if self.runs[base]["dataset"] != run["dataset"]:
            raise ConfigError(f"{where}: {base!r} is trained on another data set than {name!r}.")

    def _check_prompts(self, name: str, run: Mapping[str, Any]) -> None:
        asked = [task for task in PROMPTED_TASKS if task in run.get("tasks", ())]
        if asked and not takes_prompts(run["model"]):
            raise ConfigError(f"runs.{name}.tasks: model {run['model']} takes no prompts; remove {asked[0]!r}.")
        if "attributes" in run and "conditional" not in asked:
            raise ConfigError(f"runs.{name}.attributes: only the task 'conditional' uses them; add it to `tasks`.")

    def _check_tasks(self, name: str, run: Mapping[str, Any]) -> None:
        fitting = tasks_of(run["model"], TRAINED_TASKS)
        wrong = [task for task in TRAINED_TASKS if task in run.get("tasks", TRAINED_TASKS) and task not in fitting]
        if wrong:
            remedy = f"write `tasks: [{', '.join(fitting)}]`"
            raise ConfigError(f"runs.{name}.tasks: model {run['model']} does not support {wrong[0]!r}; {remedy}.")

    def _check_budget(self, name: str, run: Mapping[str, Any]) -> None:
        common, of_tasks = _apart(run.get("train", {}))
        for where, own in (("train", common), *((f"train.{task}", values) for task, values in of_tasks.items())):
            limit = own.get(BUDGET)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0):
                raise ConfigError(f"runs.{name}.{where}.{BUDGET}: {limit!r} is not a number of seconds above 0.")

    def _check_pretrained(self, name: str, run: Mapping[str, Any]) -> None:
        if run.get("checkpoint") != PRETRAINED:
            return
        if run.get("train"):  # {} by default
            raise ConfigError(f"runs.{name}: with `checkpoint: {PRETRAINED}` nothing is trained; remove `train`.")
        for task in run.get("tasks", TRAINED_TASKS):
            if not self._shipped(name, task).is_file():
                shipped = ", ".join(
                    sorted(f"{file.parent.name}/{file.stem}" for file in WEIGHTS.glob("*/*.safetensors"))
                )
                raise ConfigError(
                    f"runs.{name}.checkpoint: no weights of {run['model']} for the task {task!r} come with xtalgen; "
                    f"there are {shipped}."
                )

    def _check_dataset(self, name: str, where: str) -> None:
        if name not in self.config["datasets"]:
            there_are = ", ".join(self.config["datasets"])
            raise ConfigError(f"{where}: {name!r} is not under `datasets`; there are {there_are}.")

    @property
    def runs(self) -> Mapping[str, Any]:
        """The rows of the tables that are trained here."""
        return self.config["runs"]

    @property
    def released(self) -> Mapping[str, Mapping[str, Any]]:
        """The sets of released samples by name, each with what is known of it."""
        entries = {name: complete(name, entry) for name, entry in self.config.get("released", {}).items()}
        return {
            name: entry | ({"source": self._found(entry["source"])} if "source" in entry else {})
            for name, entry in entries.items()
        }

    @property
    def reference(self) -> str:
        """The data set with which users' own structures are compared."""
        chosen = self.config["evaluate"].get("reference")
        return chosen or next((run["dataset"] for run in self.runs.values()), next(iter(self.config["datasets"])))

    @property
    def distilled(self) -> str:
        """The data set on whose crystals a small potential is trained."""
        return self.config.get("distil", {}).get("dataset") or self.reference

    def sets(self) -> list[str]:
        """Returns every set of the tables in order: `run/task` of each run, `name/released`, the user's own."""
        released = [f"{name}/{RELEASED}" for name in self.released]
        return self._of_runs() + released + list(self.config["tables"]["sets"])

    def _of_runs(self) -> list[str]:
        return [f"{name}/{task}" for name, run in self.runs.items() for task in TASKS if task in run["tasks"]]

    def trained(self) -> list[str]:
        """Returns `run/task` (or `run/shared`) of every training the experiment needs."""
        pairs = [name.split("/") for name in self._of_runs()]
        return list(
            dict.fromkeys(f"{run}/{self.training(run, task)}" for run, task in pairs if not self.given(run, task))
        )

    def task(self, name: str) -> str:
        """Returns the task of a set: one of `TASKS`, or "own" for a user's structures."""
        run, _, task = name.partition("/")
        return str(self.released[run]["task"]) if task == RELEASED else task or "own"

    def generated(self) -> list[str]:
        """Returns the sets that are evaluated as a whole."""
        return [name for name in self.sets() if self.task(name) in GENERATION]

    def conditional(self) -> list[str]:
        """Returns the runs with the task "conditional"."""
        return [name for name, run in self.runs.items() if "conditional" in run["tasks"]]

    def attributes(self, run: str) -> Sequence[str]:
        """Returns the attributes requested in the task "conditional" of a run."""
        return self.runs[run].get("attributes", ("formula", "spg_num"))

    def relaxed(self, name: str) -> bool:
        """Whether a set is relaxed: if it is evaluated as a whole, or energies were requested."""
        task = self.task(name)
        by_energy = task == "conditional" and set(ENERGIES) & set(self.attributes(name.split("/", maxsplit=1)[0]))
        return task in GENERATION or bool(by_energy)

    def dataset(self, name: str) -> str:
        """Returns the data set that a set, or a run, is compared with."""
        run, _, task = name.partition("/")
        if task == RELEASED:
            return str(self.released[run].get("dataset") or self.reference)
        return self.runs[run]["dataset"] if task or run in self.runs else self.reference

    def model(self, run: str) -> str:
        """Returns the name of a run's model."""
        return self.runs[run]["model"]

    def training(self, run: str, task: str) -> str:
        """Returns the folder below the run that holds the checkpoint for a task."""
        return SHARED if shares_checkpoint(self.model(run)) else task

    def given(self, run: str, task: str) -> str | None:
        """Returns the path of a checkpoint that is not trained here, if any: the user's own or the shipped one."""
        chosen = self.runs[run].get("checkpoint", {})
        return str(self._shipped(run, task)) if chosen == PRETRAINED else chosen.get(task)

    def _shipped(self, run: str, task: str) -> Path:
        return WEIGHTS / self.model(run) / f"{self.training(run, task)}.safetensors"

    def checkpoint(self, run: str, task: str) -> str:
        """Returns the path of the checkpoint used for sampling a task."""
        return self.given(run, task) or f"results/train/{run}/{self.training(run, task)}/checkpoint.safetensors"

    def settings(self, run: str, stage: str, task: str) -> str:
        """Returns the settings of a run's stage as JSON; those under the task's name override the common ones."""
        common, of_tasks = _apart(self.runs[run].get(stage, {}))
        chosen = {**common, **of_tasks.get(task, {})}
        return json.dumps({key: value for key, value in chosen.items() if key != BUDGET}, sort_keys=True)

    def max_seconds(self, run: str, task: str) -> float | None:
        """Returns the time budget of a training: the task's own, else the run's, else the default of all runs."""
        common, of_tasks = _apart(self.runs[run].get("train", {}))
        limit = (self.config.get("train", {}) | common | of_tasks.get(task, {})).get(BUDGET)
        return None if limit is None else float(limit)

    def swept(self) -> list[str]:
        """Returns the runs whose sampling settings are compared on the validation split."""
        return [name for name, run in self.runs.items() if run.get("sweep")]

    def points(self, run: str) -> list[str]:
        """Returns the settings compared by a run's sweep, as JSON: every combination of the values listed."""
        swept = self.runs[run]["sweep"]
        return [json.dumps(dict(zip(swept, values, strict=True))) for values in product(*swept.values())]

    def point_files(self, run: str) -> list[str]:
        """Returns the metrics files of the points of a run's sweep."""
        return [f"results/sweep/{run}/{point}.json" for point in range(len(self.points(run)))]

    def at_point(self, run: str, point: int) -> str:
        """Returns all settings of sampling at a point of a run's sweep as JSON."""
        return json.dumps(json.loads(self.settings(run, "sample", "csp")) | json.loads(self.points(run)[point]))

    def split(self, name: str, split: str) -> str:
        """Returns the table of a split of the data set that a set or run is compared with."""
        return f"results/data/{self.dataset(name)}/{split}.parquet"

    def base(self, run: str) -> str:
        """Returns the run whose crystals a run refines."""
        return self.runs[run]["base"]

    def training_table(self, run: str, split: str) -> str:
        """Returns the table of a split for training a run, with the columns or pairs that its model needs."""
        model = self.model(run)
        if needs_base(model):
            return f"results/refinement_pairs/{run}/{split}.parquet"
        stage = "bonds" if needs_bonds(model) else "wyckoff" if needs_wyckoff(model) else "data"
        return f"results/{stage}/{self.dataset(run)}/{split}.parquet"

    def facts(self, name: str) -> list[str]:
        """Returns the `training.json` of a set; nothing for user-supplied checkpoints and sets."""
        run, _, task = name.partition("/")
        if task in ("", RELEASED):
            return []
        if self.given(run, task):
            shipped = self._shipped(run, task).with_suffix(".json")
            return [str(shipped)] if self.runs[run]["checkpoint"] == PRETRAINED else []
        return [f"results/train/{run}/{self.training(run, task)}/training.json"]

    def starts(self, run: str, task: str) -> str | None:
        """Returns the table of crystals that a run refines; None where it has no base run."""
        return f"results/sample/{self.base(run)}/{task}.parquet" if needs_base(self.model(run)) else None

    def sampled_from(self, run: str, task: str) -> list[str]:
        """Returns the tables that the stage `sample` reads for a run besides the checkpoint."""
        starts = self.starts(run, task)
        return [starts] if starts else [] if task == "dng" else [self.split(run, "test")]

    def asked_for(self, run: str, task: str) -> dict[str, Any]:
        """Returns the arguments of the stage `sample` by name; True for a flag."""
        asked = self.config["sample"]
        if needs_base(self.model(run)):
            return {"starts": self.starts(run, task)}
        if task == "dng":
            return {"n": asked["n"]}
        wanted = {"targets": self.split(run, "test"), "limit": asked["max_targets"]}
        if task == "conditional":
            return wanted | {"attributes": list(self.attributes(run))}
        return wanted | ({"infill": True} if task == "infilling" else {"per_target": asked["per_target"]})

    def reading(self, dataset: str, split: str) -> dict[str, Any]:
        """Returns source and limit of a split for the stage `data`; None where not configured."""
        limit = self.config["datasets"][dataset].get("limit", {}).get(split)
        return {"source": self.source(dataset), "limit": limit}

    def structures(self, name: str) -> list[str]:
        """Returns the file of a set that comes as a file; none where released samples are fetched."""
        run, _, task = name.partition("/")
        if task != RELEASED:
            return [own_file(Path("structures"), name)]
        source = self.released[run].get("source")
        return [source] if source else []

    def release(self, name: str) -> list[str] | None:
        """Returns the name of a set of released samples and what is known of it, as JSON; None for another set."""
        run, _, task = name.partition("/")
        if task != RELEASED:
            return None
        kept = {key: value for key, value in self.released[run].items() if key not in OF_THE_PLAN}
        return [run, json.dumps(kept, sort_keys=True, ensure_ascii=False)]

    def source_files(self, dataset: str, split: str) -> list[Path]:
        """Returns the user's files that may contain a split; nothing for downloaded or embedded data sets."""
        source = self.source(dataset)
        if source is None or not Path(source).is_dir():
            return [Path(source)] if source else []
        names = (split, ALL_SPLITS)
        return sorted(file for file in Path(source).iterdir() if file.name.split(".")[0] in names)

    def files_in_settings(self, run: str, stage: str, task: str) -> list[str]:
        """Returns the files and folders that the settings of a run's stage name, such as weights of a base model."""
        values = json.loads(self.settings(run, stage, task)).values()
        return [value for value in values if isinstance(value, str) and "/" in value and Path(value).exists()]

    def shown(self) -> list[str]:
        """Returns the sets on the map: those evaluated as a whole; if there are none, all but infilling."""
        return self.generated() or [name for name in self.sets() if self.task(name) != "infilling"]

    def references(self) -> list[str]:
        """Returns the data sets whose test split is the background of the map."""
        return list(dict.fromkeys(map(self.dataset, self.shown())))

    def source(self, dataset: str) -> str | None:
        """Returns the folder or file of a data set; None where it is downloaded or embedded.

        Without `source` it is the user's copy in the data root, where that has every split.
        """
        given = self.config["datasets"][dataset].get("source")
        if given is not None:
            return self._found(given)
        folder = self.data_root / based_on(dataset)
        copies = [any(folder.glob(f"{name}.*")) for name in (*SPLITS, ALL_SPLITS)]
        return str(folder) if dataset in PUBLISHED_SETS and (all(copies[:-1]) or copies[-1]) else None

    @property
    def data_root(self) -> Path:
        """The folder of data sets: `data_root` of the configuration, or as `experiment.places` says."""
        return data_root(self.config.get("data_root"))

    def _found(self, source: str) -> str:
        """Returns a configured path as it is or, where only that exists, below the data root."""
        below = self.data_root / source
        return str(below) if not Path(source).exists() and below.exists() else source


def _apart(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Returns the settings of a stage that hold for all tasks, and those of single tasks by task."""
    of_tasks = {key: value for key, value in values.items() if key in TASKS and isinstance(value, Mapping)}
    return {key: value for key, value in values.items() if key not in of_tasks}, of_tasks


def own_file(folder: Path, name: str) -> str:
    """Returns the user's file of a set; a default name where there is none, so that the error names it."""
    found = sorted(folder.glob(f"{glob.escape(name)}.*")) if folder.is_dir() else []
    return str(found[0]) if found else f"{folder}/{name}.extxyz"
