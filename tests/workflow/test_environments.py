"""Each rule's conda environment holds all that its program imports, at any depth and also inside functions."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from xtalgen import models
from xtalgen.experiment.model_traits import model_file
from xtalgen.runtime import provenance

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"^(?:rule|use rule \w+ as) (\w+)(.*?)(?=^(?:rule|use rule)|\Z)", re.MULTILINE | re.DOTALL)
DISTRIBUTIONS = packages_distributions()
OPTIONAL = {"bitsandbytes"}  # used where it is


def rules():
    """Yields the name, the programs and the environment of each rule that runs one."""
    for file in sorted((ROOT / "workflow/rules").glob("*/*.smk")):
        for name, text in RULE.findall(file.read_text()):
            programs = re.findall(r"\$SCRIPTS/(\w+\.py)", text)
            if programs:
                environment = re.search(r'conda:\s+"\.\./\.\./\.\./envs/(\w+)\.yaml"', text)
                yield name, text, programs, environment and environment[1]


def pins(name):
    text = (ROOT / "envs" / f"{name}.yaml").read_text()
    return dict(re.findall(r"- ([A-Za-z0-9._-]+)==(\S+)", text))


@cache
def imported(path):
    """Returns the top-level modules that a file imports, and the package's files among them."""
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    names |= {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "find_spec"
        and isinstance(node.args[0], ast.Constant)
    } - OPTIONAL
    own = [file for node in ast.walk(tree) for name in provenance._imported(node) for file in provenance._files(name)]
    return {name.split(".")[0] for name in names}, own


def third_party(*files):
    """Returns the modules from elsewhere that files import, through the package's own, each with a file that does."""
    found, seen, pending = {}, set(), list(files)
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            names, own = imported(path)
            pending += own
            found |= dict.fromkeys(names - set(sys.stdlib_module_names) - {"xtalgen"}, path)
    return found


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


ALL = list(rules())


def test_every_rule_that_runs_a_program_names_an_environment():
    assert len(ALL) > 15
    assert [name for name, _, _, environment in ALL if environment is None] == []


@pytest.mark.parametrize(("name", "text", "programs", "environment"), ALL, ids=[rule[0] for rule in ALL])
def test_what_a_rule_imports_is_in_its_environment(name, text, programs, environment):
    files = [ROOT / "workflow/scripts" / program for program in programs]
    if {"train.py", "sample.py"} & set(programs):
        files += [model_file(model) for model in models.names()]
    held = {normal(package) for package in pins(environment)}
    for module, path in sorted(third_party(*files).items()):
        packages = DISTRIBUTIONS.get(module, [module])
        assert any(normal(package) in held for package in packages), (
            f"{name}: {path.relative_to(ROOT)} imports {module}, which envs/{environment}.yaml lacks"
        )


def test_the_test_sees_what_is_imported_inside_functions():
    assert "torch" in third_party(ROOT / "workflow/scripts/train.py")
    assert "chemiscope" in third_party(ROOT / "workflow/scripts/explorer.py")
    assert "pymatgen" in third_party(ROOT / "workflow/scripts/import_structures.py")
    assert "pymatgen" not in third_party(ROOT / "workflow/scripts/train.py")


@pytest.mark.parametrize(("name", "text"), [rule[:2] for rule in ALL], ids=[rule[0] for rule in ALL])
def test_every_rule_states_memory_and_time(name, text):
    assert "mem_mb=" in text
    assert "runtime=" in text
    assert "log:" in text
    assert "benchmark:" in text
