"""The hull: who competes, terminals for every element, stability of known compounds, one computation per energy."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element
from threadpoolctl import threadpool_limits

from toy_potential import crystal_of
from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.relaxation import in_flight
from xtalgen.relaxation.in_flight import RelaxConfig, relax_crystals
from xtalgen.stages import hull, relax
from xtalgen.thermodynamics import elemental_references
from xtalgen.thermodynamics.energy_above_hull import Phase, energies_above_hull, phase_of

OPTIONS = {"potential": "chgnet", "workers": 1, "timeout": None, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def cell(identifier, formula, structure, a, **options):
    return crystal_of(bulk(formula, structure, a=a, **options), identifier)


def dioxygen(identifier):
    places = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.23 / 4.5]])
    return Crystal(identifier, "ok", np.eye(3) * 4.5, places, np.array([8, 8], dtype=np.uint8))


TRAIN = [
    cell("MgO", "MgO", "rocksalt", 4.30),
    cell("Mg", "Mg", "hcp", 3.2, covera=1.62),
    cell("NaCl", "NaCl", "rocksalt", 5.7),
    Crystal("broken", "unparsable"),
]
TEST = [dioxygen("O2"), cell("MgO-CsCl", "MgO", "cesiumchloride", 2.7), cell("MgS", "MgS", "rocksalt", 5.2)]


def write(rows, path):
    crystals.write_table(crystals.to_table(rows), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A relaxed table of MgO, strained at first, and two tables of references."""
    folder = tmp_path_factory.mktemp("hull")
    samples = write([cell("s0", "MgO", "rocksalt", 4.4), Crystal("s1", "too_close")], folder / "samples.parquet")
    relaxed = folder / "relaxed.parquet"
    relax.relax(samples, fmax=0.02, max_steps=100, work=folder / "work", out=relaxed, **OPTIONS)
    return relaxed, [write(TRAIN, folder / "train.parquet"), write(TEST, folder / "test.parquet")], folder


def run(relaxed, references, out, cache, **options):
    options = OPTIONS | {"relax_steps": 100, "fmax": 0.02} | options
    hull.write_hull(relaxed, references, out=out, cache=cache, **options)
    table = crystals.read_table(out)
    return crystals.from_table(table), crystals.read_metadata(table)


def above_hull(sample, rows):
    """Returns the energy above the hull of the rows in eV/atom, by pymatgen."""
    entries = [entry(row) for row in rows if row.info["energy"] is not None]
    return PhaseDiagram(entries).get_e_above_hull(entry(sample), allow_negative=True)


def entry(row):
    return PDEntry(Composition.from_dict(_counts(row)), row.info["energy"])


def _counts(row):
    from pymatgen.core import Element

    numbers, counts = np.unique(row.atomic_numbers, return_counts=True)
    return {Element.from_Z(int(number)): int(count) for number, count in zip(numbers, counts, strict=True)}


def test_known_compound_lies_on_the_hull_and_the_cache_serves_the_second_call(files, tmp_path):
    relaxed, references, folder = files
    rows, metadata = run(relaxed, references, tmp_path / "hull.parquet", folder / "cache")
    assert [row.id for row in rows] == ["MgO", "Mg", "O2", "MgO-CsCl"]  # nothing with Na, Cl or S competes
    assert [row.info["source"] for row in rows] == ["train", "train", "test", "test"]
    assert all(row.ok and row.info["energy"] < 0 for row in rows)
    sample = crystals.read_crystals(relaxed)[0]
    assert above_hull(sample, rows) == pytest.approx(0.0, abs=2e-3)
    assert above_hull(rows[3], rows) > 0.3  # caesium-chloride MgO is far from stable
    assert PhaseDiagram([entry(row) for row in rows]).get_form_energy_per_atom(entry(rows[0])) < -2.0
    expected = {"n_dataset": "4", "n_prototype": "0", "n_failed": "0", "n_computed": "4", "relax_steps": "100"}
    assert expected.items() <= metadata.items()
    assert metadata["potential_sha256"] == registry.identify("chgnet").sha256
    again, second = run(relaxed, references, tmp_path / "again.parquet", folder / "cache")
    assert second["n_computed"] == "0"
    assert [row.info for row in again] == [row.info for row in rows]
    # Another set with one more reference computes that one only.
    more = write([*TEST, cell("MgO-zincblende", "MgO", "zincblende", 4.6)], tmp_path / "test.parquet")
    assert run(relaxed, [references[0], more], tmp_path / "more.parquet", folder / "cache")[1]["n_computed"] == "1"


def test_unrelaxed_references_lie_higher(files, tmp_path):
    relaxed, references, folder = files
    rows, metadata = run(relaxed, references, tmp_path / "hull.parquet", folder / "single", relax_steps=0)
    assert metadata["relax_steps"] == "0"
    assert np.array_equal(rows[0].lattice, TRAIN[0].lattice)
    assert not rows[0].info["converged"]
    sample = crystals.read_crystals(relaxed)[0]
    assert above_hull(sample, rows) < -2e-3


def test_missing_terminals_become_prototypes(files, tmp_path):
    relaxed, _, folder = files
    only = write([TRAIN[0]], tmp_path / "train.parquet")
    rows, metadata = run(relaxed, [only], tmp_path / "hull.parquet", folder / "cache", relax_steps=0)
    assert [row.info["source"] for row in rows] == ["train", "prototype", "prototype"]
    assert [row.id for row in rows[1:]] == ["prototype-O-diatomic", "prototype-Mg-hcp"]
    assert (metadata["n_dataset"], metadata["n_prototype"], metadata["missing_terminals"]) == ("1", "2", "")
    assert all(row.info["converged"] for row in rows[1:])
    # Magnesium is hexagonal close-packed; the prototype finds CHGNet's energy of the known crystal.
    known = relax_crystals([TRAIN[1]], registry.load("chgnet"), RelaxConfig(0.02, 100, None))[0]
    assert rows[2].info["energy"] / rows[2].n_atoms == pytest.approx(known.energy / 2, abs=5e-3)
    assert above_hull(crystals.read_crystals(relaxed)[0], rows) < 0.01


def test_failed_references_keep_their_row(files, tmp_path):
    relaxed, references, folder = files
    clash = replace(TRAIN[0], id="clash", frac_coords=np.zeros((2, 3)))
    bad = write([clash, cell("Mg", "Mg", "fcc", 4.5)], tmp_path / "val.parquet")
    rows, metadata = run(relaxed, [*references, bad], tmp_path / "hull.parquet", folder / "cache")
    failed = next(row for row in rows if row.id == "clash")
    assert (failed.status, failed.info["energy"]) == ("too_close", None)
    assert "Å apart" in failed.info["relax_error"]
    assert metadata["n_failed"] == "1"
    assert [row.id for row in rows][-2:] == ["clash", "Mg#2"]  # an id that stands in two files


@pytest.mark.parametrize("rows", [[], [Crystal("a", "unparsable")]])
def test_no_relaxed_crystal_gives_an_empty_valid_hull(files, tmp_path, rows):
    _, references, folder = files
    source, relaxed = write(rows, tmp_path / "samples.parquet"), tmp_path / "relaxed.parquet"
    relax.relax(source, fmax=0.05, max_steps=5, work=tmp_path / "work", out=relaxed, **OPTIONS)
    found, metadata = run(relaxed, references, tmp_path / "hull.parquet", folder / "cache")
    assert found == []
    assert (metadata["n_dataset"], metadata["n_prototype"], metadata["n_computed"]) == ("0", "0", "0")
    assert crystals.read_table(tmp_path / "hull.parquet").schema.field("energy").type == pa.float64()


def test_samples_of_another_potential_are_refused(files, tmp_path):
    relaxed, references, _ = files
    with pytest.raises(ContractError, match=r"relaxed\.parquet: energies come from the potential .* Relax again"):
        run(relaxed, references, tmp_path / "hull.parquet", tmp_path / "cache", potential="chgnet-r2scan")
    with pytest.raises(ContractError, match="sha256 None"):
        run(write(TRAIN, tmp_path / "relaxed.parquet"), references, tmp_path / "hull.parquet", tmp_path / "cache")


@pytest.mark.parametrize("number", [1, 8, 26, 54, 85, 92])
def test_prototypes_are_sound_crystals(number):
    built = elemental_references.build_prototypes(number)
    names = [crystal.id.split("-")[2] for crystal in built]
    assert names == ["fcc", "bcc", "hcp", "diamond", "sc"] + ["diatomic"] * (number in (1, 8))
    volumes = [abs(np.linalg.det(crystal.lattice)) / crystal.n_atoms for crystal in built]
    assert volumes == pytest.approx([volumes[0]] * len(volumes))
    if number == 26:
        assert volumes[0] == pytest.approx(11.8, abs=0.1)  # Å³ per atom of iron
    for crystal in built:
        assert in_flight._nearest(crystal.lattice, crystal.frac_coords).min() > in_flight.MIN_DISTANCE
        assert set(crystal.atomic_numbers) == {number}


def test_choice_is_by_subsets_of_the_elements(tmp_path):
    def of(identifier, *numbers):
        places = np.linspace(0, 0.9, len(numbers))[:, None] * np.ones(3)
        return Crystal(identifier, "ok", np.eye(3) * 5, places, np.array(numbers, dtype=np.uint8))

    rows = [of("a", 3), of("ab", 3, 8), of("abc", 3, 8, 26), of("bd", 8, 11), of("d", 11)]
    chosen, sources = hull.choose_references([of("x", 3, 8, 8), of("y", 11)], [write(rows, tmp_path / "val.parquet")])
    assert [row.id for row in chosen] == ["a", "ab", "d"]
    assert sources == ["val"] * 3


def test_dft_hull_has_the_formation_energies_of_the_data_set_above_the_elements_of_the_potential(files, tmp_path):
    relaxed, _, folder = files
    rows = [
        replace(TRAIN[0], info={hull.E_FORM: -3.0}),
        replace(TRAIN[1], info={hull.E_FORM: 0.1}),
        replace(TEST[0], info={hull.E_FORM: 0.0}),
        replace(TEST[1], info={hull.E_FORM: None}),
    ]
    source = tmp_path / "train.parquet"
    crystals.write_table(crystals.to_table(rows, {hull.E_FORM: pa.float64()}), source)
    found, metadata = run(relaxed, [source], tmp_path / "hull.parquet", folder / "cache", energies="dft")
    by_id = {row.id: row for row in found}
    level = {name: by_id[f"terminal-{name}"].info["energy"] / by_id[f"terminal-{name}"].n_atoms for name in ("Mg", "O")}
    assert by_id["MgO"].info["energy"] == pytest.approx(level["Mg"] + level["O"] - 2 * 3.0)
    assert by_id["Mg"].info["energy"] == pytest.approx(by_id["Mg"].n_atoms * (level["Mg"] + 0.1))
    assert by_id["MgO-CsCl"].status == "no_formation_energy"
    assert by_id["MgO-CsCl"].info["energy"] is None
    assert metadata["energies"] == "dft"
    # The potential's elements are those of the consistent hull: nothing else had to be computed.
    assert metadata["n_computed"] == "0"


def phase_diagram(path, **energies):
    """Writes a phase diagram with these energies in eV per formula unit, as pymatgen dumps it."""
    content = [PDEntry(formula, energy).as_dict() for formula, energy in energies.items()]
    path.write_text(json.dumps(content))
    return path


def test_mp2020_hull_has_the_energies_of_the_phase_diagram(files, tmp_path):
    relaxed, references, folder = files
    sample = crystals.read_crystals(relaxed)[0]
    level = sample.info["energy"] / sample.n_atoms * 2
    diagram = phase_diagram(tmp_path / "pd.json", Mg=-1.6, O2=-9.8, MgO=level - 0.1, Mg2O2=0.0, NaCl=-7.0, Na=-1.3)
    options = {"energies": "mp2020", "phase_diagram": diagram}
    rows, metadata = run(relaxed, references, tmp_path / "hull.parquet", folder / "never", **options)
    assert [row.id for row in rows] == ["Mg", "O2", "MgO", "MgO#2"]  # nothing with Na or Cl competes
    # Half of 0.1 eV per formula unit of two atoms.
    assert above_hull(sample, rows) == pytest.approx(0.05, abs=1e-9)
    assert (metadata["energies"], metadata["energy_scale"], metadata["missing_terminals"]) == (
        "mp2020",
        "corrected",
        "",
    )
    assert not (folder / "never").exists(), "nothing had to be computed"


def test_mp2020_hull_without_a_terminal_costs_only_the_rows_concerned(files, tmp_path):
    relaxed, references, folder = files
    diagram = phase_diagram(tmp_path / "pd.json", Mg=-1.6, MgO=-12.0)
    options = {"energies": "mp2020", "phase_diagram": diagram}
    rows, metadata = run(relaxed, references, tmp_path / "hull.parquet", folder / "never", **options)
    assert metadata["missing_terminals"] == "O"
    phases = [phase_of(row, row.info["energy"]) for row in rows]
    found = energies_above_hull([Phase(((12, 1),), -1.5), Phase(((8, 1), (12, 1)), -6.0)], phases)
    assert [(above.value, above.status) for above in found] == [(pytest.approx(0.1), "ok"), (None, "no_terminal")]


def test_mp2020_hull_is_refused_to_potentials_of_another_scale_and_without_a_file(files, tmp_path, monkeypatch):
    relaxed, references, _ = files
    with pytest.raises(ContractError, match=r"give relax\.phase_diagram"):
        run(relaxed, references, tmp_path / "hull.parquet", tmp_path / "cache", energies="mp2020")
    chgnet = replace(registry.POTENTIALS["chgnet"], energy_scale=None)
    monkeypatch.setitem(registry.POTENTIALS, "chgnet", chgnet)
    options = {"energies": "mp2020", "phase_diagram": phase_diagram(tmp_path / "pd.json", Mg=-1.6)}
    with pytest.raises(PotentialError, match=r"'chgnet': its total energies are not on the .* scale.*hull: consistent"):
        run(relaxed, references, tmp_path / "hull.parquet", tmp_path / "cache", **options)


def test_only_the_two_lowest_prototypes_and_molecules_are_relaxed():
    built = elemental_references.build_prototypes(8) + elemental_references.build_prototypes(12)
    order = {"fcc": 1.0, "bcc": -1.0, "hcp": -2.0, "diamond": 0.0, "sc": 3.0, "diatomic": 9.0}
    rows = [replace(row, info={"energy": order[row.id.split("-")[2]] * row.n_atoms}) for row in built]
    rows[2] = replace(rows[2], status="potential_failure")  # hcp oxygen
    wanted = {"O-diatomic", "O-bcc", "O-diamond", "Mg-hcp", "Mg-bcc"}
    assert elemental_references.promising(rows) == {f"prototype-{name}" for name in wanted}


def test_hull_of_formation_energies_gives_the_published_energies_above_it(shared_data):
    """A seeded 400 of MP-20's validation and test split, against the hull of all three splits."""
    import csv
    import gzip

    from xtalgen.structure.composition import reduced_counts

    published, references = [], [Phase(((number, 1),), 0.0) for number in range(1, 104)]
    for split in ("train", "val", "test"):
        with gzip.open(shared_data / f"mp_20/{split}.csv.gz", "rt") as file:
            for row in csv.DictReader(file):
                counts = Composition(row["pretty_formula"]).get_el_amt_dict().items()
                numbers = np.repeat([Element(symbol).Z for symbol, _ in counts], [int(count) for _, count in counts])
                references.append(Phase(reduced_counts(numbers), float(row["formation_energy_per_atom"])))
                if split != "train":
                    published.append((references[-1], float(row["e_above_hull"])))
    chosen = [published[row] for row in np.random.default_rng(0).choice(len(published), 400, replace=False)]
    found = energies_above_hull([phase for phase, _ in chosen], references)
    errors = np.array([above.value - wanted for above, (_, wanted) in zip(found, chosen, strict=True)])
    assert np.abs(errors).mean() <= 0.005
    assert np.median(np.abs(errors)) < 1e-6
