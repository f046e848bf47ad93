# Rules are made from the cards: a benchmark is a file in config/benchmarks, a model a file in config/models.
for dataset, (card, spec) in plan.datasets.items():

    rule:
        name:
            f"prepare_{dataset}"
        input:
            **{role: plan.paths.paths(value) for role, value in spec.inputs.items()},
        output:
            directory(result("datasets", dataset)),
        log:
            log_of("prepare", dataset),
        benchmark:
            usage_of("prepare", dataset)
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=grows(4000),
            runtime=grows(60),
        params:
            task=card.task,
            dataset=dataset,
            options=spec.options,
            code=code_of("prepare", load_task(card.task).module("prepare")),
        message:
            f"Preparing data set {dataset}"
        script:
            "../scripts/prepare.py"


for name, spec in plan.data.items():

    rule:
        name:
            f"split_{name}"
        input:
            dataset=result("datasets", spec.dataset),
        output:
            result("splits", f"{name}.tsv"),
        log:
            log_of("split", name),
        benchmark:
            usage_of("split", name)
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=grows(2000),
            runtime=grows(30),
        params:
            task=plan.benchmarks[name].task,
            policy=[spec.split, spec.split_options, plan.benchmarks[name].split_seed],
            folds=plan.config.folds,
            code=code_of("split", plan.rows.task_of(name).module("split")),
        message:
            f"Splitting {name}: {spec.split}"
        script:
            "../scripts/split.py"

    rule:
        name:
            f"predict_{name}"
        input:
            dataset=result("datasets", spec.dataset),
            split=result("splits", f"{name}.tsv"),
            features=plan.rows.features_of(name),
        output:
            result("predictions", name, "{model}", "seed{seed}.npz"),
        log:
            log_of("predict", name, "{model}", "seed{seed}"),
        benchmark:
            usage_of("predict", name, "{model}", "seed{seed}")
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: int(1000 * plan.models[wildcards.model].mem_gb * attempt),
            runtime=lambda wildcards, attempt: int(60 * plan.models[wildcards.model].hours * attempt),
            gpu=lambda wildcards: gpus_of(plan.models[wildcards.model]),
        params:
            task=plan.benchmarks[name].task,
            recipe=lambda wildcards: plan.rows.recipe_of(wildcards.model),
            native=is_native(name),
            code=code_of_prediction(name),
        message:
            f"Predicting {name} with {{wildcards.model}}, seed {{wildcards.seed}}"
        script:
            "../scripts/predict.py"

    rule:
        name:
            f"score_{name}"
        input:
            dataset=result("datasets", spec.dataset),
            split=result("splits", f"{name}.tsv"),
            predictions=plan.rows.predictions(name),
        output:
            metrics=report(
                result(f"{name}_metrics.tsv"),
                category="Benchmarks",
                caption="../report/metrics.rst",
                labels={"benchmark": name},
            ),
            units=result("scores", f"{name}.tsv"),
        log:
            log_of("score", name),
        benchmark:
            usage_of("score", name)
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=grows(4000),
            runtime=grows(60),
        params:
            scored=dict(
                benchmark=name,
                task=plan.benchmarks[name].task,
                dataset=spec.dataset,
                version=plan.benchmarks[name].version,
                unpinned=plan.unpinned_inputs(name),
            ),
            protocols={m: plan.models[m].protocol for m in plan.rows.models_of(name)},
            code=code_of("score", plan.rows.task_of(name).module("score")),
        message:
            f"Scoring {name}"
        script:
            "../scripts/score.py"


for name in plan.blocked:

    rule:
        name:
            f"score_{name}"
        output:
            result(f"{name}_metrics.tsv"),
        log:
            log_of("score", name),
        benchmark:
            usage_of("score", name)
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=100,
            runtime=1,
        params:
            missing=plan.blocked[name],
        message:
            f"{name} cannot run: its files are not here"
        script:
            "../scripts/blocked.py"
