"""xtalgen: train, sample, relax, score and show generative models of inorganic crystals."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/config.smk"


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/jobs.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/columns.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/import_structures.smk"
include: "workflow/rules/refinement_pairs.smk"
include: "workflow/rules/relax.smk"
include: "workflow/rules/hull.smk"
include: "workflow/rules/fingerprints.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/sweep_points.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/candidates.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/distil.smk"
include: "workflow/rules/distil_training.smk"


# Seconds of work on one small file: not worth a job of their own.
localrules:
    all,
    merge,
    tables,


rule all:
    """Everything the experiment makes."""
    default_target: True
    input:
        "results/tables.md",
        "results/explorer.html",
        "results/figures/distributions.svg",
        expand("results/train/{training}/curve.svg", training=plan.trained()),
        expand("results/sweep/{run}.md", run=plan.swept()),
        expand("results/conditional/{run}.svg", run=plan.conditional()),
        expand(
            "results/candidates/{set}.zip",
            set=plan.generated(),
        ),
