"""Files that were made to do harm: archives, structures, checkpoints and configurations."""

import contextlib
import importlib
import io
import json
import pickle
import resource
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from drill import CONFIG, Place
from xtalgen.crystals import read_crystals
from xtalgen.experiment.config_file import ConfigFileError, check_config_file

CIF = """data_salt
_cell_length_a 5.6
_cell_length_b 5.6
_cell_length_c 5.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""
PEAK = 1500  # MB that no hostile file may cost


class Harm:
    """Leaves a file when it is unpickled."""

    def __reduce__(self):
        return (Path("harmed").touch, ())


class Attack:
    """A folder in which a hostile file is given to a stage's program; afterwards nothing else may be in it."""

    def __init__(self, folder, report):
        self.folder, self.report = folder, report

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def zipped(self, name, *members):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, text in members:
                archive.writestr(member, text)
        return self.write(name, content.getvalue())

    def refused(self, fault, said, script, *words):
        before = self.there()
        with pytest.raises(SystemExit, match=said) as caught:
            importlib.import_module(script).main([str(word) for word in words])
        line = str(caught.value.code)
        assert "\n" not in line
        assert self.there() == before
        self.report(fault, f"refused: {line.replace(f'{self.folder}/', '')}")

    def imports(self, fault, path, statuses):
        """Asserts the status of each row, that nothing else was written, here or one folder up."""
        before = self.there()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(*[SystemExit] * ("ok" not in statuses)):
            importlib.import_module("import_structures").main(["--structures", str(path), "--out", "out.parquet"])
        found = read_crystals(self.folder / "out.parquet")
        assert [row.status for row in found] == statuses
        assert self.there() == before | {"structures/out.parquet"}
        why = next((row.info["error"] for row in found if not row.ok), "read as it stands")
        self.report(fault, f"survived: rows are {statuses}; {why}")
        (self.folder / "out.parquet").unlink()

    def there(self):
        """Everything in the folder and in the one above."""
        return {str(path.relative_to(self.folder.parent)) for path in self.folder.parent.rglob("*")}


@pytest.fixture
def attack(tmp_path, monkeypatch, report):
    folder = tmp_path / "structures"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield Attack(folder, report)
    cost = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert cost < PEAK, f"{cost:.0f} MB"


def test_archives(attack, monkeypatch):
    bomb = attack.zipped("bomb.zip", ("a.cif", CIF), ("b.cif", bytes(200_000_000)))
    attack.imports("zip bomb (200 MB in 200 kB)", bomb, ["ok", "unparsable"])
    monkeypatch.setattr("xtalgen.io.structure_files.MAX_BYTES", 100_000_000)
    many = attack.zipped("many.zip", *((f"{place}.cif", bytes(16_000_000)) for place in range(7)))
    attack.refused(
        "zip bomb (many files of 16 MB)",
        r"many\.zip: unpacks to more than.*Split it",
        "import_structures",
        "--structures",
        many,
        "--out",
        "out.parquet",
    )
    climbing = attack.zipped("climb.zip", ("../../climbed.cif", CIF), ("/tmp/climbed.cif", CIF))  # noqa: S108
    attack.imports("path traversal in a zip", climbing, ["ok", "ok"])
    link = zipfile.ZipInfo("link.cif")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    attack.imports("symbolic link in a zip", attack.zipped("link.zip", (link, "/etc/passwd")), ["unparsable"])


def test_structures(attack):
    big = attack.folder / "big.cif"
    with big.open("wb") as file:
        file.write(CIF.encode())
        file.truncate(1_000_000_000)
    words = ("import_structures", "--structures", big, "--out", "out.parquet")
    attack.refused("CIF of 1 GB, sparse", r"big\.cif: .*", *words)
    big.unlink()
    words = ("import_structures", "--structures", attack.write("nul.cif", CIF.replace("data_salt", "data_\0salt\0")))
    attack.refused("NUL bytes in a CIF", r"nul\.cif: holds NUL bytes", *words, "--out", "out.parquet")
    attack.imports("CIF in UTF-16", attack.write("wide.cif", CIF.encode("utf-16")), ["ok"])
    csv = f'name,cif\nMüller,"{CIF}"\n'
    attack.imports("CSV in Latin-1", attack.write("latin.csv", csv.encode("latin-1")), ["ok"])
    deep = attack.write("deep.json", "[" * 100_000)
    attack.refused(
        "JSON nested 100,000 deep",
        r"deep\.json: not readable JSON.*Write it again",
        "import_structures",
        "--structures",
        deep,
        "--out",
        "out.parquet",
    )
    named = {"@module": "os", "@class": "system", "lattice": {"matrix": (5 * np.eye(3)).tolist()}, "sites": []}
    attack.imports("JSON that names a class to import", attack.write("class.json", json.dumps([named])), ["unparsable"])


def test_pickles(attack):
    pickled = pickle.dumps(Harm())
    checkpoint = attack.write("checkpoint.safetensors", pickled)
    attack.refused("pickle in place of a checkpoint", r"not a readable checkpoint.*train again", "sample", "--model",
                   "flowmm", "--checkpoint", checkpoint, "--n", 1, "--work", "w", "--out", "out.parquet")  # fmt: skip
    arrays = io.BytesIO()
    np.savez(arrays, frac_coords=np.array([Harm()], dtype=object))
    attack.refused(
        "pickled objects in .npz",
        r"holds pickled objects, which can run code",
        "import_structures",
        "--structures",
        attack.write("mine.npz", arrays.getvalue()),
        "--out",
        "out.parquet",
    )
    attack.refused(
        "pickle in place of a crystal table",
        r"not a readable Parquet file.*rerun",
        "merge",
        "--parts",
        attack.write("rows.parquet", pickled),
        "--out",
        "out.parquet",
    )
    attack.refused(
        "pickle in place of learning curve",
        r"log\.csv.*",
        "curves",
        "--log",
        attack.write("log.csv", pickled),
        "--out",
        "curve.svg",
    )


def test_sources_of_data(attack, monkeypatch):
    monkeypatch.setattr("xtalgen.datasets.sources.MAX_BYTES", 50_000_000)
    good = f'material_id,cif\nmp-1,"{CIF}"\n'
    for fault, name, content, said in (
        ("data set cut off", "train.csv", good[:-40], r"train\.csv: cut off or damaged.*copy it again"),
        ("data set in UTF-16", "train.csv", good.encode("utf-16"), r"train\.csv: not UTF-8 text.*Save it as UTF-8"),
        (
            "data set with one id twice",
            "train.csv",
            good + f'mp-1,"{CIF}"\n',
            r"rows 1 and 2 have the same material_id",
        ),
        ("gzip bomb as data set", "train.csv.gz", _gzip_bomb(), r"train\.csv\.gz: .*"),
    ):
        path = attack.write(name, content)
        attack.refused(fault, said, "data", "--dataset", "mine", "--split", "train", "--source", path, "--workers", 1,
                       "--out", "out.parquet")  # fmt: skip
        path.unlink()


def _gzip_bomb():
    import gzip

    with io.BytesIO() as content:
        with gzip.GzipFile(fileobj=content, mode="wb") as file:
            for _ in range(8):
                file.write(bytes(10_000_000))
        return content.getvalue()


NAMED = CONFIG.replace("[tin]", "['a; touch harmed']")
TEMPLATE = '__use_yte__: true\nx: \'?open("harmed", "w")\'\n'
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("fault", "content", "said"),
    [
        ("YAML: aliases of aliases", CONFIG + BOMB, "expands to more than 100,000 values"),
        ("YAML: template that runs code", CONFIG + TEMPLATE, "would run code"),
        ("configuration: a set named like a command", NAMED, "a; touch harmed"),
        ("configuration: a run named like a path", CONFIG.replace("tiny:", "../../tiny:"), "letters, digits"),
    ],
)
def test_configurations(tmp_path, report, fault, content, said):
    place = Place(tmp_path)
    place.path("config.yaml").write_text(content)
    line = place.refusal("-n", "--", "results/tables.md", said=said)
    assert not list(tmp_path.rglob("harmed"))
    report(fault, f"refused: {line}")


@pytest.mark.parametrize(
    ("fault", "content", "said"),
    [
        ("YAML: !!python/object", CONFIG + "x: !!python/object/apply:os.mkdir [harmed]\n", "the tag !!python/object"),
        ("YAML: a key twice", CONFIG + "seed: 1\n", "'seed' is already defined in line 2. Keep one"),
        ("YAML: tabs", CONFIG + "explorer:\n\ttitle: x\n", "Indent with spaces"),
        ("YAML: Latin-1", (CONFIG + "explorer: {title: Müller}\n").encode("latin-1"), "Save it as UTF-8"),
        ("YAML: NUL bytes", CONFIG + "\0", "not readable YAML"),
    ],
)
def test_files_of_configuration(tmp_path, report, fault, content, said):
    """As above, without the seconds that Snakemake takes to start."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigFileError, match=said) as caught:
        check_config_file(path)
    report(fault, f"refused: {str(caught.value).replace(f'{tmp_path}/', '')}")


def test_a_file_named_like_a_command(copy, report):
    folder = copy.path("structures")
    name = "a b; touch harmed; '"
    (folder / f"{name}.cif").write_text(CIF)
    copy.run(f"results/sample/{name}.parquet")
    assert not list(copy.folder.rglob("harmed"))
    assert [row.status for row in read_crystals(copy.path(f"results/sample/{name}.parquet"))] == ["ok"]
    report("structures in a file named like a command", "survived: taken as a name")
