"""Each option that an error, a help text or a page names exists in the tool it is said to belong to."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# A command, up to where it ends in a text or a line of a shell.
COMMAND = re.compile(
    r"(?:(?P<snakemake>\bsnakemake\b)|(?P<score>\bxtalgen score\b)"
    r"|python3? (?P<program>(?:workflow/scripts|benchmarks|docs)/\w+\.py))"
    r"(?P<rest>[^|;&`()\n]*(?:\\\n[^|;&`()\n]*)*)",
    re.IGNORECASE,
)
# Of tools that are neither Snakemake nor ours: sbatch, hf, pip.
OTHERS = {"--account", "--partition", "--qos", "--constraint", "--gpus", "--gres", "--time", "--mem-per-cpu"}
OTHERS |= {"--mail-type", "--local-dir", "--no-deps", "--dest"}
# An option with its owner behind.
OWNED = re.compile(r"`?--[a-z-]+`? (?:of |\()(?:xtalgen \w+|workflow/scripts/\w+\.py)|xtalgen \w+ [A-Z]+ --[a-z-]+")
# Programs of ours that a page names without their path.
PROGRAMS = [*ROOT.glob("workflow/scripts/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "docs/build.py"]
COMMANDS = sorted((ROOT / "src/xtalgen/commands").glob("*.py"))
SHARED = ROOT / "src/xtalgen/runtime/arguments.py"


@cache
def options_of_snakemake():
    return {option for action in get_argument_parser()._actions for option in action.option_strings}


@cache
def options_of(path):
    """Returns the options that a program defines; names in tuples of a program that calls `flag` are options, too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = {word for word in words if OPTION.fullmatch(word)} | {"--help"}
    calls = {getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if "flag" in calls:
        found |= {f"--{word.replace('_', '-')}" for word in words if word.isidentifier()}
    return found | (
        options_of(SHARED) if path != SHARED and calls & {"add_job", "add_model", "add_potential"} else set()
    )


def wrong_options(text):
    """Returns the options in a text that the tools do not have which it names, or that no tool has."""
    wrong = []
    for match in COMMAND.finditer(text):
        if match["snakemake"]:
            known = options_of_snakemake()
        elif match["score"]:
            known = set().union(*map(options_of, COMMANDS))
        else:
            path = ROOT / match["program"]
            known = options_of(path) if path.is_file() else set()
        wrong += [
            f"{match[0].split('--')[0].strip()}: {option}"
            for option in OPTION.findall(match["rest"])
            if option not in known
        ]
    every = options_of_snakemake() | set().union(*map(options_of, [*PROGRAMS, *COMMANDS])) | OTHERS
    return wrong + [option for option in OPTION.findall(COMMAND.sub("", text)) if option not in every]


def nameless_options(text):
    """Returns the options in a text that Snakemake does not have, unless the text says whose they are.

    Errors of stages are read by those who run Snakemake: "--source" alone would be taken for an option of its.
    """
    return [option for option in OPTION.findall(OWNED.sub("", text)) if option not in options_of_snakemake() | OTHERS]


def texts_of(path, *, docstrings=True):
    """Yields the texts of a module that may be shown: strings, parts of one joined, and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    if not docstrings:
        parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in parts
            and " " in node.value
        ):
            yield node.value


SOURCES = [path for path in (ROOT / "src").rglob("*.py") if "--" in path.read_text(encoding="utf-8")]
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "profiles/*.md", "structures/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_options_that_the_program_names(path):
    assert not [wrong for text in texts_of(path) for wrong in wrong_options(text)]


def test_errors_of_stages_say_whose_option_they_name():
    paths = [path for path in SOURCES if "commands" not in path.parts]
    assert not [
        f"{path.name}: {option}"
        for path in paths
        for text in texts_of(path, docstrings=False)
        for option in nameless_options(text)
    ]
    assert nameless_options("fetch the file by hand and give it as --source.") == ["--source"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_that_pages_name(path):
    assert not wrong_options(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "fetch the file by hand and give it to snakemake --source",
        "run `xtalgen score mine.cif --directory there`",
        "$ python workflow/scripts/merge.py --pats a.parquet",
        "Give it as --no-such-option.",
    ],
)
def test_options_that_do_not_exist_are_found(text):
    assert len(wrong_options(text)) == 1
