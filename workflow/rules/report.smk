rule summary:
    input:
        metrics=plan.metrics(),
    output:
        report(
            result("summary.tsv"),
            category="Summary",
            caption="../report/summary.rst",
        ),
    log:
        log_of("summary"),
    benchmark:
        usage_of("summary")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        cards=[plan.benchmarks[b].model_dump() for b in plan.data],
        data={b: spec.model_dump() for b, spec in plan.data.items()},
        models=[card.model_dump() for card in plan.models.values()],
        code=code_of("summary"),
    message:
        "Summarising: means, intervals, floors, ceilings, the paper's numbers, verdicts"
    script:
        "../scripts/summary.py"


rule report_page:
    input:
        summary=rules.summary.output[0],
        metrics=plan.metrics(),
        manifest=rules.shards.output.manifest,
        cells=rules.corpus_summary.output.cells,
        genes=rules.corpus_summary.output.genes,
        leakage=rules.leakage.output[0],
        pictured=[f for b in plan.data for f in plan.rows.pictured(b).values()],
        checkpoint=result("checkpoints", "sclong"),
    output:
        report(
            result("report.html"),
            category="Summary",
            caption="../report/summary.rst",
        ),
    log:
        log_of("report_page"),
    benchmark:
        usage_of("report_page")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        preset=plan.config.preset,
        cards=[plan.benchmarks[b].model_dump() for b in plan.data],
        models=[card.model_dump() for card in plan.models.values()],
        skipped=plan.skipped,
        not_applicable=plan.rows.not_applicable(),
        code=code_of("report_page", *figures()),
    message:
        "Drawing the report"
    script:
        "../scripts/report_page.py"
