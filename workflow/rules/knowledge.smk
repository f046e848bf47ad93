rule go_graph:
    input:
        obo=plan.paths.path(plan.config.go.obo),
        annotation=plan.paths.path(plan.config.go.annotation),
        parents=plan.paths.paths([a for a in [plan.config.go.parents] if a]),
        vocabulary=rules.vocabulary.output[0],
    output:
        result("go", "go_graph.npz"),
    log:
        log_of("go_graph"),
    benchmark:
        usage_of("go_graph")
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        options=plan.config.go.model_dump(exclude={"obo", "annotation", "parents"}),
        code=code_of("go_graph"),
    message:
        "Building the Gene Ontology similarity graph"
    script:
        "../scripts/go_graph.py"


# A folder beside the model's checkpoints: it is what the two gene tables start from, and a model of its own in the
# benchmarks of static gene vectors. Without gene2vec.vectors it says that none are used.
rule gene2vec:
    input:
        vectors=plan.paths.paths([a for a in [plan.config.gene2vec.vectors] if a]),
        genes=plan.paths.paths([a for a in [plan.config.gene2vec.genes] if a]),
        vocabulary=rules.vocabulary.output[0],
    output:
        directory(result("checkpoints", "gene2vec")),
    log:
        log_of("gene2vec"),
    benchmark:
        usage_of("gene2vec")
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        options=dict(width=plan.architecture.base_dim, reduce=plan.config.gene2vec.reduce),
        code=code_of("gene2vec"),
    message:
        "Putting gene vectors in the vocabulary's order"
    script:
        "../scripts/gene2vec.py"
