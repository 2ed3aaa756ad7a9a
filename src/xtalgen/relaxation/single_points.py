"""Energies, forces and stresses of crystals as they are, in batches."""

from collections.abc import Iterator, Sequence

from xtalgen.crystals import Crystal
from xtalgen.potentials import registry as potentials
from xtalgen.potentials.types import Found, Potential
from xtalgen.relaxation.fire import Motion
from xtalgen.relaxation.in_flight import cost


def evaluate(rows: Sequence[Crystal], potential: Potential) -> Iterator[tuple[Crystal, Found | str]]:
    """Yields each crystal with what the potential finds, or with the reason why it finds nothing.

    As many crystals as fit into the potential's capacity are evaluated at once.
    """
    for batch in _batches(rows, potential.capacity):
        try:
            yield from zip(batch, _evaluate(batch, potential), strict=True)
        except Exception:  # noqa: BLE001 - one of them broke it; each alone says which
            for row in batch:
                yield row, evaluate_alone(row, potential)


def _batches(rows: Sequence[Crystal], capacity: float) -> Iterator[list[Crystal]]:
    batch: list[Crystal] = []
    for row in rows:
        if batch and sum(map(cost, batch)) + cost(row) > capacity:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _evaluate(batch: Sequence[Crystal], potential: Potential) -> list[Found]:
    geometry = Motion.of(batch).geometry()
    with potentials.quiet():
        found = potential.evaluate(geometry)
    return [
        Found(found.energy[place : place + 1], found.forces[atoms], found.stress[place : place + 1])
        for place, atoms in enumerate(geometry.slices)
    ]


def evaluate_alone(row: Crystal, potential: Potential) -> Found | str:
    try:
        return _evaluate([row], potential)[0]
    except Exception as error:  # noqa: BLE001 - a crystal that breaks the potential is data, whatever it raises
        return f"{type(error).__name__}: {error}"
