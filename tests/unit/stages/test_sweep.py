"""Sweeps: which settings are best on the validation split, and by how much."""

import json

import pytest

from xtalgen.crystals import ContractError
from xtalgen.stages.sweep import sweep


def metrics(folder, name, rate, interval, rms=0.1):
    low, high = interval
    value = {"value": rate, "n": 100, "low": low, "high": high}
    far = {
        "value": rms,
        "n": 9,
        "low": 0.05,
        "high": 0.2,
        **({"reason": "no target is matched"} if rms is None else {}),
    }
    content = {
        "contract": "metrics/1",
        "set": name,
        "task": "csp",
        "n": 100,
        "recipe": {"name": "xtalgen"},
        "funnel": [],
        "failures": {},
        "cost": {},
        "outcomes": {},
        "data": {"dataset": "mp_20", "published": "no", "caveats": ["train: partly rebuilt"]},
        "metrics": {"match_rate": value, "match_rate_all": value, **dict.fromkeys(("rms_dist", "rms_dist_all"), far)},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_the_best_is_bold_and_its_rivals_are_counted(tmp_path):
    points = [
        ('{"slope": 0}', metrics(tmp_path, "0", 0.40, (0.35, 0.45))),
        ('{"slope": 5}', metrics(tmp_path, "1", 0.55, (0.45, 0.65))),
        ('{"slope": 10}', metrics(tmp_path, "2", 0.50, (0.40, 0.60))),
    ]
    out = tmp_path / "flowmm.md"
    sweep(points, run="flowmm", out=out)
    text = out.read_text()
    assert "**55.0 [45.0, 65.0]**" in text
    assert text.count("**55.0") == 1, "bold is what decides, and nothing else"
    assert "slope 5; 1 other within its interval" in text, "slope 10 reaches 45 %, slope 0 does not"
    assert '`sample: {"csp": {"slope": 5}}` under `runs.flowmm`' in text
    assert "train: partly rebuilt" in text
    assert "100 validation crystals of `mp_20`" in text
    lines = out.with_suffix(".csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 4
    assert "0.55,100,0.45,0.65" in lines[5]
    assert "<svg" in out.with_suffix(".svg").read_text()
    again = tmp_path / "again.md"
    sweep(points, run="flowmm", out=again)
    assert again.with_suffix(".svg").read_bytes() == out.with_suffix(".svg").read_bytes()


def test_nothing_matched_has_no_best(tmp_path):
    sweep([('{"slope": 0}', metrics(tmp_path, "0", 0.0, (0.0, 0.04), rms=None))], run="flowmm", out=tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    assert "there is no best setting" in text
    assert "(no target is matched)" in text


def test_wrong_points_are_named(tmp_path):
    with pytest.raises(ValueError, match="there are no settings to compare"):
        sweep([], run="flowmm", out=tmp_path / "r.md")
    with pytest.raises(ValueError, match="a JSON object"):
        sweep([("5", metrics(tmp_path, "0", 0.4, (0.3, 0.5)))], run="flowmm", out=tmp_path / "r.md")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ContractError, match=r"no\.json"):
        sweep([("{}", tmp_path / "no.json")], run="flowmm", out=tmp_path / "r.md")
