"""Single-point energies, forces and stresses of crystals, in batches."""

from collections.abc import Iterator, Sequence

from xtalgen.crystals import Crystal
from xtalgen.potentials.types import Potential, Prediction
from xtalgen.relaxation.fire import Motion
from xtalgen.relaxation.in_flight import cost
from xtalgen.runtime.quiet import quiet


def evaluate(rows: Sequence[Crystal], potential: Potential) -> Iterator[tuple[Crystal, Prediction | str]]:
    """Yields each crystal with its prediction, or with the reason for failure.

    As many crystals as fit into the potential's capacity are evaluated at once.
    """
    for batch in _batches(rows, potential.capacity):
        try:
            yield from zip(batch, _evaluate(batch, potential), strict=True)
        except Exception:  # noqa: BLE001 - one crystal made the batch fail; each is evaluated alone to find it
            for row in batch:
                yield row, evaluate_alone(row, potential)


def evaluate_alone(row: Crystal, potential: Potential) -> Prediction | str:
    """Returns the prediction for one crystal, or the reason for failure."""
    try:
        return _evaluate([row], potential)[0]
    except Exception as error:  # noqa: BLE001 - a crystal that breaks the potential is data, whatever it raises
        return f"{type(error).__name__}: {error}"


def _batches(rows: Sequence[Crystal], capacity: float) -> Iterator[list[Crystal]]:
    batch: list[Crystal] = []
    for row in rows:
        if batch and sum(map(cost, batch)) + cost(row) > capacity:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _evaluate(batch: Sequence[Crystal], potential: Potential) -> list[Prediction]:
    geometry = Motion.of(batch).geometry()
    with quiet():
        whole = potential.evaluate(geometry)
    return [
        Prediction(whole.energy[index : index + 1], whole.forces[atoms], whole.stress[index : index + 1])
        for index, atoms in enumerate(geometry.slices)
    ]
