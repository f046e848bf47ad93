rule go_graph:
    input:
        obo=plan.path(plan.config.go.obo),
        annotation=plan.path(plan.config.go.annotation),
        vocabulary=rules.vocabulary.output[0],
    output:
        plan.result("go", "go_graph.npz"),
    log:
        log_of("go_graph"),
    benchmark:
        usage_of("go_graph")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(30),
    params:
        options=plan.config.go.model_dump(exclude={"obo", "annotation"}),
        code=plan.code("sclong.knowledge.go", "sclong.knowledge.similarity"),
    message:
        "Building the Gene Ontology similarity graph"
    script:
        "../scripts/go_graph.py"
