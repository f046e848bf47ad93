"""Pretrain by masked reconstruction; a killed job finds its checkpoints and goes on."""

from sclong.runlog import logged

with logged(snakemake) as log:
    from sclong.plan.snapshot import plan_of_run
    from sclong.train.launch import launch
    from sclong.train.stop import RETRY, TrainingStoppedError

    settings = plan_of_run(snakemake.config).config.pretrain
    try:
        launch(
            {
                "shards": snakemake.input.shards,
                "vocabulary": snakemake.input.vocabulary,
                "go_graph": snakemake.input.graph,
                "gene2vec": snakemake.input.gene2vec,
                "work_dir": snakemake.params.work_dir,
                "export_dir": snakemake.output.checkpoint,
                "architecture": snakemake.params.architecture,
                "pretrain": {**settings.model_dump(), "seed": snakemake.params.config["seed"], "second_seed": None},
            }
        )
    except TrainingStoppedError as stopped:
        log.warning("%s", stopped)
        raise SystemExit(RETRY) from None
