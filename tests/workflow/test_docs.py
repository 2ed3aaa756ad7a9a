"""What the documentation says is so."""

import os
import re
import subprocess
import sys

import pytest

LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_generated_pages_and_the_graph_are_current(root):
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(
        [sys.executable, root / "docs/build.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere(root):
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("profiles/*.md"), *root.glob("structures/*.md")]
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_the_readmes_targets_are_in_the_makefile(root):
    makefile = (root / "Makefile").read_text()
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"^\$ make (\w+)", (root / page).read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


@pytest.mark.parametrize(
    "words",
    [
        ["--profile", "slurm", "results/tables.md"],
        ["--profile", "profiles/local", "results/tables.md"],
        ["--profile", "profiles/local", "--directory", "examples/mp_20_cpu", "results/tables.md"],
        ["--profile", "profiles/local", "--directory", "examples/pretrained", "results/tables.md"],
    ],
)
def test_the_readmes_commands_plan(checkout, root, words):
    assert f"$ snakemake {' '.join(words)}" in (root / "README.md").read_text()
    checkout.snakemake(*words, "--dry-run")


def test_the_environments_hold_what_the_lock_pins(root):
    lock = set((root / "requirements.lock").read_text().split())
    for name in ("models", "crystals"):
        pins = set(re.findall(r"- (\S+==\S+)", (root / f"envs/{name}.yaml").read_text()))
        assert pins
        assert pins <= lock


def test_the_lock_names_no_addresses(root):
    for line in (root / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
