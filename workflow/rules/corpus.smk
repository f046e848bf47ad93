from sclong.world.files import WORLD_FILES

PART_NAME = "[a-z0-9_]+"
FILTERS = plan.config.corpus.filters.model_dump()
CENSUS = plan.config.corpus.census and plan.config.corpus.census.model_dump()


rule simulate:
    output:
        [result("world", file) for file in WORLD_FILES],
    log:
        log_of("simulate"),
    benchmark:
        usage_of("simulate")
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        code=code_of("simulate"),
    message:
        "Simulating a world with planted answers"
    script:
        "../scripts/simulate.py"


rule scan_source:
    input:
        data=lambda wildcards: plan.paths.path(plan.corpus.sources[wildcards.name].input),
        annotation=plan.paths.path(plan.config.vocabulary.annotation),
        symbols=plan.paths.paths([a for a in [plan.config.vocabulary.symbols] if a]),
    output:
        detection=result("corpus", "detection", "{name}.tsv"),
        facts=result("corpus", "detection", "{name}.json"),
    log:
        log_of("scan_source", "{name}"),
    benchmark:
        usage_of("scan_source", "{name}")
    wildcard_constraints:
        name=f"(?!census[.]){PART_NAME}",
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        source=lambda wildcards: plan.corpus.sources[wildcards.name].model_dump(),
        code=code_of("scan_source"),
    message:
        "Reading which genes {wildcards.name} detects"
    script:
        "../scripts/scan_source.py"


localrules:
    census_list,


rule census_list:
    output:
        datasets=result("corpus", "census_datasets.tsv"),
        detection=result("corpus", "detection", "census.tsv"),
    log:
        log_of("census_list"),
    benchmark:
        usage_of("census_list")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(8000),
        runtime=grows(120),
    params:
        config=CENSUS,
        code=code_of("census_list"),
    message:
        "Listing the data sets of the CELLxGENE Census"
    script:
        "../scripts/census_list.py"


rule vocabulary:
    input:
        annotation=plan.paths.path(plan.config.vocabulary.annotation),
        symbols=plan.paths.paths([a for a in [plan.config.vocabulary.symbols] if a]),
        genes=plan.paths.paths([a for a in [plan.config.vocabulary.genes] if a]),
        detection=expand(rules.scan_source.output.detection, name=plan.corpus.ranking)
        + [rules.census_list.output.detection] * plan.corpus.census_ranks,
    output:
        report(
            result("vocabulary", "vocabulary.tsv"),
            category="Corpus",
            caption="../report/vocabulary.rst",
        ),
    log:
        log_of("vocabulary"),
    benchmark:
        usage_of("vocabulary")
    priority: 10
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
        ranked_by=plan.corpus.ranking + ["census"] * plan.corpus.census_ranks,
        code=code_of("vocabulary"),
    message:
        "Building the gene vocabulary"
    script:
        "../scripts/vocabulary.py"


# A part is written beside its place, in params, not in output: Snakemake deletes the outputs of a job that fails, and
# a job that is killed goes on where it was.
rule corpus_part:
    input:
        data=lambda wildcards: plan.paths.path(plan.corpus.sources[wildcards.name].input),
        vocabulary=rules.vocabulary.output[0],
    output:
        directory(result("corpus", "parts", "{name}")),
    log:
        log_of("corpus_part", "{name}"),
    benchmark:
        usage_of("corpus_part", "{name}")
    wildcard_constraints:
        name=f"(?!census_[0-9]+$){PART_NAME}",
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        work_dir=result("corpus", "unfinished", "{name}"),
        source=lambda wildcards: plan.corpus.sources[wildcards.name].model_dump(),
        filters=FILTERS,
        code=code_of("corpus_part"),
    message:
        "Bringing {wildcards.name} to the vocabulary"
    script:
        "../scripts/corpus_part.py"


rule census_part:
    input:
        datasets=rules.census_list.output.datasets,
        vocabulary=rules.vocabulary.output[0],
    output:
        directory(result("corpus", "parts", "census_{number}")),
    log:
        log_of("census_part", "{number}"),
    benchmark:
        usage_of("census_part", "{number}")
    wildcard_constraints:
        number="[0-9]+",
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(16000),
        runtime=grows(1440),
    params:
        work_dir=result("corpus", "unfinished", "census_{number}"),
        filters=FILTERS,
        config=CENSUS,
        code=code_of("census_part"),
    message:
        "Reading part {wildcards.number} of the CELLxGENE Census"
    script:
        "../scripts/census_part.py"


rule benchmark_cells:
    input:
        dataset=result("datasets", "{dataset}"),
        vocabulary=rules.vocabulary.output[0],
    output:
        result("corpus", "benchmark_cells", "{dataset}.npz"),
    log:
        log_of("benchmark_cells", "{dataset}"),
    benchmark:
        usage_of("benchmark_cells", "{dataset}")
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(30),
    params:
        code=code_of("benchmark_cells"),
    message:
        "Hashing the cells of {wildcards.dataset}"
    script:
        "../scripts/benchmark_cells.py"


rule find_overlap:
    input:
        parts=expand(result("corpus", "parts", "{part}"), part=plan.corpus.parts),
        cells=rules.benchmark_cells.output[0],
    output:
        result("corpus", "overlap", "{dataset}.parquet"),
    log:
        log_of("find_overlap", "{dataset}"),
    benchmark:
        usage_of("find_overlap", "{dataset}")
    priority: 10
    conda:
        CONDA
    threads: 1 if plan.config.preset == "demo" else 8
    resources:
        mem_mb=grows(2000 if plan.config.preset == "demo" else 16000),
        runtime=grows(240),
    params:
        code=code_of("find_overlap"),
    message:
        "Looking for cells of {wildcards.dataset} in the corpus"
    script:
        "../scripts/find_overlap.py"


rule shards:
    input:
        vocabulary=rules.vocabulary.output[0],
        parts=expand(result("corpus", "parts", "{part}"), part=plan.corpus.parts),
        overlaps=expand(rules.find_overlap.output[0], dataset=plan.corpus.excluded),
        cells=expand(rules.benchmark_cells.output[0], dataset=plan.corpus.excluded),
    output:
        shards=directory(result("corpus", "shards")),
        manifest=report(
            result("corpus", "manifest.tsv"),
            category="Corpus",
            caption="../report/corpus.rst",
        ),
    log:
        log_of("shards"),
    benchmark:
        usage_of("shards")
    priority: 10
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000 if plan.config.preset == "demo" else 16000),
        runtime=grows(240),
    params:
        left_out=plan.corpus.left_out,
        must_be_compared=list(plan.corpus.excluded) if plan.config.preset == "paper" else [],
        code=code_of("shards"),
    message:
        "Putting the corpus together"
    script:
        "../scripts/shards.py"


rule leakage:
    input:
        corpus=rules.shards.output.shards,
        cells=expand(rules.benchmark_cells.output[0], dataset=plan.datasets),
        overlaps=expand(rules.find_overlap.output[0], dataset=plan.datasets),
    output:
        report(
            result("leakage.tsv"),
            category="Corpus",
            caption="../report/leakage.rst",
        ),
    log:
        log_of("leakage"),
    benchmark:
        usage_of("leakage")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000 if plan.config.preset == "demo" else 8000),
        runtime=grows(60),
    params:
        datasets={d: plan.benchmarks_of(d) for d in plan.datasets},
        excluded=list(plan.corpus.excluded),
        not_compared={**plan.skipped, **plan.blocked, **plan.corpus.not_excluded},
        code=code_of("leakage"),
    message:
        "Auditing the corpus for cells of benchmarks"
    script:
        "../scripts/leakage.py"


rule corpus_summary:
    input:
        shards=rules.shards.output.shards,
        vocabulary=rules.vocabulary.output[0],
    output:
        cells=report(
            result("corpus", "cells.tsv"),
            category="Corpus",
            caption="../report/corpus_summary.rst",
        ),
        genes=result("corpus", "genes.tsv"),
    log:
        log_of("corpus_summary"),
    benchmark:
        usage_of("corpus_summary")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(2000 if plan.config.preset == "demo" else 16000),
        runtime=grows(240),
    params:
        code=code_of("corpus_summary"),
    message:
        "Counting the cells of the corpus"
    script:
        "../scripts/corpus_summary.py"
