"""The abstract class of all models, and loading by name.

A model is one file `models/NAME.py` that defines a final class `Model(AbstractModel)`; networks live under
`models/networks/`. Training and sampling import only torch, numpy, pyarrow, pyyaml, safetensors, tqdm and jaxtyping, so
that they run on a bare GPU node.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from xtalgen.crystals import Crystal
from xtalgen.runtime.bounds import explain_number
from xtalgen.runtime.names import TRAINED_TASKS
from xtalgen.training.contract import check_class
from xtalgen.training.job import Job


class AbstractModel(ABC):
    """A generative model of crystals. Subclasses are final and stateless: all state is in the checkpoint.

    Config: frozen dataclass, every hyper-parameter of training with its default.
    Sampling: frozen dataclass, every setting of sampling with its default.
    The rest are literals in the class body, which the workflow reads without importing the file. tasks: those of
    `TRAINED_TASKS` that the model is for; shared_checkpoint: one training for both tasks; needs_bonds, needs_wyckoff:
    crystals come with the column `bonds` or `wyckoff`; needs_base: the model refines the crystals of another run and
    learns from pairs (`stages.refinement_pairs`); takes_prompts: it is an `AbstractPromptedModel`.
    training/contract.yaml has all rules.
    """

    Config: ClassVar[type]
    Sampling: ClassVar[type]
    tasks: ClassVar[tuple[str, ...]] = TRAINED_TASKS
    shared_checkpoint: ClassVar[bool] = False
    needs_bonds: ClassVar[bool] = False
    needs_wyckoff: ClassVar[bool] = False
    needs_base: ClassVar[bool] = False
    takes_prompts: ClassVar[bool] = False

    @abstractmethod
    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: Any, job: Job) -> None:
        """Trains and writes `checkpoint.safetensors`, `log.csv` and `training.json` into `job.out`.

        Resumes from `job.work` when an earlier attempt with the same configuration and data was killed. On a CPU the
        result equals that of an uninterrupted training bit by bit.
        """

    @abstractmethod
    def sample(
        self,
        checkpoint: Path,
        wanted: Any,
        sampling: Any,
        seed: int,
        device: str,
    ) -> Iterator[Crystal]:
        """Yields exactly the crystals asked for, failed ones included (with a status); the caller assigns ids.

        wanted: a number of crystals (dng), or an array of atomic numbers (n,) for each crystal (csp), which has exactly
        these atoms in this order; for a model with `needs_base`, the crystals of another run to be refined, failed ones
        included. Equal seeds give equal crystals.
        """

    @abstractmethod
    def network_evaluations(self, sampling: Any) -> int:
        """Returns the number of network evaluations per crystal with these settings."""


class AbstractPromptedModel(AbstractModel):
    """A model that also generates crystals with given properties, and predicts hidden elements.

    Its `sample` also takes one mapping of attributes per crystal (conditional), with names of
    `structure.attributes.ATTRIBUTES`; a formula together with a number of atoms determines the atoms.
    """

    @abstractmethod
    def infill(
        self, checkpoint: Path, crystals: Sequence[Crystal], sampling: Any, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals in order, with predictions of one element that is hidden in each.

        `info` gets `hidden` (its symbol), `rank` (its rank among the candidates by likelihood, from 1; None when it is
        no candidate) and `guesses` (the five likeliest); all None for crystals that are not ok or cannot be written.
        """


def load(name: str) -> AbstractModel:
    """Returns the model `models/NAME.py`.

    Raises ValueError, listing the known models, for another name, and ModelContractError when the class breaks the
    contract.
    """
    known = names()
    if name not in known:
        raise ValueError(
            f"no model {name!r}; there are {', '.join(known)}. A model is a file src/xtalgen/models/NAME.py."
        )
    kind: Any = getattr(importlib.import_module(f"xtalgen.models.{name}"), "Model", None)
    check_class(name, kind, AbstractModel)
    return kind()


def names() -> list[str]:
    """Returns the names of all models."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def build(kind: type, values: dict[str, Any], where: str) -> Any:
    """Returns the dataclass `kind` with these configuration values.

    Raises ValueError naming `where` and the key when a key is unknown, its value has the wrong type, or a number is not
    finite or beyond its bound (`runtime.bounds`).
    """
    fields = getattr(kind, "__dataclass_fields__")  # noqa: B009
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(fields)}.")
    hints = get_type_hints(kind)
    fitted = {key: _fit(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    for key, value in fitted.items():
        if reason := explain_number(key, value):
            raise ValueError(f"{where}: {key} {reason}. Give a sensible number.")
    try:
        return kind(**fitted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _fit(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 3e-4 as text.
        try:
            return float(value)
        except ValueError:
            pass
    value = tuple(value) if isinstance(value, list) else value
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ValueError(f"{where} is {value!r}; choose one of {', '.join(map(repr, get_args(hint)))}.")
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(option) or option for option in options if option is not Any)
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{where} is {value!r}, a {type(value).__name__}; it must be {names}.")
    return value
