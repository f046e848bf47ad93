"""Pretrain by masked reconstruction; a killed job finds its checkpoints and goes on."""

from sclong.runlog import logged

with logged(snakemake):
    import torch

    from sclong.config_sections import Architecture, PretrainConfig
    from sclong.data.vocabulary import Vocabulary
    from sclong.io.shards import ShardStore
    from sclong.train.loop import pretrain

    torch.set_num_threads(snakemake.threads)
    pretrain(
        ShardStore(snakemake.input.shards),
        Vocabulary.read(snakemake.input.vocabulary),
        snakemake.input.graph,
        Architecture(**snakemake.params.architecture),
        PretrainConfig(**snakemake.params.config),
        snakemake.params.work_dir,
        snakemake.output.checkpoint,
        snakemake.input.gene2vec,
    )
