"""Configuration files that are not what they seem."""

from pathlib import Path

import pytest

from xtalgen.experiment.config_file import ConfigFileError, check_config_file

ROOT = Path(__file__).parents[3]
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    "path",
    [ROOT / "config.yaml", ROOT / "demo/config.yaml", *sorted((ROOT / "examples").glob("*/config.yaml"))],
    ids=str,
)
def test_shipped_configurations_pass(path):
    check_config_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"# nothing\n", b"\xef\xbb\xbfseed: 0\n", b'{"seed": 0}', b"a: &x {b: 1}\nc: {<<: *x, d: 2}\n"]
)
def test_plain_ones_pass(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    check_config_file(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"seed: 0\nsample:\n  n: 1\n  n: 2\n", r"line 4: 'n' is already defined in line 3\. Keep one"),
        (b"seed: 0\nrelax:\n\tfmax: 0.1\n", r"line 3: found character '\\t'.* Indent with spaces"),
        (b"seed: 0\nx: !!python/object/apply:os.system [date]\n", r"line 2: the tag !!python/object/apply:os.system"),
        (b"seed: 0\n? !!python/name:os.system\n: 1\n", r"line 2: a key must be a plain scalar"),
        (b"__use_yte__: true\nx: '?open(1)'\n", r"line 1: __use_yte__ would run code from the file"),
        (BOMB.encode(), r"expands to more than 100,000 values"),
        (b"a: &a [*a]\n", r"line 1: an alias refers to a value that contains it"),
        ("näher: 1\n".encode("latin-1"), r"not UTF-8 text \(byte 1\)"),
        ("seed: 0\n".encode("utf-16"), r"not UTF-8 text \(byte 0\)"),
        (b"seed: 0\n\0\0", r"not readable YAML .*#x0000"),
        (b"seed: [1,\n", r"line 2: .*Correct this line"),
        (b"[" * 5000, r"not readable YAML|line 1"),
        (b"- 1\n", r"not of the form `key: value`"),
        (b"#" * 1_000_001, r"1,000,001 bytes is too large"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigFileError, match=rf"config\.yaml: .*{said}|config\.yaml: {said}") as caught:
        check_config_file(path)
    assert "\n" not in str(caught.value)
