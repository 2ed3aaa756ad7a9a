"""Space-group symbols as CIF files write them, and the symmetry operations of the 530 tabulated settings.

Settings, Hall symbols and operations are those of moyo, from the list in International Tables B (A1.4.2.7). A setting
has many spellings: full and short, with old cubic symbols (F m 3 m), old glide letters (C m c a for C m c e), and a
suffix for origin or axes (`:2`, `H`, ICSD's `Z`).
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

N_SETTINGS = 530
MONOCLINIC = range(3, 16)
CUBIC = range(195, 231)
# Symbols before 1992, where replacing e alone leaves the setting ambiguous (groups 67 and 68).
OLD_GLIDES = {
    316: "C m m a", 317: "C m m b", 318: "A b m m", 319: "A c m m", 320: "B m c m", 321: "B m a m",
    322: "C c c a", 323: "C c c a", 324: "C c c b", 325: "C c c b", 326: "A b a a", 327: "A b a a",
    328: "A c a a", 329: "A c a a", 330: "B b c b", 331: "B b c b", 332: "B b a b", 333: "B b a b",
}  # fmt: skip
# Suffixes of a symbol and the settings they select; the longest match is tried first.
ENDINGS = {"originchoice1": "1", "originchoice2": "2", "hr": "h", "rs": "r", "o1": "1", "o2": "2", "s": "1", "z": "2"}
ENDINGS |= {"h": "h", "r": "r"}
METRIC_TOLERANCE = 0.01  # of the metric tensor's entries, relative: about half a degree, half a per cent


class SymbolError(ValueError):
    """A symbol or number is not that of a tabulated space group; the message names it."""


@dataclass(frozen=True)
class SpaceGroupSetting:
    """One of the 530 settings: its place in Hall's list, group number 1 to 230, full symbol, code of origin or axes."""

    hall_number: int
    number: int
    symbol: str
    code: str

    @property
    def name(self) -> str:
        """The full symbol with the code, such as "F 4_1/d -3 2/m:2"."""
        return f"{self.symbol}:{self.code}" if self.code else self.symbol


def find_settings(*, symbol: str = "", hall: str = "", number: int = 0) -> list[SpaceGroupSetting]:
    """Returns the settings that all of symbol (Hermann–Mauguin), Hall symbol and number allow, standard ones first.

    At least one of the three is given. Several settings remain where a symbol leaves origin or axes open. Raises
    SymbolError where one of the three is unknown or they contradict each other.
    """
    ways: tuple[tuple[Any, str | int], ...] = ((_by_symbol, symbol), (_by_hall, hall), (_by_number, number))
    given = [(find, name) for find, name in ways if name]
    found = [find(name) for find, name in given]
    common = [setting for setting in found[0] if all(setting in others for others in found[1:])]
    if not common:
        raise SymbolError(f"the space groups {' and '.join(str(name) for _, name in given)} contradict each other")
    return common


@functools.lru_cache(maxsize=N_SETTINGS)
def operations(hall_number: int) -> Float[np.ndarray, "operations 4 4"]:
    """Returns the symmetry operations of a setting, centring included, as affine matrices on fractional columns."""
    from moyopy import HallSymbolEntry, Setting, operations_from_number

    group = HallSymbolEntry(hall_number=hall_number).number
    found = operations_from_number(group, setting=Setting.hall_number(hall_number))
    affine = np.tile(np.eye(4), (len(found.rotations), 1, 1))
    affine[:, :3, :3] = found.rotations
    affine[:, :3, 3] = found.translations
    return affine


def fits_cell(rotations: Float[np.ndarray, "operations 3 3"], lattice: Float[np.ndarray, "3 3"]) -> bool:
    """Whether rotations (on fractional columns) keep the metric G, the dot products of a cell's axes: Rᵀ G R = G."""
    metric = lattice @ lattice.T
    turned = np.swapaxes(rotations, 1, 2) @ metric @ rotations
    lengths = np.sqrt(np.diag(metric))
    return bool(np.all(np.abs(turned - metric) <= METRIC_TOLERANCE * np.outer(lengths, lengths)))


def _by_symbol(symbol: str) -> list[SpaceGroupSetting]:
    name, _, code = _plain(symbol).partition(":")
    known = _symbols()
    if name not in known and not code:
        # ICSD's capital R3m H, Fd-3m Z and the like, without a colon.
        for ending in sorted(ENDINGS, key=len, reverse=True):
            if name.endswith(ending) and name.removesuffix(ending) in known:
                name, code = name.removesuffix(ending), ending
                break
    code = ENDINGS.get(code, code)
    settings = [setting for setting in known.get(name, ()) if not code or _has_code(setting, code)]
    if not settings:
        raise SymbolError(f"unknown space-group symbol {symbol!r}")
    return settings


def _has_code(setting: SpaceGroupSetting, code: str) -> bool:
    return setting.code.lower() == code or (code in "12" and setting.code.startswith(code))


def _by_hall(hall: str) -> list[SpaceGroupSetting]:
    wanted = _plain_hall(hall)
    settings = [setting for setting, symbol in _table() if _plain_hall(symbol) == wanted]
    if not settings:
        raise SymbolError(f"unknown Hall symbol {hall!r}")
    return settings


def _by_number(number: int) -> list[SpaceGroupSetting]:
    settings = [setting for setting, _ in _table() if setting.number == number]
    if not settings:
        raise SymbolError(f"there is no space group number {number}")
    return settings


def _plain(symbol: str) -> str:
    """Returns a symbol in lower case without spaces, underscores and brackets, with every bar as a minus before."""
    text = re.sub(r"\\bar\s*\{?\s*(\d)\s*\}?", r"-\1", symbol)
    text = re.sub(r"(\d)[\u0304\u0305]", r"-\1", text)
    text = re.sub(r"[\u2010-\u2015\u2212\u00af]", "-", text)
    return re.sub(r"[\s_(){}\[\]'\"$,]", "", text).lower()


def _plain_hall(symbol: str) -> str:
    return " ".join(symbol.replace('"', "=").replace("_", " ").lower().split())


@functools.cache
def _table() -> tuple[tuple[SpaceGroupSetting, str], ...]:
    from moyopy import HallSymbolEntry

    entries = (HallSymbolEntry(hall_number=index) for index in range(1, N_SETTINGS + 1))
    return tuple(
        (SpaceGroupSetting(entry.hall_number, entry.number, entry.hm_full, str(entry.setting)), entry.hall_symbol)
        for entry in entries
    )


@functools.cache
def _symbols() -> dict[str, tuple[SpaceGroupSetting, ...]]:
    from moyopy import HallSymbolEntry

    found: dict[str, dict[SpaceGroupSetting, None]] = {}
    for setting, _ in _table():
        short = HallSymbolEntry(hall_number=setting.hall_number).hm_short
        for name in _spellings(setting, short):
            found.setdefault(_plain(name), {})[setting] = None
    return {name: tuple(settings) for name, settings in found.items()}


def _spellings(setting: SpaceGroupSetting, short: str) -> set[str]:
    names = {setting.symbol}
    if setting.number in MONOCLINIC:
        # The tabulated short symbol belongs to the group; that of the setting is the full one without its 1s.
        names.add(" ".join(part for part in setting.symbol.split() if part != "1"))
    else:
        names.add(short)
    if setting.number in CUBIC:
        names |= {re.sub(r"^([PFI] \S+) -3", r"\1 3", name) for name in names}
    if setting.hall_number in OLD_GLIDES:
        names.add(OLD_GLIDES[setting.hall_number])
    elif " e" in short:
        names |= {short.replace("e", letter) for letter in "abc"}
    return names
