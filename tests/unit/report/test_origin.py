"""Rows by their origin: trained here, released by a model's authors, own files; and what stands beside stability."""

import csv
import re

from metrics_files import COST, DNG, NONE, RECIPE, content, made, section, write
from xtalgen.metrics.result_file import read_evaluations
from xtalgen.report.markdown import compact


def released(name, metrics=DNG, *, relaxed="none", caveats=()):
    one = content(f"{name}/released", metrics, caveats=caveats)
    facts = {"licence": "Apache-2.0", "citation": "A. Nobody | B.", "relaxed": relaxed, "n": 10000}
    one["data"]["released"] = facts | {"address": "https://example.org/x.csv"}
    return one


def test_released_rows_are_told_apart_at_a_glance(tmp_path):
    caveat = "read from a copy that is not the published file"
    paths = write(
        tmp_path,
        content("flowmm/dng", {**DNG, "comp_valid": {"value": 0.9, "n": 10000}}, cost={"train_seconds": 10.0}),
        content("given/dng", DNG),
        released("flowmm"),
        released("other", relaxed="CHGNet", caveats=[caveat]),
        content("mine", DNG, task="own"),
    )
    page, text = made(paths, published=True)
    found = section(page, "De Novo Generation")
    rows = re.findall(r"^\| (\w+) +\| ([a-z ]+?) +\|", found, re.MULTILINE)
    assert rows == [
        ("flowmm", "trained here"), ("given", "sampled here"), ("flowmm", "released"), ("other", "released"),
        ("mine", "own file"),
    ]  # fmt: skip
    assert re.search(r"^\| Method +\| Origin +\| Validity: Structural", found, re.MULTILINE)
    assert "> **Origin.** `trained here`: by a model that this experiment trained; `sampled here`:" in found
    assert "Relaxed before their release: other with CHGNet." in found
    assert f"> **Data.** {caveat} (rows: released other)" in found
    assert "Validity: Composition, flowmm over" in found
    assert "*Published, not run here*" in found
    block = section(page, "Released samples")
    assert re.search(r"\| `flowmm/released` +\| 10,000 +\| 10,000 +\| none +\| Apache-2\.0 +\| A\. Nobody", block)
    assert "A. Nobody \\| B." in block
    assert "https://example.org/x.csv" in block
    origins = {row["set"]: row["origin"] for row in csv.DictReader(text.splitlines()) if row["origin"] != "published"}
    assert origins["flowmm/released"] == "released"
    assert origins["flowmm/dng"] == "run here"
    printed = compact(read_evaluations(paths))
    assert re.search(r"^Origin +trained here +sampled here +released +released +own file$", printed, re.MULTILINE)
    assert "other: 10,000 crystals, relaxed with CHGNet, Apache-2.0; cite A. Nobody" in printed


def test_a_released_row_and_a_run_of_one_name_are_told_apart_in_sentences(tmp_path):
    better = {**DNG, "struct_valid": {"value": 0.9998, "n": 10000, "low": 0.9993, "high": 0.9999}}
    page, _ = made(write(tmp_path, content("flowmm/dng", DNG), released("flowmm", better)))
    assert "Structural, released flowmm over flowmm, p < 0.001" in page


def test_rows_made_here_need_no_origin(tmp_path):
    paths = write(tmp_path, content("flowmm/dng", DNG, cost=COST), content("cdvae/dng", DNG, cost=COST))
    page, _ = made(paths)
    assert "Origin" not in page
    assert "Released" not in page
    assert "Origin" not in compact(read_evaluations(paths))


def test_what_stability_rests_on_stands_beside_it(tmp_path):
    recipe = {**RECIPE, "relaxation": {"potential": "chgnet"}}
    cost = {**COST, "train_core_hours": 0.98765}
    one, other = content("a/dng", DNG, recipe=recipe, cost=cost), content("b/dng", DNG, cost={"train_gpu_hours": 12.5})
    one["data"]["n_hull"] = 26566
    page, _ = made(write(tmp_path, one, other))
    head, _, *rows = [line for line in section(page, "Stability").splitlines() if line.startswith("|")]
    titles = [cell.strip() for cell in head.strip("|").split("|")]
    cells = [dict(zip(titles, map(str.strip, row.strip("|").split("|")), strict=True)) for row in rows]
    wanted = ("Potential", "Hull (reference crystals)", "Training (core-hours)", "Sampling (s per 1,000)")
    assert [cells[0][name] for name in wanted] == ["chgnet", "26,566", "0.988", "547.3"]
    assert [cells[1][name] for name in wanted] == [NONE, NONE, "12.5 GPU-hours", NONE]
    assert {"S.U.N., E ≤ 0 eV/atom (%) ↑", "M.S.U.N., E ≤ 0.1 eV/atom (%) ↑", "n"} <= set(titles)
    assert any(title.startswith("Converged") for title in titles)
    printed = compact(read_evaluations(write(tmp_path, one, other)))
    assert re.search(rf"^Hull \(reference crystals\) +26,566 +{NONE}$", printed, re.MULTILINE)
