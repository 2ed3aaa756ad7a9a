"""What a code host and a container read: their files name targets, paths and sections that there are."""

import re
import subprocess

import pytest
import yaml

WORKFLOWS = ("tests", "nightly", "release")


def targets(root):
    return set(re.findall(r"^([a-z-]+):.*##", (root / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_call_targets_that_there_are(root, name):
    content = yaml.safe_load((root / f".github/workflows/{name}.yml").read_text())
    commands, called = [], set()
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 120
        found = [step["run"] for step in job["steps"] if "run" in step]
        matrix = job.get("strategy", {}).get("matrix", {}).get("target", [])
        commands += [line.replace("${{ matrix.target }}", each) for line in found for each in matrix or [""]]
    for command in commands:
        called |= set(re.findall(r"(?:^|&& )make ([a-z-]+)", command))
    assert called <= targets(root)
    if name == "tests":
        assert called == {"lint", "test", "demo"}


def test_forms_name_each_field_once(root):
    for path in (root / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        ids = [field["id"] for field in yaml.safe_load(path.read_text())["body"]]
        assert len(ids) == len(set(ids)), path.name


def test_release_notes_are_the_newest_section(root):
    (program,) = re.findall(r"awk '(.*)' CHANGELOG", (root / ".github/workflows/release.yml").read_text())
    text = "# Changelog\n\nAll.\n\n## 0.2.0\n\n* new\n\n## 0.1.0\n\n* old\n"
    found = subprocess.run(["awk", program], input=text, capture_output=True, text=True, check=True).stdout
    assert found == "## 0.2.0\n\n* new\n\n"


def test_the_container_copies_what_there_is_and_makes_what_there_is(root):
    lines = (root / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert words[0][0] == "FROM"
    assert ":" in words[0][1], "an image without a version changes by itself"
    assert {line[0] for line in words} <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "CMD"}
    for line in words:
        if line[0] == "COPY":
            assert all((root / source).exists() for source in line[1:-1])
    made = {name for line in words if line[:2] == ["RUN", "make"] for name in line[2:3]}
    assert made <= targets(root)
    # What the setup reads is copied before it; the rest later, so that an edit does not install everything again.
    setup = next(line for line in words if line[0] == "COPY")
    assert set(setup[1:-1]) == {"Makefile", "requirements.lock"}


def test_the_catalog_finds_the_configuration_and_its_description(root):
    usage = yaml.safe_load((root / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["report"] is True
    assert (root / "Snakefile").is_file()
    described = (root / "config/README.md").read_text()
    for path in re.findall(r"\]\(([^)]+)\)", described):
        assert (root / "config" / path).resolve().exists(), path
