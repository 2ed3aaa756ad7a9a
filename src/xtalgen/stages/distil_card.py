"""Stage `distil_card`: writes the model card of a distilled potential.

It states the errors on held-out crystals, against the teacher and against the data set's DFT formation energies.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import Identity, Prediction
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig
from xtalgen.relaxation.runner import relax_all
from xtalgen.relaxation.single_points import evaluate
from xtalgen.runtime.atomic import write_text
from xtalgen.structure.attributes import E_FORM
from xtalgen.structure.composition import reduced_counts
from xtalgen.thermodynamics.competing_phases import competition
from xtalgen.thermodynamics.energy_above_hull import Phase, energies_above_hull

BAR = 50.0  # meV/atom, mean absolute error of the formation energy against the teacher
MIN_CRYSTALS = 3  # needed with an element, for its error to be reported
MEV = 1000.0


@dataclass(frozen=True)
class TestSize:
    """Numbers of test crystals: evaluated as given, of these relaxed by both, of these compared with the hull."""

    n_given: int = 500
    n_relaxed: int = 100
    n_hull: int = 150
    max_steps: int = 200
    fmax: float = 0.05
    seed: int = 0


def write_distil_card(
    model: Path,
    *,
    teacher: str,
    test: Path,
    known: Sequence[Path],
    size: TestSize,
    work: Path,
    out_json: Path,
    out_markdown: Path,
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Writes the card as JSON and as Markdown; `work` keeps every energy, so that a killed run resumes.

    test: table of held-out crystals; known: tables of the other crystals, for elemental references and hull. Formation
    energies are relative to each potential's own lowest crystal of each element. Raises PotentialError and
    ContractError.
    """
    pair = {"student": registry.identify(str(model)), "teacher": registry.identify(teacher)}
    run = Run(pair, work, workers, device)
    others = [row for path in known for row in crystals.read_crystals(path) if row.ok]
    tested = [row for row in crystals.read_crystals(test) if row.ok]
    levels = run.elements([*others, *tested])
    order = np.random.default_rng(size.seed).permutation(len(tested))
    chosen = [tested[index] for index in order if run.covers(tested[index], levels)][: size.n_given]
    facts: dict[str, Any] = {"model_sha256": pair["student"].sha256, "teacher": pair["teacher"].name, "bar": BAR}
    facts["given"], per_element = _given(run, chosen, levels)
    facts["relaxed"] = _relaxed(run, chosen[: size.n_relaxed], levels, size)
    facts["hull"] = _hull(run, chosen[: size.n_hull], others)
    facts["per_element"] = per_element
    facts["elements"] = [chemical_symbols[number] for number in sorted(levels["student"])]
    facts["meets_bar"] = max(facts["given"]["e_form_mae"], facts["relaxed"]["e_form_mae"]) <= BAR
    write_text(out_json, json.dumps(facts, indent=1) + "\n")
    write_text(out_markdown, card_markdown(facts, registry.read_metadata(pair["student"])))


@dataclass(frozen=True)
class Run:
    """The two potentials, and the folder that stores their outcomes."""

    pair: Mapping[str, Identity]
    work: Path
    workers: int
    device: str

    def outcomes(self, rows: Sequence[Crystal], who: str, config: RelaxConfig) -> list[Outcome]:
        """Relaxes crystals with one of the potentials and returns the outcomes."""
        found, _ = relax_all(
            rows,
            identity=self.pair[who],
            config=config,
            workers=self.workers,
            device=self.device,
            store=self.work,
            label=f"card: {who}",
        )
        return found

    def energies(self, rows: Sequence[Crystal], who: str) -> list[float | None]:
        """Returns the energies of the unrelaxed crystals in eV/atom; None where the potential failed."""
        found = self.outcomes(rows, who, RelaxConfig(0.0, 0, None))
        return [None if one.energy is None else one.energy / row.n_atoms for row, one in zip(rows, found, strict=True)]

    def elements(self, rows: Sequence[Crystal]) -> dict[str, dict[int, float]]:
        """Returns the lowest energy (eV/atom) of each element with a crystal, for each potential."""
        single = [row for row in rows if len(set(row.atomic_numbers.tolist())) == 1]
        levels: dict[str, dict[int, float]] = {}
        for who in self.pair:
            levels[who] = {}
            for row, energy in zip(single, self.energies(single, who), strict=True):
                number = int(row.atomic_numbers[0])
                if energy is not None and energy < levels[who].get(number, np.inf):
                    levels[who][number] = energy
        return levels

    def covers(self, row: Crystal, levels: Mapping[str, Mapping[int, float]]) -> bool:
        """Whether both potentials have an elemental reference for each element of a crystal."""
        return all({int(number) for number in row.atomic_numbers} <= set(levels[who]) for who in self.pair)


def _forms(rows: Sequence[Crystal], energies: Sequence[float], level: Mapping[int, float]) -> np.ndarray:
    """Returns the formation energies of crystals from their energies, both in eV/atom."""
    elements = [np.mean([level[int(number)] for number in row.atomic_numbers]) for row in rows]
    return np.array(energies) - np.array(elements)


def _given(
    run: Run, rows: Sequence[Crystal], levels: Mapping[str, Mapping[int, float]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the errors on unrelaxed crystals, and the mean error of the crystals with each element."""
    found: dict[str, list[Any]] = {}  # predictions, or reasons for failure
    for who, identity in run.pair.items():
        potential = registry.load_identified(identity, run.device)
        found[who] = [prediction for _, prediction in evaluate(rows, potential)]
    kept = [index for index in range(len(rows)) if all(isinstance(found[who][index], Prediction) for who in found)]
    rows_kept = [rows[index] for index in kept]
    per_atom = {who: [float(found[who][index].energy[0]) / rows[index].n_atoms for index in kept] for who in found}
    form = {who: _forms(rows_kept, per_atom[who], levels[who]) for who in found}
    apart = form["student"] - form["teacher"]
    dft = np.array([np.nan if (value := row.info.get(E_FORM)) is None else value for row in rows_kept], dtype=float)
    forces = np.concatenate([found["student"][index].forces - found["teacher"][index].forces for index in kept])
    stress = np.concatenate([found["student"][index].stress - found["teacher"][index].stress for index in kept])
    total = np.array(per_atom["student"]) - np.array(per_atom["teacher"])
    facts = {
        "n": len(kept),
        "n_failed": len(rows) - len(kept),
        "e_form_mae": _mae(apart),
        "e_form_median": float(np.median(np.abs(apart)) * MEV),
        "e_form_bias": float(apart.mean() * MEV),
        "energy_mae": _mae(total),
        "forces_mae": _mae(forces),
        "stress_mae": _mae(stress),
        "spearman_e_form": _spearman(form["student"], form["teacher"]),
        "dft_student_mae": _mae(form["student"] - dft),
        "dft_teacher_mae": _mae(form["teacher"] - dft),
    }
    return facts, _per_element(rows_kept, apart)


def _per_element(rows: Sequence[Crystal], apart: np.ndarray) -> dict[str, Any]:
    errors: dict[int, list[float]] = {}
    for row, error in zip(rows, apart, strict=True):
        for number in sorted({int(number) for number in row.atomic_numbers}):
            errors.setdefault(number, []).append(abs(float(error)) * MEV)
    return {
        chemical_symbols[number]: {"n": len(found), "mae": float(np.mean(found))}
        for number, found in sorted(errors.items())
    }


def _relaxed(
    run: Run, rows: Sequence[Crystal], levels: Mapping[str, Mapping[int, float]], size: TestSize
) -> dict[str, Any]:
    """Returns the errors after each potential has relaxed the crystals."""
    config = RelaxConfig(size.fmax, size.max_steps, None)
    found: dict[str, Sequence[Any]] = {who: run.outcomes(rows, who, config) for who in run.pair}
    kept = [index for index in range(len(rows)) if all(found[who][index].energy is not None for who in found)]
    ends = {who: [found[who][index].energy / rows[index].n_atoms for index in kept] for who in found}
    form = {who: _forms([rows[index] for index in kept], ends[who], levels[who]) for who in found}
    volume = np.array([found["student"][index].volume_ratio / found["teacher"][index].volume_ratio for index in kept])
    return {
        "n": len(kept),
        "n_failed": {who: sum(one.energy is None for one in found[who]) for who in found},
        "converged": {who: sum(one.converged for one in found[who]) for who in found},
        "e_form_mae": _mae(form["student"] - form["teacher"]),
        "volume_mae_percent": float(np.abs(volume - 1).mean() * 100),
        "steps": {who: float(np.mean([one.n_steps or 0 for one in found[who]])) for who in found},
        "ms_per_step": {who: _ms_per_step(found[who]) for who in found},
    }


def _ms_per_step(found: Iterable[Outcome]) -> float:
    done = [(one.seconds, one.n_steps) for one in found if one.seconds and one.n_steps is not None]
    return 1000 * sum(seconds for seconds, _ in done) / max(1, sum(steps + 1 for _, steps in done))


def _hull(run: Run, rows: Sequence[Crystal], others: Sequence[Crystal]) -> dict[str, Any]:
    """Returns how well the energies above the hull agree, each potential with its own hull of the known crystals."""
    competing = list(filter(competition(rows), others))
    above = {}
    for who in run.pair:
        energies = iter(run.energies([*rows, *competing], who))
        phases = [
            None if (energy := next(energies)) is None else Phase(reduced_counts(row.atomic_numbers), energy)
            for row in (*rows, *competing)
        ]
        references = [phase for phase in phases[len(rows) :] if phase is not None]
        found = energies_above_hull(phases[: len(rows)], references, workers=run.workers)
        above[who] = np.array([np.nan if one.value is None else one.value for one in found])
    both = np.isfinite(above["student"]) & np.isfinite(above["teacher"])
    student, teacher = above["student"][both], above["teacher"][both]
    return {
        "n": int(both.sum()),
        "n_references": len(competing),
        "mae": _mae(student - teacher),
        "spearman": _spearman(student, teacher),
        "same_side_of_0": float(np.mean((student <= 0) == (teacher <= 0))),
        "same_side_of_100_mev": float(np.mean((student <= 0.1) == (teacher <= 0.1))),
    }


def _mae(errors: np.ndarray) -> float:
    return float(np.nanmean(np.abs(errors)) * MEV)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def card_markdown(facts: Mapping[str, Any], stored: Mapping[str, str]) -> str:
    """Returns the card in Markdown."""
    given, relaxed, hull = facts["given"], facts["relaxed"], facts["hull"]
    verdict = "meets" if facts["meets_bar"] else "**does not meet**"
    rows = {
        "formation energy as given, meV/atom": f"{given['e_form_mae']:.0f} (median {given['e_form_median']:.0f})",
        "total energy as given, meV/atom": f"{given['energy_mae']:.0f}",
        "formation energy, each relaxed by itself, meV/atom": f"{relaxed['e_form_mae']:.0f}",
        "forces, meV/Å": f"{given['forces_mae']:.0f}",
        "stress, meV/Å³": f"{given['stress_mae']:.1f}",
        "volume after relaxation, %": f"{relaxed['volume_mae_percent']:.1f}",
        "energy above the hull, meV/atom": f"{hull['mae']:.0f}",
    }
    return "\n".join(
        [
            f"Trained on {stored.get('n_learned', '?')} configurations of {stored.get('n_crystals', '?')} crystals,",
            f"labelled by {facts['teacher']}, with mace-torch {stored.get('mace', '?')}.",
            f"sha256 `{facts['model_sha256']}`.",
            "",
            f"Mean absolute errors against the teacher, on {given['n']} crystals that were not trained on",
            f"({relaxed['n']} relaxed, {hull['n']} compared with the hull of {hull['n_references']} others):",
            "",
            "| | error |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            f"It {verdict} the bar: formation energies within {facts['bar']:.0f} meV/atom of the teacher's on average.",
            f"Rank correlation with the teacher (Spearman): formation energy {given['spearman_e_form']:.3f}, energy",
            f"above the hull {hull['spearman']:.3f}. {100 * hull['same_side_of_100_mev']:.0f} % of the crystals lie on",
            f"the same side of 0.1 eV/atom, {100 * hull['same_side_of_0']:.0f} % on the same side of 0.",
            "",
            f"Against the data set's DFT formation energies: {given['dft_student_mae']:.0f} meV/atom, the teacher's",
            f"own error {given['dft_teacher_mae']:.0f}.",
            "",
            f"A step of relaxation took {relaxed['ms_per_step']['student']:.0f} ms, with the teacher",
            f"{relaxed['ms_per_step']['teacher']:.0f} ms; {relaxed['converged']['student']} of {relaxed['n']} crystals",
            f"converged, with the teacher {relaxed['converged']['teacher']}.",
            "",
            *_doubts(facts),
            "",
        ]
    )


def _doubts(facts: Mapping[str, Any]) -> list[str]:
    """Returns the lines on the elements with the largest errors and on untested elements."""
    tested = {symbol: one for symbol, one in facts["per_element"].items() if one["n"] >= MIN_CRYSTALS}
    worst = sorted(((one["mae"], symbol, one["n"]) for symbol, one in tested.items()), reverse=True)[:12]
    doubtful = ", ".join(f"{symbol} ({error:.0f} meV/atom, n = {n})" for error, symbol, n in worst)
    untested = ", ".join(symbol for symbol in facts["elements"] if symbol not in tested)
    lines = [f"Largest errors: crystals with {doubtful}."]
    return [*lines, f"Elements that were not tested: {untested}."] if untested else lines
