"""The evaluation of CDVAE as its script does it, beside ours, in one run: same crystals, same cores, same values.

python benchmarks/evaluation.py --n 100              # a minute; 1000 takes ten
python benchmarks/evaluation.py --n 100 --scale      # ours as a whole at 1,000, 3,000 and 10,000 samples

Crystals: samples of DiffCSP from ../shared/data where that exists, else perturbed copies of the AFLOW prototypes that
pymatgen ships. Prints Markdown. Every pair of results is compared, and the run fails where they differ.
"""

import argparse
import csv
import gzip
import itertools
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matminer.featurizers.composition import ElementProperty
from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from smact import neutral_ratios
from smact.screening import pauling_test
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from crystal_cases import diffcsp, library  # noqa: E402
from xtalgen.crystals import Crystal  # noqa: E402
from xtalgen.featurizers.fingerprints import structure_fingerprint  # noqa: E402
from xtalgen.featurizers.magpie import magpie_features  # noqa: E402
from xtalgen.io.structure_files import read_crystal  # noqa: E402
from xtalgen.metrics.compositions import comp_valid, elements  # noqa: E402
from xtalgen.metrics.coverage import Cutoffs, coverage  # noqa: E402
from xtalgen.metrics.distributions import density, num_elems  # noqa: E402
from xtalgen.metrics.novelty import Matching  # noqa: E402
from xtalgen.metrics.validity import struct_valid  # noqa: E402
from xtalgen.structure.composition import reduced_counts  # noqa: E402
from xtalgen.structure.matcher import arrays  # noqa: E402
from xtalgen.structure.pymatgen import to_structure  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
COMPARED = 100  # for uniqueness, whose plain way compares all pairs
SCALES = (1000, 3000, 10000)
SIMPLEST = (np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8))


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


def parsing(crystals):
    texts = [str(CifWriter(to_structure(crystal))) for crystal in crystals]
    known, slow = timed(lambda: [Structure.from_str(text, fmt="cif") for text in texts])
    found, fast = timed(lambda: [read_crystal(text) for text in texts])
    for ours, structure in zip(found, known, strict=True):
        assert np.array_equal(ours.atomic_numbers, structure.atomic_numbers)
        assert np.allclose(ours.lattice, structure.lattice.matrix, rtol=0, atol=1e-9)
        assert np.allclose(ours.frac_coords, structure.frac_coords % 1.0, rtol=0, atol=1e-9)
    return known, slow, fast


def structural_validity(crystals, structures):
    def plain():
        made = []
        for structure in structures:
            distances = structure.distance_matrix
            distances = distances + np.diag(np.full(len(structure), 10.0))
            made.append(distances.min() >= 0.5 and structure.volume >= 0.1)
        return made

    known, slow = timed(plain)
    (found, _), fast = timed(lambda: struct_valid(crystals))
    assert found.tolist() == known
    return slow, fast


def charges_balance(counts):
    """CDVAE's rule with the tables of SMACT 2.2.1: combination by combination through SMACT's functions."""
    known, amounts = [elements()[number] for number, _ in counts], [count for _, count in counts]
    if len(known) == 1 or all(element.metal for element in known):
        return True
    scale = [element.electronegativity for element in known]
    for charges in itertools.product(*(element.oxidation_states for element in known)):
        if neutral_ratios(charges, stoichs=[(amount,) for amount in amounts], threshold=max(amounts)):
            if None in scale:
                return comp_valid(counts)  # SMACT 2.2.1 raised an error here, which CDVAE took for a pass
            if pauling_test(charges, scale):
                return True
    return False


def composition_validity(crystals):
    compositions = [reduced_counts(crystal.atomic_numbers) for crystal in crystals]
    elements()
    known, slow = timed(lambda: [charges_balance(counts) for counts in compositions])
    found, fast = timed(lambda: [comp_valid(counts) for counts in compositions])
    assert found == known
    return slow, fast


def structure_fingerprints(crystals, structures):
    featurizer = CrystalNNFingerprint.from_preset("ops")

    def plain():
        return np.array([np.mean([featurizer.featurize(s, i) for i in range(len(s))], axis=0) for s in structures])

    structure_fingerprint(SIMPLEST)  # compiles, or loads what was compiled
    known, slow = timed(plain)
    found, fast = timed(lambda: np.array([structure_fingerprint(arrays(crystal)) for crystal in crystals]))
    assert np.abs(found - known).max() < 1e-8
    return found, slow, fast


def composition_fingerprints(crystals, structures):
    featurizer = ElementProperty.from_preset("magpie")
    magpie_features([((1, 1),)])
    known, slow = timed(lambda: np.array([featurizer.featurize(structure.composition) for structure in structures]))
    found, fast = timed(lambda: magpie_features([reduced_counts(crystal.atomic_numbers) for crystal in crystals]))
    assert np.abs(found - known).max() < 1e-9
    return found, slow, fast


def coverages(prints, references):
    limits = Cutoffs()

    def plain():
        near = [cdist(a, b) for a, b in zip(prints, references, strict=True)]
        pairs = [(near[0].min(axis=axis), near[1].min(axis=axis)) for axis in (0, 1)]
        return [(a <= limits.structure) & (b <= limits.composition) for a, b in pairs]

    known, slow = timed(plain)
    found, fast = timed(lambda: coverage(prints, references, limits))
    assert np.array_equal(found.references, known[0])
    assert np.array_equal(found.generated, known[1])
    return slow, fast


def distributions(crystals, structures, references):
    target = [density(crystal) for crystal in references], [num_elems(crystal) for crystal in references]

    def plain():
        values = [s.density for s in structures], [len(set(s.species)) for s in structures]
        return [wasserstein_distance(*pair) for pair in zip(values, target, strict=True)]

    def ours():
        values = [density(crystal) for crystal in crystals], [num_elems(crystal) for crystal in crystals]
        return [wasserstein_distance(*pair) for pair in zip(values, target, strict=True)]

    known, slow = timed(plain)
    found, fast = timed(ours)
    assert np.allclose(found, known, rtol=0, atol=1e-6)
    return slow, fast


def uniqueness(crystals):
    crystals = [*crystals[:COMPARED], *perturbed(crystals, COMPARED // 4, 0.01, 2)]  # some repeat, as models do
    known = perturbed(crystals[: COMPARED // 2], COMPARED // 2, 0.02, 3)

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
    kinds, fast = timed(lambda: Matching().compare(crystals, known))
    assert [(kind.unique, kind.novel) for kind in kinds] == slow_verdicts
    return slow, fast


def mp_20(split):
    with gzip.open(SHARED / "mp_20" / f"{split}.csv.gz", "rt") as file:
        read = [(row["material_id"], read_crystal(row["cif"])) for row in csv.DictReader(file)]
    return [Crystal(name, "ok", cell.lattice, cell.frac_coords, cell.atomic_numbers) for name, cell in read]


def reference_fingerprints(crystals):
    """Returns both fingerprints, computed once for all sets, and the seconds that took; coverage scales the second."""
    prints, seconds = timed(lambda: np.array([structure_fingerprint(arrays(crystal)) for crystal in crystals]))
    features = magpie_features([reduced_counts(crystal.atomic_numbers) for crystal in crystals])
    return prints, features, seconds


def compare(n):
    """Yields the parts of CDVAE's evaluation: name, CPU seconds of the plain way and of ours."""
    crystals = diffcsp(SHARED, n) if SHARED.is_dir() else perturbed(library(), n, 0.02, 0)
    test = mp_20("test")[: max(500, 10 * n)] if SHARED.is_dir() else perturbed(library(), n, 0.02, 5)
    structures, *seconds = parsing(crystals)
    yield "reading CIFs", *seconds
    yield "structural validity", *structural_validity(crystals, structures)
    yield "composition validity (SMACT)", *composition_validity(crystals)
    plain_structures = [to_structure(crystal) for crystal in crystals]  # CIFs keep eight digits
    prints, *seconds = structure_fingerprints(crystals, plain_structures)
    yield "CrystalNN fingerprints", *seconds
    features, *seconds = composition_fingerprints(crystals, plain_structures)
    yield "Magpie features", *seconds
    reference, reference_features, once = reference_fingerprints(test)
    mean, deviation = reference_features.mean(axis=0), np.maximum(reference_features.std(axis=0), 1e-12)
    scaled = [(each - mean) / deviation for each in (features, reference_features)]
    yield f"coverage of {len(test):,} references", *coverages((prints, scaled[0]), (reference, scaled[1]))
    yield "density and number of elements", *distributions(crystals, plain_structures, test)
    yield None, once, None
    yield f"uniqueness and novelty, first {COMPARED}", *uniqueness(crystals)


def print_comparison(n):
    rows = list(compare(n))
    last = next(place for place, row in enumerate(rows) if row[0] is None)
    total = ("CDVAE's evaluation", *(sum(row[column] for row in rows[:last]) for column in (1, 2)))
    print(f"\n{n:,} samples, CPU seconds of one thread.\n")
    print("| part | plain | xtalgen | gain |\n|---|---:|---:|---:|")
    for name, slow, fast in (*rows[:last], total, *rows[last + 1 :]):
        print(f"| {name} | {slow:.2f} | {fast:.3f} | {slow / fast:.1f} x |")
    print(f"\nValues are equal. Fingerprints of the references, once for all sets: {rows[last][1]:.0f} s with xtalgen.")


def run_evaluation(n, folder):
    """Returns wall and CPU seconds and the peak memory in GiB of scoring n samples as a user does it."""
    data, file = np.load(SHARED / "samples" / "diffcsp_mp_20.npz"), folder / f"samples-{n}.npz"
    atoms = int(data["num_atoms"][:n].sum())
    ends = {"frac_coords": atoms, "atom_types": atoms, "num_atoms": n, "lengths": n, "angles": n}
    np.savez(file, **{name: data[name][:end] for name, end in ends.items()})
    command = [sys.executable, "-m", "xtalgen.stages.evaluate", str(file), "--dataset", "mp_20", "--recipe", "cdvae",
               "--source", str(SHARED / "mp_20"), "--cache", str(folder / "cache"), "--out", str(folder)]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 2**20


def cpu_seconds():
    """Returns the CPU seconds of this process and of those it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def print_novelty():
    """Prints what uniqueness and novelty of all samples against all of MP-20 cost, from nothing."""
    crystals, known = diffcsp(SHARED, SCALES[-1]), [row for split in ("train", "val", "test") for row in mp_20(split)]
    started, cpu = time.monotonic(), cpu_seconds()
    kinds = Matching(workers=2).compare(crystals, known)
    wall, cpu = time.monotonic() - started, cpu_seconds() - cpu
    counts = sum(kind.unique for kind in kinds), sum(kind.novel for kind in kinds)
    print(f"\nUniqueness and novelty of {len(crystals):,} samples against {len(known):,} crystals: {wall:.0f} s, "
          f"{cpu:.0f} CPU s on two cores; {counts[0]:,} unique, {counts[1]:,} novel.")  # fmt: skip


def print_scales():
    """Prints what scoring costs at several sizes, the data set and the references' fingerprints ready before."""
    if not SHARED.is_dir():
        raise SystemExit("--scale needs the samples and MP-20 of ../shared/data")
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu, _ = run_evaluation(10, Path(folder))
        print(f"\nMP-20 read and its test split fingerprinted, once: {wall:.0f} s, {cpu:.0f} CPU s.\n")
        print("| samples | wall, s | CPU, s | CPU, ms per sample | largest process, GiB |\n|---:|---:|---:|---:|---:|")
        for n in SCALES:
            wall, cpu, memory = run_evaluation(n, Path(folder))
            print(f"| {n:,} | {wall:.0f} | {cpu:.1f} | {cpu / n * 1000:.1f} | {memory:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="number of crystals of the comparison")
    parser.add_argument("--scale", action="store_true", help="also score 1,000, 3,000 and 10,000 samples as a whole")
    args = parser.parse_args()
    threadpool_limits(1)
    warnings.simplefilter("ignore")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("pymatgen", "matminer", "smact", "scipy", "numba"))
    print(f"{'Samples of DiffCSP on MP-20' if SHARED.is_dir() else 'AFLOW prototypes'}; {platform.machine()}, {cores} "
          f"cores, load {load:.1f} at the start; Python {platform.python_version()}, {packages}.")  # fmt: skip
    print_comparison(args.n)
    if args.scale:
        print_scales()
        print_novelty()


if __name__ == "__main__":
    main()
