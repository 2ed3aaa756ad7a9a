"""Rejects ambiguous or unsafe configuration files before Snakemake reads them.

YAML silently drops all but the last of several equal keys, can name code to run, and can expand one line into
gigabytes. Without this check, a mistake would surface as an unrelated error or not at all. Read on every start, so it
imports nothing heavy.
"""

from pathlib import Path

import yaml

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")}
MERGE = "tag:yaml.org,2002:merge"  # of `<<: *defaults`
TEMPLATE = "__use_yte__"


class ConfigFileError(ValueError):
    """A configuration file cannot be used; the message names the file, the line and the remedy."""


def check_config_file(path: Path) -> None:
    """Raises ConfigFileError unless the file is plain YAML of reasonable size: unique keys, no tags, no templates."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ConfigFileError(f"{path}: {size:,} bytes is too large. Give a configuration below {MAX_BYTES:,} bytes.")
    try:
        root = yaml.compose(path.read_bytes().decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        remedy = "Indent with spaces." if "'\\t'" in str(error.problem) else "Correct this line or the one above."
        raise ConfigFileError(f"{path}: line {mark.line + 1}: {error.problem}. {remedy}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigFileError(f"{path}: not readable YAML ({' '.join(str(error).split())}). Rewrite it.") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigFileError(f"{path}: not of the form `key: value`. docs/reference/config.md lists the keys.")
    if root is not None:
        _check(root, path, {}, frozenset())


def _check(node: yaml.Node, path: Path, sizes: dict[int, int], above: frozenset[int]) -> int:
    """Returns the number of values that a node expands to."""
    line = node.start_mark.line + 1
    if id(node) in above:
        raise ConfigFileError(f"{path}: line {line}: an alias refers to a value that contains it. Write the value out.")
    if id(node) in sizes:
        return sizes[id(node)]
    if node.tag not in PLAIN:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise ConfigFileError(f"{path}: line {line}: the tag {tag} is not allowed. Write a plain value.")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
        children = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_check(child, path, sizes, above | {id(node)}) for child in children)
    if total > MAX_VALUES:
        raise ConfigFileError(f"{path}: line {line}: expands to more than {MAX_VALUES:,} values. Use fewer aliases.")
    sizes[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in PLAIN | {MERGE}:
            raise ConfigFileError(f"{path}: line {line}: a key must be a plain scalar. Write it out.")
        if key.value == TEMPLATE:
            raise ConfigFileError(f"{path}: line {line}: {TEMPLATE} would run code from the file. Remove it.")
        if key.value in lines:
            raise ConfigFileError(
                f"{path}: line {line}: {key.value!r} is already defined in line {lines[key.value]}. Keep one of them."
            )
        lines[key.value] = line
