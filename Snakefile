# From corpus to benchmark tables. `snakemake` makes everything of the preset in config/config.yaml;
# `snakemake results/norman_metrics.tsv` makes one table; `snakemake -R score_norman` scores one benchmark again.
from snakemake.utils import min_version

min_version("9.9")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/knowledge.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        plan.metrics(),
        plan.paths.result("summary.tsv"),
        plan.paths.result("leakage.tsv"),
        plan.paths.result("report.html"),


onstart:
    check_before_start()


onsuccess:
    say_what_to_open()
