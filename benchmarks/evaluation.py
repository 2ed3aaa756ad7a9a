"""Time of each stage of the evaluation, and the plain way beside ours where ours is faster, in one run.

python benchmarks/evaluation.py --n 100

Crystals: samples of DiffCSP from ../shared/data where that exists, else perturbed copies of the AFLOW prototypes that
pymatgen ships. Prints a Markdown table; every pair of results is compared, and the run fails where they differ.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from matminer.featurizers.composition import ElementProperty
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from crystal_cases import diffcsp, library  # noqa: E402
from xtalgen.crystals import Crystal  # noqa: E402
from xtalgen.fingerprints import structure_fingerprint, warm_up  # noqa: E402
from xtalgen.metrics.coverage import BLOCK, minima  # noqa: E402
from xtalgen.metrics.magpie import magpie_features  # noqa: E402
from xtalgen.metrics.matching import arrays, rms_distance  # noqa: E402
from xtalgen.metrics.uniqueness import unique_and_novel  # noqa: E402
from xtalgen.metrics.validity import comp_valid, reduced_counts, struct_valid  # noqa: E402
from xtalgen.structures import to_structure  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
COVERED, REFERENCES, WIDTHS = 2000, 9046, (61, 132)


def timed(function):
    """Returns the result and the CPU seconds of this process, which other load on the machine hardly changes."""
    started = time.process_time()
    result = function()
    return result, time.process_time() - started


def perturbed(crystals, n, scale, seed):
    generator, made = np.random.default_rng(seed), []
    for index in range(n):
        crystal = crystals[index % len(crystals)]
        coordinates = (crystal.frac_coords + generator.normal(0, scale, crystal.frac_coords.shape)) % 1.0
        made.append(Crystal(f"p{index}", "ok", crystal.lattice, coordinates, crystal.atomic_numbers))
    return made


def structural_validity(crystals):
    def plain():
        made = []
        for crystal in crystals:
            distances = to_structure(crystal).distance_matrix
            made.append(distances[np.triu_indices(len(distances), k=1)].min(initial=np.inf) >= 0.5)
        return made

    known, slow = timed(plain)
    (found, _), fast = timed(lambda: struct_valid(crystals))
    assert found.tolist() == known
    return "structural validity", len(crystals), slow, fast


def composition_features(crystals):
    compositions = [reduced_counts(crystal.atomic_numbers) for crystal in crystals]
    featurizer = ElementProperty.from_preset("magpie")
    made = [Composition({Element.from_Z(z).symbol: n for z, n in counts}) for counts in compositions]
    magpie_features(compositions[:1])
    known, slow = timed(lambda: np.array([featurizer.featurize(composition) for composition in made]))
    found, fast = timed(lambda: magpie_features(compositions))
    assert np.abs(found - known).max() < 1e-9
    return "Magpie features", len(crystals), slow, fast


def by_matrix(a, b):
    distances = cdist(a, b)
    return distances.min(axis=1), distances.min(axis=0)


def coverage_minima():
    generator, slow, fast = np.random.default_rng(0), 0.0, 0.0
    for width in WIDTHS:
        a, b = generator.normal(size=(COVERED, width)), generator.normal(size=(REFERENCES, width))
        known, seconds = timed(lambda a=a, b=b: by_matrix(a, b))
        found, ours = timed(lambda a=a, b=b: minima(a, b))
        assert all(np.allclose(x, y, atol=1e-6) for x, y in zip(found, known, strict=True))
        slow, fast = slow + seconds, fast + ours
    return f"coverage distances to {REFERENCES:,} references", COVERED, slow, fast


def uniqueness(crystals, known):
    def plain():
        matcher, representatives, verdicts = StructureMatcher(), [], []
        structures, references = [to_structure(c) for c in crystals], [to_structure(c) for c in known]
        for structure in structures:
            unique = not any(matcher.fit(other, structure) for other in representatives)
            verdicts.append((unique, not any(matcher.fit(other, structure) for other in references)))
            if unique:
                representatives.append(structure)
        return verdicts

    slow_verdicts, slow = timed(plain)
    kinds, fast = timed(lambda: unique_and_novel(crystals, known, workers=1, timeout=60.0))
    assert [(kind.unique, kind.novel) for kind in kinds] == slow_verdicts
    return f"uniqueness, and novelty against {len(known)}", len(crystals), slow, fast


def single_stages(crystals):
    comp_valid([(11, 1), (17, 1)])  # loads SMACT's tables
    counts = [reduced_counts(crystal.atomic_numbers) for crystal in crystals]
    yield "composition validity (SMACT)", len(crystals), None, timed(lambda: [comp_valid(c) for c in counts])[1]
    few = crystals[: max(5, len(crystals) // 5)]
    warm_up()
    work = [arrays(crystal) for crystal in few]
    yield "CrystalNN fingerprints", len(few), None, timed(lambda: [structure_fingerprint(item) for item in work])[1]
    pairs = [(arrays(a), arrays(b)) for a, b in zip(perturbed(few, len(few), 0.01, 1), few, strict=True)]
    yield "structure prediction: match and RMSE", len(few), None, timed(lambda: [rms_distance(p) for p in pairs])[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="number of crystals")
    n = parser.parse_args().n
    threadpool_limits(1)
    real = SHARED.is_dir()
    crystals = diffcsp(SHARED, n) if real else perturbed(library(), n, 0.02, 0)
    crystals = [*crystals[: n - n // 4], *perturbed(crystals, n // 4, 0.01, 2)]  # a quarter repeats, as models do
    known = perturbed(crystals, max(1, n // 2), 0.02, 3)
    rows = [structural_validity(crystals), composition_features(crystals), coverage_minima(),
            uniqueness(crystals, known), *single_stages(crystals)]  # fmt: skip
    print(f"{'Samples of DiffCSP' if real else 'AFLOW prototypes'}, one thread, CPU seconds, n = {n}.\n")
    print("| stage | crystals | plain, s per 1,000 | xtalgen, s per 1,000 | gain |\n|---|---:|---:|---:|---:|")
    for name, count, slow, fast in rows:
        plain = "" if slow is None else f"{slow / count * 1000:.2f}"
        gain = "" if slow is None else f"{slow / fast:.1f} x"
        print(f"| {name} | {count:,} | {plain} | {fast / count * 1000:.3f} | {gain} |")
    flop, sizes = 2 * COVERED * REFERENCES * sum(WIDTHS), [rows * REFERENCES * 8 for rows in (COVERED, BLOCK)]
    print(
        f"\nCoverage: {flop / 1e9:.1f} GFLOP; distance matrix {sizes[0] / 1e6:.0f} MB, block {sizes[1] / 1e6:.0f} MB."
    )


if __name__ == "__main__":
    main()
