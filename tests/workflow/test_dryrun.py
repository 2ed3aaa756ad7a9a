"""The plans that users rely on."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def test_the_slurm_profile_is_found_and_plans_the_real_experiment(checkout):
    text = checkout.snakemake("--profile", "slurm", "--dry-run", "results/tables.md")
    assert "rule train:" in text
    assert "runtime=4320" in text


def test_the_link_to_the_slurm_profile_is_a_link(root):
    assert str((root / "slurm").readlink()) == "profiles/slurm"
    assert not (root / "profiles/default").exists(), "Snakemake would lay it over every other profile"


def test_the_facts_about_a_site_hold_for_the_jobs_they_are_for(checkout):
    profile = checkout.folder / "profiles/slurm/config.yaml"
    lines = profile.read_text().splitlines()
    start, end = _block(lines)
    opened = [re.sub(r"^(\s*)# (?=[ \w-]+:)", r"\1", line) for line in lines[start:end]]
    profile.write_text("\n".join([*lines[:start], *opened, *lines[end:]]))
    text = checkout.snakemake("--profile", "slurm", "--dry-run", "results/tables.md")
    of_training, of_data = (
        re.search(rf"rule {name}:.*?resources: (.*?)\n", text, re.DOTALL)[1] for name in ("train", "data")
    )
    for fact in ("slurm_account=my_account", "qos=normal", "constraint=ib"):
        assert fact in of_training
        assert fact in of_data
    assert "slurm_partition=gpu" in of_training
    assert "gpu=1" in of_training
    assert "slurm_partition=cpu" in of_data


def _block(lines):
    """Returns where the block of site facts begins and ends."""
    heads = [place for place, line in enumerate(lines) if line.startswith("# ---")]
    return heads[0] + 1, heads[1]


def test_every_rule_with_a_gpu_is_in_the_block_of_site_facts(root):
    text = (root / "profiles/slurm/config.yaml").read_text()
    for file in (root / "workflow/rules").glob("*/*.smk"):
        for rule in re.findall(r"^rule (\w+):(?:(?!^rule ).)*?gpu=GPU", file.read_text(), re.MULTILINE | re.DOTALL):
            assert re.search(rf"^#   {rule}: ", text, re.MULTILINE), (
                f"profiles/slurm: {rule} may want a GPU's partition"
            )


@pytest.mark.parametrize("name", ["slurm", "local"])
def test_every_key_of_a_profile_is_commented(root, name):
    for line in (root / f"profiles/{name}/config.yaml").read_text().splitlines():
        if re.match(r"[a-z]", line):
            assert re.search(r"  # .{10}", line), line


def test_own_structures_plan_no_training(checkout):
    (checkout.folder / "structures/mine.extxyz").write_text("")
    planned = checkout.planned("results/evaluate/mine.json")
    assert {"import_structures", "relax", "hull", "evaluate", "data"} <= set(planned)
    assert not {"train", "sample"} & set(planned)


def test_a_name_without_a_file_says_where_to_put_it(checkout):
    text = checkout.snakemake("--dry-run", "results/evaluate/nope.json", fails=True)
    assert "structures/nope.extxyz" in text


def test_released_samples_are_fetched_by_address_and_checksum(checkout):
    known = yaml.safe_load((checkout.folder / "src/xtalgen/datasets/released.yaml").read_text())
    targets = [f"results/evaluate/{name}/released.json" for name in known]
    planned = checkout.planned("results/tables.md")
    assert planned["import_structures"] == len(known)
    words = ("--dry-run", "--printshellcmds", "--cores", "1", "--", *targets)
    commands = [line for line in checkout.snakemake(*words).splitlines() if "import_structures.py" in line]
    assert len(commands) == len(known)
    for command in commands:
        given = shlex.split(command)
        name = given[given.index("--released") + 1]
        entry = yaml.safe_load(given[given.index("--released") + 2])
        assert "--structures" not in given
        assert {key: entry[key] for key in ("address", "git_blob_id")} == {
            key: known[name][key] for key in ("address", "git_blob_id")
        }
        assert f"results/sample/{name}/released/1-of-8.parquet" in given
    assert checkout.planned(targets[0])["relax"] == 8


def test_a_copy_of_released_samples_is_read_by_path_and_counts_by_content(checkout):
    (checkout.folder / "copy.npz").write_text("one")
    checkout.edit("config.yaml", "  diffcsp: {}", "  diffcsp: {source: copy.npz, limit: 9}")
    target = "results/sample/diffcsp/released.parquet"
    text = checkout.snakemake("--dry-run", "--printshellcmds", "--cores", "1", "--", target)
    assert "--structures copy.npz --released diffcsp" in text
    checkout.run(target)
    assert not checkout.planned(target)
    (checkout.folder / "copy.npz").touch()
    assert not checkout.planned(target)
    (checkout.folder / "copy.npz").write_text("other")
    assert set(checkout.planned(target)) == {"import_structures", "merge"}


@pytest.mark.parametrize("folder", ["demo", "examples/mp_20_cpu", "examples/pretrained"])
def test_demo_and_examples_fetch_no_released_samples(checkout, folder):
    released = yaml.safe_load((checkout.folder / folder / "config.yaml").read_text()).get("released", {})
    assert [name for name, entry in released.items() if "source" not in entry] == []


def test_own_structures_become_a_row_of_the_tables(checkout):
    (checkout.folder / "structures/mine.cif").write_text("")
    checkout.edit("config.yaml", "sets: [] ", "sets: [mine] ")
    assert "structures/mine.cif" in checkout.snakemake("--dry-run", "results/tables.md")


def test_a_checkpoint_that_the_user_brings_is_not_trained(checkout):
    (checkout.folder / "mine.safetensors").write_text("")
    checkout.edit(
        "config.yaml",
        "    model: flowmm\n",
        "    model: flowmm\n    checkpoint: {dng: mine.safetensors, csp: mine.safetensors}\n",
    )
    assert "train" not in checkout.planned("results/sample/flowmm/dng.parquet", "results/sample/flowmm/csp.parquet")


def test_the_demo_runs_in_its_own_folder(checkout):
    text = checkout.snakemake("--directory", "demo", "--cores", "1", "--dry-run")
    assert "aflow_20" in text
    assert "mp_20" not in text


def test_a_run_that_refines_another_starts_from_its_crystals(checkout):
    checkout.edit("config.yaml", "  cdvae: {", "  refined: {model: flowllm, dataset: mp_20, base: flowmm}\n  cdvae: {")
    planned = checkout.planned("results/sample/refined/dng.parquet")
    assert planned["refinement_pairs"] == planned["refinement_pairs_predictions"] == 2
    assert planned["train"] == 3, "the base for both tasks, the flow once"
    text = checkout.snakemake("--dry-run", "--printshellcmds", "--cores", "1", "results/sample/refined/dng.parquet")
    assert "--starts results/sample/flowmm/dng.parquet" in text
    assert "--train results/refinement_pairs/refined/train.parquet" in text


def test_a_profile_that_gives_several_gpus_trains_with_as_many_processes(checkout):
    words = ("--dry-run", "--printshellcmds", "--cores", "1")
    target = "results/train/flowmm/dng/checkpoint.safetensors"
    assert "torch.distributed" not in checkout.snakemake(*words, target)
    text = checkout.snakemake(*words, "--set-resources", "train:gpu=4", "--", target)
    assert 'python -m torch.distributed.run --standalone --nproc-per-node 4 "$SCRIPTS/train.py"' in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  fmax: 0.05", "  fmx: 0.05", "'fmx' was unexpected"),
        (
            "    dataset: mp_20\n",
            "    dataset: mp_2\n",
            "runs.flowmm.dataset: 'mp_2' is not under `datasets`; there are mp_20",
        ),
        ("  diffcsp: {}", "  diffcsp: {source: gone.npz}", "released.diffcsp.source: there is no file gone.npz"),
        ("  diffcsp: {}", "  diffcsp: {address: 'http://x.org/y.pt'}", "does not match '^https://'"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(checkout, old, new, said):
    checkout.edit("config.yaml", old, new)
    text = checkout.snakemake("--dry-run", "--cores", "1", fails=True)
    assert said in " ".join(text.split())


def test_lint_is_clean(root):
    program = Path(sys.executable).with_name("snakemake")
    done = subprocess.run([program, "--lint"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_small_potential_is_planned_only_when_asked_for(checkout):
    assert not {"distil", "distil_training", "distil_card"} & set(checkout.planned("results/tables.md"))
    planned = checkout.planned("results/distil/card.md")
    assert {"distil", "distil_training", "distil_card", "data"} == set(planned) - {"merge"}


@pytest.mark.parametrize(("diagram", "fetched"), [("", True), ("  phase_diagram: mine.json\n", False)])
def test_the_phase_diagram_is_fetched_only_where_none_is_given(checkout, diagram, fetched):
    (checkout.folder / "mine.json").write_text("[]")
    checkout.edit("config.yaml", "  fmax: 0.05\n", f"  fmax: 0.05\n  hull: mp2020\n{diagram}")
    assert ("phase_diagram" in checkout.planned("results/tables.md")) == fetched


def test_a_second_potential_is_asked_about_candidates_and_needs_a_hull_of_its_own(checkout):
    assert "second_potential" not in checkout.planned("results/candidates/flowmm/dng.zip")
    checkout.edit("config.yaml", "  fmax: 0.05\n", "  fmax: 0.05\n  second_potential: mace-small\n")
    assert "second_potential" in checkout.planned("results/candidates/flowmm/dng.zip")
    checkout.edit("config.yaml", "  fmax: 0.05\n", "  fmax: 0.05\n  hull: dft\n")
    assert "relax.second_potential: only a hull of kind" in checkout.snakemake(
        "--dry-run", "results/tables.md", fails=True
    )
