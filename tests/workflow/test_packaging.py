"""What pip installs: requirements that the lock fulfils, a wheel with all files, a command that needs no checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import xtalgen
from xtalgen.runtime.errors import EXTRAS

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def requirements(project):
    """Returns every requirement of the package, with the extra that it belongs to."""
    given = [("", text) for text in project["dependencies"]]
    extras = project["optional-dependencies"]
    given += [(extra, text) for extra, texts in extras.items() for text in texts if extra != "all"]
    return [(extra, Requirement(text)) for extra, text in given]


def groups(root):
    """Returns the names below each `# [group]` of requirements.in."""
    found = {}
    for line in (root / "requirements.in").read_text().splitlines():
        if head := re.match(r"# \[(\w+)\]", line):
            names = found.setdefault(head[1], set())
        elif wanted := line.partition("#")[0].strip():
            names.add(normal(wanted.partition("==")[0]))
    return found


def test_the_lock_fulfils_every_requirement(root, project):
    locked = dict(line.split("==") for line in (root / "requirements.lock").read_text().split())
    locked = {normal(name): version for name, version in locked.items()}
    for _, wanted in requirements(project):
        assert wanted.specifier.contains(locked[normal(wanted.name)]), f"{wanted} but {locked[normal(wanted.name)]}"


def test_what_users_need_is_required_once(root, project):
    of_users = set().union(*(names for group, names in groups(root).items() if group != "development"))
    named = [normal(wanted.name) for _, wanted in requirements(project)]
    assert sorted(named) == sorted(of_users)
    language = {normal(wanted.name) for extra, wanted in requirements(project) if extra == "language"}
    assert language == groups(root)["language"]


def test_all_is_every_extra(project):
    extras = set(project["optional-dependencies"]) - {"all"}
    (text,) = project["optional-dependencies"]["all"]
    assert Requirement(text).extras == extras


def test_the_message_of_a_missing_library_names_its_extra(project):
    modules = {"mace-torch": "mace", "umap-learn": "umap"}
    wanted = {(modules.get(one.name, one.name), extra) for extra, one in requirements(project) if extra}
    wanted.discard(("snakemake-executor-plugin-slurm", "workflow"))  # Snakemake names it itself
    assert wanted <= set(EXTRAS.items())
    assert set(EXTRAS.values()) == set(project["optional-dependencies"]) - {"all"}


def test_the_version_is_said_once(root, project):
    assert "version" not in project
    assert f"version: {xtalgen.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"## {xtalgen.__version__} " in (root / "CHANGELOG.md").read_text()


def hook(name, folder, out):
    """Runs a hook of the build backend in a folder, without network; returns the file that it made."""
    command = [sys.executable, "-c", BUILD, name, str(out)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Returns the wheel built from the unpacked source distribution."""
    folder = tmp_path_factory.mktemp("build")
    checkout, out = folder / "checkout", folder / "out"
    shutil.copytree(root / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, checkout / name)
    out.mkdir()
    with tarfile.open(hook("build_sdist", checkout, out)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return hook("build_wheel", unpacked, out)


def test_the_wheel_holds_every_file_of_the_package(root, wheel):
    assert wheel.name == f"xtalgen-{xtalgen.__version__}-py3-none-any.whl"
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("xtalgen/")}
    source = root / "src"
    wanted = {
        file.relative_to(source).as_posix()
        for file in (source / "xtalgen").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted == held
    assert {"xtalgen/py.typed", "xtalgen/weights/formula_orbits/shared.safetensors"} <= held
    assert {"xtalgen/explorer/page/index.html", "xtalgen/datasets/released.yaml"} <= held


def test_an_installed_wheel_works_without_a_checkout(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install, wheel], check=True)
    site = tmp_path / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    # The libraries are those of this environment; the package itself is not in it.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*words):
        done = subprocess.run(
            [tmp_path / "venv/bin/xtalgen", *words],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    assert run("--version") == f"xtalgen {xtalgen.__version__}\n"
    assert "predicted.cif: 1 of 1 crystals are usable" in run("predict", "NaCl", "--out", "predicted.cif")
    assert "_space_group_name_H-M_alt   'F m -3 m'" in (tmp_path / "predicted.cif").read_text()
    assert Path(xtalgen.__file__).parent not in site.parents
