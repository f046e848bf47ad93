from sclong.data.world_files import WORLD_FILES


rule simulate:
    output:
        [plan.result("world", file) for file in WORLD_FILES],
    log:
        log_of("simulate"),
    benchmark:
        usage_of("simulate")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        code=plan.code("sclong.data.synthetic"),
    message:
        "Simulating a world with planted answers"
    script:
        "../scripts/simulate.py"


rule scan_source:
    input:
        data=lambda wildcards: plan.path(plan.corpus[wildcards.name].input),
        annotation=plan.path(plan.config.vocabulary.annotation),
        symbols=plan.paths([a for a in [plan.config.vocabulary.symbols] if a]),
    output:
        detection=plan.result("corpus", "detection", "{name}.tsv"),
        facts=plan.result("corpus", "detection", "{name}.json"),
    log:
        log_of("scan_source", "{name}"),
    benchmark:
        usage_of("scan_source", "{name}")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        source=lambda wildcards: plan.corpus[wildcards.name].model_dump(),
        code=plan.code("sclong.data.corpus"),
    message:
        "Reading which genes {wildcards.name} detects"
    script:
        "../scripts/scan_source.py"


rule vocabulary:
    input:
        annotation=plan.path(plan.config.vocabulary.annotation),
        symbols=plan.paths([a for a in [plan.config.vocabulary.symbols] if a]),
        genes=plan.paths([a for a in [plan.config.vocabulary.genes] if a]),
        detection=expand(rules.scan_source.output.detection, name=plan.ranking),
    output:
        report(
            plan.result("vocabulary", "vocabulary.tsv"),
            category="Corpus",
            caption="../report/vocabulary.rst",
        ),
    log:
        log_of("vocabulary"),
    benchmark:
        usage_of("vocabulary")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        mode=plan.config.vocabulary.mode,
        size=plan.config.vocabulary.size,
        release=plan.config.vocabulary.release,
        ranked_by=plan.ranking,
        code=plan.code("sclong.data.vocabulary"),
    message:
        "Building the gene vocabulary"
    script:
        "../scripts/vocabulary.py"


rule harmonize_source:
    input:
        data=lambda wildcards: plan.path(plan.corpus[wildcards.name].input),
        vocabulary=rules.vocabulary.output[0],
    output:
        directory(plan.result("corpus", "harmonized", "{name}")),
    log:
        log_of("harmonize_source", "{name}"),
    benchmark:
        usage_of("harmonize_source", "{name}")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        source=lambda wildcards: plan.corpus[wildcards.name].model_dump(),
        minimum_genes=plan.config.corpus.minimum_genes,
        code=plan.code("sclong.data.corpus"),
    message:
        "Harmonising {wildcards.name} to the vocabulary"
    script:
        "../scripts/harmonize_source.py"


rule shards:
    input:
        vocabulary=rules.vocabulary.output[0],
        sources=expand(rules.harmonize_source.output, name=plan.corpus),
    output:
        shards=directory(plan.result("corpus", "shards")),
        manifest=report(
            plan.result("corpus", "manifest.tsv"),
            category="Corpus",
            caption="../report/corpus.rst",
        ),
    log:
        log_of("shards"),
    benchmark:
        usage_of("shards")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        cells_per_shard=plan.config.corpus.cells_per_shard,
        left_out=plan.corpus_left_out,
        code=plan.code("sclong.data.corpus"),
    message:
        "Writing the corpus as shards"
    script:
        "../scripts/shards.py"
