"""Summarise all metrics tables."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard
    from sclong.io.tables import write_tsv
    from sclong.report.tables import read_metrics, summarize

    cards = {card["name"]: BenchmarkCard(**card) for card in snakemake.params.cards}
    data = {name: DataSpec(**spec) for name, spec in snakemake.params.data.items()}
    models = [ModelCard(**card) for card in snakemake.params.models]
    roles = {card.name: card.role for card in models}
    published = {card.name: card.published_as for card in models}
    write_tsv(summarize(read_metrics(snakemake.input.metrics), cards, data, roles, published), snakemake.output[0])
