from sclong.config.sections import NO_EFFECT
from sclong.io.lock import lock_path
from sclong.train.launch import resources as training_resources

# Checkpoints of a training that runs are a side path (params), not outputs: Snakemake deletes the outputs of a job that
# fails. A job that is killed finds them again and goes on.
for checkpoint, settings in plan.trainings.items():

    rule:
        name:
            checkpoint.replace("sclong", "pretrain")
        input:
            shards=rules.shards.output.shards,
            vocabulary=rules.vocabulary.output[0],
            graph=rules.go_graph.output[0],
            gene2vec=rules.gene2vec.output[0],
        output:
            checkpoint=directory(result("checkpoints", checkpoint)),
        log:
            log_of(checkpoint.replace("sclong", "pretrain")),
        benchmark:
            usage_of(checkpoint.replace("sclong", "pretrain"))
        priority: 10
        conda:
            CONDA
        threads: settings.threads * settings.processes
        resources:
            **training_resources(settings),
            mem_mb=grows((4000 if plan.config.preset == "demo" else 16000) * settings.processes),
            runtime=grows(30 if plan.config.preset == "demo" else 1440),
        params:
            work_dir=result("training", checkpoint),
            architecture=plan.architecture.model_dump(),
            config=settings.model_dump(exclude=NO_EFFECT),
            code=code_of("pretrain", TRAINING),
        message:
            f"Pretraining scLong, seed {settings.seed}"
        script:
            "../scripts/pretrain.py"


rule initialise:
    input:
        vocabulary=rules.vocabulary.output[0],
        graph=rules.go_graph.output[0],
        gene2vec=rules.gene2vec.output[0],
    output:
        checkpoint=directory(result("checkpoints", "sclong_random")),
    log:
        log_of("initialise"),
    benchmark:
        usage_of("initialise")
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=grows(16000 if plan.config.preset == "paper" else 4000),
        runtime=grows(20),
    params:
        architecture=plan.architecture.model_dump(),
        seed=plan.config.pretrain.seed,
        code=code_of("initialise"),
    message:
        "Drawing random weights for the untrained control"
    script:
        "../scripts/initialise.py"


if plan.released:

    rule import_released:
        input:
            **plan.released,
        output:
            checkpoint=directory(result("checkpoints", "sclong_released")),
        log:
            log_of("import_released"),
        benchmark:
            usage_of("import_released")
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=grows(16000),
            runtime=grows(60),
        params:
            lock=str(lock_path(f"{plan.config.cards_dir}/sources.tsv")),
            code=code_of("import_released"),
        message:
            "Importing the authors' checkpoint"
        script:
            "../scripts/import_released.py"
