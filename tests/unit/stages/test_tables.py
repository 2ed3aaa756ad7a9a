"""Tables: golden page, missing values, CSV, published rows, wrong input."""

import csv
import json
import re
import string
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables as script
from metrics_files import COST, DNG, NONE, RECIPE, content, made, section, write
from xtalgen.crystals import ContractError
from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import flatten, read_evaluation, read_evaluations
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Estimate, rate
from xtalgen.metrics.statistics.significance import compare
from xtalgen.report.long_csv import long_csv
from xtalgen.report.markdown import TABLES, compact, markdown
from xtalgen.report.score_table import DE_NOVO, PREDICTION, STABILITY, SYMMETRY


@pytest.fixture
def paths(tmp_path):
    better = {**DNG, "struct_valid": {"value": 0.9998, "n": 10000, "low": 0.9993, "high": 0.9999}}
    better["comp_valid"] = {"value": 0.794, "n": 10000, "low": 0.789, "high": 0.799}
    return write(
        tmp_path,
        content(
            "flowmm/dng", DNG, caveats=["Training split partly reconstructed."], cost=COST, failures={"timeout": 7}
        ),
        content("cdvae/dng", better),
        content("flowmm/csp", {"match_rate": {"value": 0.6, "n": 9046, "low": 0.59, "high": 0.61}}, task="csp"),
    )


GOLDEN = f"""\
## De Novo Generation on `mp_20`

> **Data.** Training split partly reconstructed. (rows: flowmm)

| Method | Validity: Structural (%) ↑ | Validity: Composition (%) ↑ | Coverage: Recall (%) ↑        | Coverage: Precision (%) ↑ | Property Distribution: W(density) (g/cm³) ↓ | Property Distribution: W(# elements) ↓ | n      |
|--------|----------------------------|-----------------------------|-------------------------------|---------------------------|---------------------------------------------|----------------------------------------|--------|
| flowmm | 93.46 [92.96, 93.93]       | **80.0 [79.5, 80.5]** ≈     | 99.0 [98.5, 99.5] (n = 9,046) | 99.5 [99.0, 100.0]        | 0.160 [0.140, 0.180] (n = 1,000)            | {NONE}¹                                     | 10,000 |
| cdvae  | **99.98 [99.93, 99.99]** ★ | 79.4 [78.9, 79.9] ≈         | 99.0 [98.5, 99.5] (n = 9,046) | 99.5 [99.0, 100.0]        | 0.160 [0.140, 0.180] (n = 1,000)            | {NONE}¹                                     | 10,000 |

★ best; ≈ within noise of the best value (p ≥ 0.05).

¹ no valid \\| crystal

**Lead within noise**: Validity: Composition, flowmm over cdvae, p = 0.3 (Fisher).
Lead beyond noise: Validity: Structural, cdvae over flowmm, p < 0.001 (Fisher).
"""  # noqa: E501 - a table's rows are as long as they are


def test_golden_page(paths):
    page, _ = made(paths)
    found = section(page, "De Novo Generation")
    assert re.sub(r" +$", "", found, flags=re.MULTILINE).strip() == GOLDEN.strip()


def test_sections_and_column_order(paths):
    page, _ = made(paths)
    titles = re.findall(r"^## (\w[\w ]*)", page, re.MULTILINE)
    assert [title.removesuffix(" on ") for title in titles] == [
        "Summary", "De Novo Generation", "Crystal Structure Prediction", "Stability", "Cost", "Funnel", "Failures",
        "Recipe", "Definitions",
    ]  # fmt: skip
    head = section(page, "Crystal Structure").splitlines()[2]
    assert re.match(r"\| Method \| Match rate \(%\) ↑ +\| RMSE ↓ +\| Match rate, unfiltered", head)
    assert "Stable, E ≤ 0 eV/atom (%) ↑" in page
    assert "M.S.U.N., E ≤ 0.1 eV/atom (%) ↑" in page
    assert "| `flowmm/dng` | 14.2 M     | 2.22 h " in page
    assert re.search(r"\| valid +\| 8,000 \(80.0%\)", page)
    assert re.search(r"\| timeout +\| 7 +\| 0 ", page)
    assert "| `potential.name`" in section(page, "Recipe")
    for column in (*DE_NOVO, *PREDICTION, *STABILITY, *SYMMETRY):
        assert METRICS[column.metric].definition in section(page, "Definitions")


def test_every_metric_stands_in_a_table_but_the_conjunction():
    shown = {column.metric for _, _, columns in TABLES for column in columns}
    assert set(METRICS) - shown == {"valid"}


def test_same_files_same_bytes_and_order_given(paths):
    assert made(paths) == made(paths)
    page, _ = made([paths[1], paths[0]])
    assert page.index("| cdvae ") < page.index("| flowmm ")


def test_data_sets_share_no_table_and_no_bold(tmp_path):
    worse = {**DNG, "struct_valid": {"value": 0.1, "n": 10000, "low": 0.09, "high": 0.11}}
    page, _ = made(write(tmp_path, content("a/dng", DNG), content("b/dng", worse, dataset="perov_5")))
    assert "## De Novo Generation on `mp_20`" in page
    assert "## De Novo Generation on `perov_5`" in page
    assert "**9" not in page
    assert "**1" not in page


def test_own_structures_are_rows_among_the_generated(tmp_path):
    page, _ = made(write(tmp_path, content("mine", DNG, task="own"), content("a/dng", DNG)))
    assert section(page, "De Novo Generation").count("\n| mine") == 1


def test_recipes_that_differ_are_noted_but_seeds_are_not(tmp_path):
    other = {**RECIPE, "potential": {"name": "mace"}, "seed": 2}
    page, _ = made(write(tmp_path, content("a/dng", DNG), content("b/dng", DNG, recipe=other)))
    assert "> **Recipes differ** between these rows in `potential.name`; see" in page


def test_thresholds_of_the_recipe_stand_in_the_head(tmp_path):
    page, _ = made(write(tmp_path, content("a/dng", DNG, recipe={**RECIPE, "metastable_below": 0.08})))
    assert "Metastable, E ≤ 0.08 eV/atom (%) ↑" in page


def test_names_cannot_break_a_table(tmp_path):
    one = content("a|b/dng", {**DNG, "stable": {"value": None, "reason": "x\n| y |"}})
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(one))
    page, _ = made([path])
    rows = [line for line in section(page, "Stability").splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "x \\| y \\|" in page


def test_csv_holds_every_number_unrounded(paths):
    _, text = made(paths)
    rows = list(csv.DictReader(text.splitlines()))
    for path in paths:
        evaluation = read_evaluation(path)
        mine = [row for row in rows if row["set"] == evaluation.set]
        for name, value in evaluation.metrics.items():
            (row,) = [row for row in mine if row["kind"] == "metric" and row["name"] == name]
            numbers = [float(row[key]) if row[key] else None for key in ("value", "low", "high")]
            assert numbers == [value.value, value.low, value.high]
            assert row["reason"] == (value.reason or "")
        assert [int(row["value"]) for row in mine if row["kind"] == "funnel"] == [10000, 8000]
        assert len({row["recipe"] for row in mine}) == 1
    assert {row["value"] for row in rows if row["name"] == "parameters"} == {"14200000"}


def test_published_rows_are_apart_and_never_bold(paths):
    page, text = made(paths, published=True)
    ours, theirs = section(page, "De Novo Generation").split("*Published, not run here*")
    assert "**" in ours
    assert "**" not in theirs
    assert "*99.27*" in theirs
    assert "*99.27*" not in ours
    assert "check the source before citing" in theirs
    assert "54.79" in section(page, "Crystal Structure")
    assert "RTX 5000 Ada" in section(page, "Cost")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["origin"] == "published"]
    assert {"0.9927", "0.5479"} <= {row["value"] for row in rows}
    assert "Published" not in made(paths)[0]


def test_published_rows_of_other_data_sets_stay_out(tmp_path):
    page, _ = made(write(tmp_path, content("a/dng", DNG, dataset="aflow_20")), published=True)
    assert "99.27" not in page


def test_published_values_beside_other_splits_are_noted(tmp_path):
    one = content("a/dng", DNG, recipe={**RECIPE, "stable_below": 0.05})
    one["data"]["published"] = "no"  # as the evaluate stage writes it
    page, _ = made(write(tmp_path, one), published=True)
    assert "> **Data.** The splits are not exactly the published ones" in page
    # Our threshold is not theirs.
    ours, theirs = section(page, "Stability").split("*Published, not run here*")
    assert "Stable, E ≤ 0.05 eV/atom" in ours
    assert "E ≤" not in theirs
    assert "splits" not in made(write(tmp_path, one))[0]
    for fine in ("yes", "unknown"):
        one["data"]["published"] = fine
        assert "splits" not in made(write(tmp_path, one), published=True)[0]


def csp(name, flags, ids=None, recipe=None):
    flags = np.array(flags)
    packed = pack_outcomes(ids or [f"t{i}" for i in range(len(flags))], {"match_rate": flags})
    found = rate(int(flags.sum()), len(flags)).as_json()
    return content(f"{name}/csp", {"match_rate": found}, task="csp", recipe=recipe or RECIPE) | {"outcomes": packed}


def test_same_targets_are_compared_in_pairs(tmp_path):
    # 24 of 40 against 16 of 40: unpaired this is noise, but one is right wherever the other is.
    better, worse = np.arange(40) < 24, np.arange(40) < 16
    page, _ = made(write(tmp_path, csp("a", better), csp("b", worse)))
    assert "Lead beyond noise: Match rate, a over b, p = 0.0078 (McNemar)." in page
    (tmp_path / "other").mkdir()
    other = csp("b", worse, ids=[f"other{i}" for i in range(40)])
    page, _ = made(write(tmp_path / "other", csp("a", better), other))
    assert re.search(r"\*\*Lead within noise\*\*: Match rate, a over b, p = 0\.1\d? \(Fisher\)", page)
    assert " ≈" in page


def test_paired_answers_do_not_depend_on_the_order_of_targets(tmp_path):
    rng = np.random.default_rng(0)
    flags, order = rng.random(50) < 0.5, rng.permutation(50)
    rows = [csp("a", flags), csp("b", flags[order], ids=[f"t{i}" for i in order])]
    one, other = read_evaluations(write(tmp_path, *rows))
    assert compare(one, other, "match_rate").p == 1.0
    assert one.outcomes["bits"] == other.outcomes["bits"]


def test_recipes_share_no_table(tmp_path):
    named = {**RECIPE, "name": "cdvae", "about": "as CDVAE", "not_followed": "its seed"}
    page, text = made(write(tmp_path, content("a/dng", DNG), content("b/dng", DNG, recipe=named)), published=True)
    assert page.count("## De Novo Generation on `mp_20`") == 2
    found = section(page, "De Novo Generation on `mp_20`, recipe `cdvae`")
    assert "> **Recipe** `cdvae`: as CDVAE, but its seed." in found
    assert "| b " in found
    assert "| a " not in found
    assert page.count("*99.27*") == 1
    assert {row["recipe_name"] for row in csv.DictReader(text.splitlines()) if row["set"] == "b/dng"} == {"cdvae"}


def test_metastable_without_stable_says_so_in_its_head(tmp_path):
    disjoint = {**RECIPE, "name": "lemat", "stability": {"disjoint": True}}
    page, _ = made(write(tmp_path, content("a/dng", DNG, recipe=disjoint)))
    assert "Metastable, 0 < E ≤ 0.1 eV/atom (%) ↑" in page
    assert "Stable, E ≤ 0 eV/atom (%) ↑" in page


def test_best_of_several_has_columns_only_where_there_are_several(tmp_path):
    one = {"match_rate": {"value": 0.5, "n": 4}, "match_rate_best": {"value": None, "reason": "one prediction"}}
    page, _ = made(write(tmp_path, content("a/csp", one, task="csp")))
    assert "best of k" not in section(page, "Crystal Structure")
    several = {**one, "match_rate_best": {"value": 0.75, "n": 4}}
    page, _ = made(write(tmp_path, content("a/csp", several, task="csp")))
    assert "Match rate, best of k (%) ↑" in section(page, "Crystal Structure")


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), st.integers()), st.integers())
def test_flat_recipes_lose_nothing(inner, value):
    flat = flatten({"inner": inner, "value": value})
    assert len(flat) == len(inner) + 1
    assert flat["value"] == str(value)


def test_terminal_version_marks_the_best(paths):
    text = compact(read_evaluations(paths))
    assert re.search(r"Validity: Structural \(%\) ↑ +93\.46 +99\.98★", text)
    assert "★ best; ≈ within noise of the best value (p ≥ 0.05)" in text
    assert re.search(r"Match rate \(%\) ↑ +60\.0", text)
    assert max(map(len, text.splitlines())) <= 100


def test_metrics_missing_altogether(tmp_path):
    page, text = made(write(tmp_path, content("a/dng", {}), content("b/dng", {"struct_valid": DNG["struct_valid"]})))
    assert "¹ not computed for this set" in page
    assert "## Stability" not in page
    assert "None." in section(page, "Failures")
    assert text.count("metric") == 1


def test_not_a_number_is_no_value(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content("a", {"stable": {"value": float("nan"), "n": 3}})))
    assert read_evaluation(path).value("stable") == Estimate(None, 3, reason="no value")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "contract is None, expected 'metrics/1'"),
        (json.dumps({**content("a", {}), "contract": "metrics/0"}), "contract is 'metrics/0'"),
        (json.dumps({key: value for key, value in content("a", {}).items() if key != "data"}), "KeyError: 'data'"),
        (json.dumps({**content("a", {}), "metrics": {"stable": 3}}), "breaks the contract"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ContractError, match=f"wrong.json.*{message}"):
        read_evaluation(path)


def test_no_files_and_a_set_twice(tmp_path, paths):
    with pytest.raises(ContractError, match="There are no evaluations"):
        read_evaluations([])
    with pytest.raises(ContractError, match=r"'flowmm/dng' stands in .* too"):
        read_evaluations([paths[0], paths[0]])


def test_command_line(paths, capsys):
    folder = paths[0].parent
    outputs = ["--out", str(folder / "x" / "t.md"), "--csv", str(folder / "t.csv")]
    script.main(["--evaluations", *map(str, paths), *outputs, "--print"])
    assert "Structural" in capsys.readouterr().out
    assert (folder / "x" / "t.md").read_text() == markdown(read_evaluations(paths))
    assert (folder / "t.csv").read_text() == long_csv(read_evaluations(paths))
    with pytest.raises(SystemExit, match="error: There are no evaluations"):
        script.main(outputs)


def test_a_row_without_facts_has_dashes(paths):
    rows = [replace(row, cost={}, funnel=(), data={"dataset": "mp_20"}) for row in read_evaluations(paths)]
    page = markdown(rows)
    assert "## Funnel" not in page
    assert re.search(rf"\| `flowmm/dng` \| {NONE}", section(page, "Cost"))
