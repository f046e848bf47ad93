"""Summarise all metrics tables."""

from sclong.runlog import logged

with logged(snakemake):
    from sclong.config.cards import BenchmarkCard
    from sclong.io.tables import write_tsv
    from sclong.plan.plan import make_plan
    from sclong.report.tables import read_metrics, summarize

    plan = make_plan(snakemake.config)
    cards = {c["name"]: BenchmarkCard(**c) for c in snakemake.params.cards}
    roles = {name: card.role for name, card in plan.models.items()}
    published = {name: card.published_as for name, card in plan.models.items()}
    table = summarize(read_metrics(snakemake.input.metrics), cards, plan.data, roles, published)
    write_tsv(table, snakemake.output[0])
