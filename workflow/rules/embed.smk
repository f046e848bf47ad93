rule embed:
    input:
        dataset=plan.result("datasets", "{dataset}"),
        checkpoint=lambda wildcards: plan.checkpoint_of(wildcards.model),
    output:
        directory(plan.result("embeddings", "{model}", "{dataset}")),
    log:
        log_of("embed", "{model}", "{dataset}"),
    benchmark:
        usage_of("embed", "{model}", "{dataset}")
    conda:
        CONDA
    threads: plan.config.embed.threads
    resources:
        mem_mb=grows(16000 if plan.config.preset == "paper" else 4000),
        runtime=grows(240),
        gpu=gpus(plan.config.embed.device),
    params:
        card=lambda wildcards: plan.models[wildcards.model].model_dump(),
        config=plan.config.embed.model_dump(exclude={"threads"}),
        code=lambda wildcards: plan.code(plan.adapter_module(wildcards.model)),
    message:
        "Embedding {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/embed.py"
