"""The report: one HTML page with every table and picture of a run, readable without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from sclong.io.files import read_json, write_text
from sclong.io.tables import read_tsv
from sclong.provenance import environment
from sclong.report.corpus_figure import corpus_figure
from sclong.report.drawing import Drawing
from sclong.report.figures import ROLE_COLOURS, scores_figure, training_figure
from sclong.report.tables import pretraining_effect, read_metrics

if TYPE_CHECKING:
    from sclong.config.cards import PaperNumber
    from sclong.plan.plan import Plan

TEMPLATE = Path(__file__).with_name("page.html.j2")


def number(value: Any) -> str:
    """Format a number for a reader: four significant digits, nothing for NaN."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def matrix(summary: pd.DataFrame, benchmark: str) -> dict[str, Any]:
    """Arrange a benchmark's scores for a table: models in rows, metric and scenario in columns."""
    rows = summary[summary["benchmark"] == benchmark]
    columns = list(dict.fromkeys(zip(rows["metric"], rows["scenario"], strict=True)))
    cells = {(r.model, r.metric, r.scenario): r for r in rows.itertuples()}
    models = list(dict.fromkeys(zip(rows["role"], rows["model"], strict=True)))
    return {"columns": columns, "models": models, "cells": cells}


def write_page(
    path: str | Path,
    *,
    plan: Plan,
    summary: str | Path,
    metrics: Sequence[str | Path],
    corpus: Mapping[str, str | Path],
    checkpoint: str | Path,
) -> None:
    """Write the report.

    Parameters
    ----------
    path
        HTML file to write.
    plan
        The resolved configuration.
    summary, metrics, checkpoint
        ``summary.tsv``, the metrics tables, the pretrained checkpoint's folder.
    corpus
        Tables of the corpus: ``manifest``, ``cells``, ``genes``, ``leakage``.
    """
    table = read_tsv(summary, dtype={"scenario": str})
    table = table[table["role"] != "published"]  # they stand in a table of their own
    for column in ("scenario", "verdict", "paper_where"):
        table[column] = table[column].fillna("")
    scores = read_metrics(metrics)
    log = pd.read_json(Path(checkpoint) / "training.jsonl", lines=True)
    environment_ = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment_.filters["number"] = number
    template = environment_.from_string(TEMPLATE.read_text(encoding="utf-8"))
    names = [b for b in plan.data if (table["benchmark"] == b).any()]
    html = template.render(
        preset=plan.config.preset,
        simulated=plan.config.preset == "demo",
        benchmarks=[
            {
                "card": plan.benchmarks[name],
                "spec": plan.data[name],
                "figures": figures(plan, table, scores, name),
                "matrix": matrix(table, name),
                "notes": row_notes(plan, name),
                "effect": effect(plan, scores, name),
                "paper": table[(table["benchmark"] == name) & table["paper_value"].notna()].to_dict("records"),
                "unmatched": _unmatched(plan, name),
            }
            for name in names
        ],
        models=plan.models,
        shown=sorted(set(table["model"])),
        untaught=pretrained(plan),
        colours=ROLE_COLOURS,
        not_applicable=plan.rows.not_applicable(),
        skipped=plan.skipped,
        training=training_figure(log),
        held_out=_held_out(log),
        hidden=hidden_values(log),
        manifest=read_tsv(corpus["manifest"], dtype=str).fillna("").to_dict("records"),
        leakage=read_tsv(corpus["leakage"], dtype=str).fillna("").to_dict("records"),
        corpus=corpus_figure(read_tsv(corpus["cells"]), read_tsv(corpus["genes"])),
        checkpoint=read_json(Path(checkpoint) / "config.json"),
        results_dir=plan.config.results_dir,
        environment=environment(),
    )
    write_text(path, html)


def figures(plan: Plan, summary: pd.DataFrame, scores: pd.DataFrame, benchmark: str) -> list[str]:
    """Draw the figures of a benchmark: the standard one, the task's own, or both (see ``Task.figure``)."""
    task = plan.rows.task_of(benchmark)
    standard = [] if task.figure == "scores" else [scores_figure(summary, scores, benchmark)]
    if task.figure is None:
        return standard
    drawing = Drawing(
        card=plan.benchmarks[benchmark],
        models=plan.models,
        summary=summary,
        scores=scores,
        dataset=Path(plan.paths.result("datasets", plan.data[benchmark].dataset)),
        predictions={model: Path(path) for model, path in plan.rows.pictured(benchmark).items()},
    )
    return [*standard, task.function("figure")(drawing)]


def effect(plan: Plan, scores: pd.DataFrame, benchmark: str) -> list[dict[str, Any]]:
    """Return what pretraining changes of the primary metric, scenario by scenario (:func:`.pretraining_effect`)."""
    trained = [name for name in plan.trainings if name in plan.models]
    metric = plan.benchmarks[benchmark].primary_metric
    table = pretraining_effect(scores, benchmark, metric, trained, "sclong_random")
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def row_notes(plan: Plan, benchmark: str) -> dict[str, str]:
    """Return model -> what is to be said beside its row, where the task says something (``row_note``)."""
    task = plan.rows.task_of(benchmark)
    if task.figure != "predictions":
        return {}
    note = task.function("figure", "row_note")
    return {model: note(plan.models[model]) for model in plan.rows.models_of(benchmark)}


def _unmatched(plan: Plan, benchmark: str) -> list[PaperNumber]:
    """Return the published numbers of a benchmark whose model has no row."""
    rows = {(plan.models[m].published_as or m).lower() for m in plan.rows.models_of(benchmark)}
    return [p for p in plan.benchmarks[benchmark].paper if p.model.lower() not in rows]


def pretrained(plan: Plan) -> set[str]:
    """Return the models that read the pretrained checkpoint, themselves or through another model's embedding."""
    own = {name for name, card in plan.models.items() if card.checkpoint == "sclong"}
    return own | {name for name, card in plan.models.items() if card.features_of in own}


def hidden_values(log: pd.DataFrame) -> dict[str, Any] | None:
    """Return the last scores of hidden values on held-out donors, and what they say beside the baselines."""
    if "baseline_low_rank" not in log:
        return None
    last = log.dropna(subset=["held_out_loss_replaced"]).iloc[-1]
    controls = ("gene_mean", "tissue_mean", "low_rank")
    model, errors = last["held_out_loss_replaced"], [last[f"baseline_{name}"] for name in controls]
    beaten = [
        name
        for name, error in zip(("the gene's mean", "the tissue's mean", "the low-rank fit"), errors, strict=True)
        if model < error
    ]
    return {
        "model": model,
        **dict(zip(controls, errors, strict=True)),
        "components": int(last["baseline_low_rank_components"]),
        "low_rank_correlation": last["baseline_low_rank_correlation"],
        "correlation": last["held_out_gene_correlation"],
        "tissue_correlation": last["baseline_tissue_mean_correlation"],
        "verdict": f"better than {' and '.join(beaten)}" if beaten else "better than none of them",
        "warning": ""
        if model < errors[-1]
        else "On held-out donors the pretrained model is no better than a linear low-rank fit: its rows say nothing "
        "about what pretraining can do.",
    }


def _held_out(log: pd.DataFrame) -> tuple[float, float] | None:
    if "held_out_loss" not in log:
        return None
    held = log.dropna(subset=["held_out_loss"])
    return (float(held["held_out_loss"].iloc[0]), float(held["held_out_loss"].iloc[-1])) if len(held) else None
