rule embed:
    input:
        dataset=result("datasets", "{dataset}"),
        checkpoint=lambda wildcards: plan.rows.checkpoint_of(wildcards.model),
    output:
        directory(result("embeddings", "{model}", "{dataset}")),
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
        recipe=lambda wildcards: plan.rows.recipe_of(wildcards.model),
        batch_size=plan.config.embed.batch_size,
        device=plan.config.embed.device,
        code=lambda wildcards: code_of("embed", plan.models[wildcards.model].adapter),
    message:
        "Embedding {wildcards.dataset} with {wildcards.model}"
    script:
        "../scripts/embed.py"
