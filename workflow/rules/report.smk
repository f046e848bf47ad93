rule summary:
    input:
        metrics=plan.metrics(),
    output:
        report(
            plan.result("summary.tsv"),
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
        preset=plan.config.preset,
        cards=[plan.benchmarks[b].model_dump() for b in plan.data],
        code=plan.code("sclong.report.tables"),
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
        pictured=[f for b in plan.data for f in plan.pictured(b).values()],
        checkpoint=rules.pretrain.output.checkpoint,
    output:
        report(
            plan.result("report.html"),
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
        config=plan.config.model_dump(),
        skipped=plan.skipped,
        not_applicable=plan.not_applicable(),
        code=plan.code("sclong.report.page", "sclong.report.corpus_figure", "sclong.tasks.batch_integration.figure"),
    message:
        "Drawing the report"
    script:
        "../scripts/report_page.py"
