localrules:
    fetch,


rule fetch:
    output:
        plan.paths.fetched("sources", "{source}", "{file}"),
    log:
        log_of("fetch", "{source}", "{file}"),
    benchmark:
        usage_of("fetch", "{source}", "{file}")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(1000),
        runtime=grows(120),
    params:
        hash=lambda wildcards: plan.paths.published_hash(f"{wildcards.source}/{wildcards.file}"),
        options=dict(mirror=plan.config.mirror, offline=plan.config.offline),
    message:
        "Fetching {wildcards.source}/{wildcards.file}"
    script:
        "../scripts/fetch.py"
