"""A stage's fingerprint changes with what its result depends on and with nothing else: a table of edits."""

import re
import shutil

import pytest

from xtalgen.runtime import provenance

LABELS = {"tables", "explorer", "sweep", "conditional"}  # what prints the labels of metrics
POTENTIALS = {"relax", "hull", "embeddings", "second_potential", "distil", "distil_training", "distil_card"}
PROMPTED = {"crystal_text_llm"}
FLOWS = {"flowmm", "flowllm"}
# A file of the package, what replaces what in it ("" appends), the stages and the models whose fingerprints change.
CASES = {
    "a metric's label": ("metrics/registry.py", '"S.U.N."', '"SUN"', LABELS, set()),
    "a metric's definition": ("metrics/registry.py", "stable, unique and novel", "all three", LABELS, set()),
    "a published value": ("report/published.yaml", "", "# more", {"tables"}, set()),
    "the explorer's page": ("explorer/page/index.html", "", "<!-- more -->", {"explorer"}, set()),
    "a prompt's wording": ("models/language/prompts.py", "A crystalline solid.", "A crystal.", set(), PROMPTED),
    "one model": ("models/diffcsp.py", "", "CHANGED = 1", set(), {"diffcsp"}),
    "a model that another builds on": ("models/flowmm.py", "", "CHANGED = 1", set(), FLOWS),
    "a stage": ("stages/relax.py", "", "CHANGED = 1", {"relax"}, set()),
    "weights in the package": ("potentials/weights/mace-small.safetensors", "", "x", POTENTIALS, set()),
    "the tables of oxidation states": ("metrics/smact_2_2_1.yaml", "", "# more", {"evaluate"}, set()),
    "a comment": ("crystals.py", "", "# more", set(), set()),
    "a module's docstring": ("crystals.py", '"""', '"""More. ', set(), set()),
    "the version": ("__init__.py", "__version__", "__version__ = 'x'; __version__", set(), set()),
}


@pytest.fixture(scope="module")
def package(root, tmp_path_factory):
    """Returns a copy of the package and of the scripts."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("src", "workflow"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def fingerprints(folder):
    """Returns the fingerprint of every stage, and of sampling with every model."""
    scripts = sorted((folder / "workflow/scripts").glob("*.py"))
    found = {script.stem: provenance.fingerprint(script) for script in scripts if script.stem != "cdvae_latent"}
    models = [file for file in (folder / "src/xtalgen/models").glob("[a-z]*.py") if not file.stem.startswith("_")]
    sample = folder / "workflow/scripts/sample.py"
    return found | {f"sample with {model.stem}": provenance.fingerprint(sample, model) for model in models}


@pytest.mark.parametrize("name", CASES)
def test_an_edit_changes_these_fingerprints_and_no_others(package, monkeypatch, name):
    file, old, new, stages, models = CASES[name]
    monkeypatch.setattr(provenance, "PACKAGE", package / "src/xtalgen")
    path = package / "src/xtalgen" / file
    content = path.read_bytes()
    before = fingerprints(package)
    if old:
        assert old.encode() in content, f"{old!r} is not in {file}"
        path.write_bytes(content.replace(old.encode(), new.encode(), 1))
    else:
        path.write_bytes(content + f"\n{new}\n".encode())
    after = fingerprints(package)
    path.write_bytes(content)
    assert {key for key in before if before[key] != after[key]} == stages | {f"sample with {model}" for model in models}


def test_the_wording_of_help_does_not_count(package, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", package / "src/xtalgen")
    path = package / "workflow/scripts/bonds.py"
    text, before = path.read_text(), provenance.fingerprint(path)
    path.write_text(re.sub(r'help="worker processes"', 'help="another"', text))
    assert path.read_text() != text
    assert provenance.fingerprint(path) == before
    path.write_text(text.replace("default=30.0,", "default=31.0,", 1))
    assert path.read_text() != text
    assert provenance.fingerprint(path) != before
    path.write_text(text)


def names(*files):
    return {file.as_posix().partition("src/xtalgen/")[2] for file in provenance.closure(*files)}


def test_imports_inside_functions_count(root):
    assert "potentials/registry.py" in names(root / "workflow/scripts/relax.py")
    training = names(root / "workflow/scripts/train.py", root / "src/xtalgen/models/crystal_text_llm.py")
    assert "models/language/text_cache.py" in training, "imported inside a function"


@pytest.mark.parametrize("stage", ["data", "bonds", "wyckoff", "fingerprints", "relax", "hull", "train", "sample"])
def test_stages_before_evaluation_hold_no_metrics(root, stage):
    held = names(root / f"workflow/scripts/{stage}.py")
    assert not [name for name in held if name.startswith(("metrics/", "report/", "explorer/", "models/language/"))]
