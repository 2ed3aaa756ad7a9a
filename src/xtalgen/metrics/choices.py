"""The choices that make up recipes. A misspelt one is refused, with a list of valid ones."""

from dataclasses import fields
from enum import StrEnum
from typing import NoReturn

# eV/atom. Relaxing to 0.05 eV/Å leaves energies uncertain by about this much: copies of crystals on the
# hull, relaxed again from a strained start, end 1e-5 above it, and "at most 0" must not turn on that.
TOLERANCE = 1e-4


class Choice(StrEnum):
    """One of a few named alternatives."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"no {cls.__name__} {value!r}; choose from {', '.join(map(repr, map(str, cls)))}")


class OxidationStates(Choice):
    """Tables of oxidation states, each with the rule of the SMACT version that has it.

    SMACT_2_2_1: the version that CDVAE, DiffCSP and FlowMM pin. SMACT_2_5: the same but for iridium, which gained -3
    and lost -2 (crystal-text-llm). SMACT14 and ICSD24: `smact_validity` of the installed SMACT 4 with its 2014 set,
    which is SMACT 2.6's default, and with its own default.
    """

    SMACT_2_2_1 = "smact_2_2_1"
    SMACT_2_5 = "smact_2_5"
    SMACT14 = "smact14"
    ICSD24 = "icsd24"


class Denominator(Choice):
    """The crystals that a rate is over."""

    ASKED_FOR = "asked for"
    PARSED = "parsed"
    FINGERPRINTED = "with a fingerprint"


class MatchFilter(Choice):
    """What must be valid for a match to count."""

    BOTH = "prediction and target valid"
    PREDICTION = "prediction valid"
    NEITHER = "no filter"


class Geometry(Choice):
    """Which geometry of a crystal is judged."""

    RELAXED = "relaxed where relaxation succeeded"
    SAMPLED = "as sampled"


class Scale(Choice):
    """Where the mean and the deviation of composition features come from."""

    TRAINING = "training split"
    CDVAE_CONSTANTS = "constants of CDVAE"


class Among(Choice):
    """Crystals among which uniqueness is judged for S.U.N."""

    EVERYTHING = "all crystals"
    CLASS = "the crystals of the same stability class"


class Split(Choice):
    """The splits of a data set."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Rules:
    """Base of groups of choices: a text given for a `Choice` becomes it, or raises ValueError when it is misspelt."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            default = item.default[0] if isinstance(item.default, tuple) and item.default else item.default
            if isinstance(default, Choice):
                given = getattr(self, item.name)
                kind = type(default)
                known = tuple(map(kind, given)) if isinstance(item.default, tuple) else kind(given)
                object.__setattr__(self, item.name, known)
