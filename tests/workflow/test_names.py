"""One name per stage: rule, script, `stages/X.py`, `tests/unit/stages/test_X.py`, `results/X/`, with few exceptions."""

import ast
import re

import pytest

# Programs for people that no rule runs.
NO_STAGE = {"cdvae_latent"}
# Rules that are named after what they are for and run the stage of another rule.
OTHER_PURPOSE = {
    "refinement_pairs_predictions": "sample",
    "sweep_sample": "sample",
    "sweep_evaluate": "evaluate",
    "fingerprints_reference": "fingerprints",
    "embeddings_reference": "embeddings",
}
# Stages whose results belong to those of another stage.
OTHER_FOLDER = {
    "import_structures": "sample",  # crystals to be judged, like samples
    "merge": "{stage}",
    "phase_diagram": "hull",
    "curves": "train",  # beside the log that it draws
    "distil_training": "distil",
    "distil_card": "distil",
}
RULE = re.compile(r"^(?:rule|use rule (\w+) as) (\w+)(.*?)(?=^(?:rule|use rule) |\Z)", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def rules(root):
    """Returns the text of every rule by name, and the script of each."""
    texts, scripts = {}, {}
    for file in (root / "workflow/rules").glob("*/*.smk"):
        for parent, name, text in RULE.findall(file.read_text(encoding="utf-8")):
            texts[name] = text
            scripts[name] = parent or re.search(r"\$SCRIPTS/(\w+)\.py", text)[1]
    return texts, scripts


def stems(folder, pattern):
    return {file.stem.removeprefix("test_") for file in folder.glob(pattern) if not file.stem.startswith("__")}


def test_rules_scripts_stages_and_tests_have_the_same_names(root, rules):
    _, scripts = rules
    stages = stems(root / "src/xtalgen/stages", "*.py")
    assert {name: script for name, script in scripts.items() if name != script} == OTHER_PURPOSE
    assert set(scripts) - set(OTHER_PURPOSE) == stages
    assert stems(root / "workflow/scripts", "*.py") - NO_STAGE == stages
    assert stems(root / "tests/unit/stages", "test_*.py") == stages


def test_a_script_calls_the_function_of_its_stage(root):
    for file in (root / "src/xtalgen/stages").glob("[a-z]*.py"):
        defined = {node.name for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)}
        # `relax`, or a verb before the name where that is none: `add_bonds`.
        (function,) = [name for name in defined if re.fullmatch(rf"(?:[a-z]+_)?{file.stem}", name)]
        script = (root / f"workflow/scripts/{file.stem}.py").read_text(encoding="utf-8")
        assert re.search(rf"from xtalgen\.stages\.{file.stem} import \(?[^)\n]*\b{function}\b", script), file.name


def test_results_lie_below_the_name_of_their_stage(rules):
    texts, _ = rules
    for name in set(texts) - set(OTHER_PURPOSE):
        outputs = re.search(r"    output:\n(.*?)\n    \w+:", texts[name], re.DOTALL)[1]
        folders = set(re.findall(r"\"results/([^/.\"]+)", outputs))
        assert folders == {OTHER_FOLDER.get(name, name)}, name


def test_rule_files_and_scripts_are_short(root):
    files = [*(root / "workflow/rules").glob("*/*.smk"), *(root / "workflow/scripts").glob("*.py")]
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(lengths) > 40
    assert {file.name: n for file, n in lengths.items() if file.suffix == ".smk" and n > 60} == {}
    assert {file.name: n for file, n in lengths.items() if file.suffix == ".py" and n > 40} == {}
