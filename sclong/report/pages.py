"""Pages of results: one Markdown page per benchmark of a results folder, with the origin of every row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from sclong.errors import InputDataError
from sclong.io.files import read_json, write_text
from sclong.io.tables import read_tsv
from sclong.plan.plan import Plan, make_plan
from sclong.report.tables import read_metrics, summarize

KEPT_COLUMNS = ("model", "role", "protocol", "seeds", "scenario", "metric", "mean", "low", "high", "seconds", "origin")
"""Columns of a table of kept rows, ``kept/<benchmark>.tsv``: results of an earlier tree, with their origin."""


def render_pages(results: Path, out: Path) -> list[Path]:
    """Write a page for each benchmark whose table a results folder holds.

    Parameters
    ----------
    results
        Results folder of a run: ``<benchmark>_metrics.tsv``, ``config.json``, ``logs/``.
    out
        Folder of the pages. Rows of ``out/kept/<benchmark>.tsv`` (:data:`KEPT_COLUMNS`) stand below those of the run.

    Returns
    -------
    list of Path
        The pages that were written.

    Raises
    ------
    InputDataError
        The folder holds no run, or no table.
    """
    if not (results / "config.json").is_file():
        raise InputDataError(
            f"{results} has no config.json", "the results folder of a run", "name the folder that results_dir named"
        )
    plan = make_plan(read_json(results / "config.json"))
    tables = {name: results / f"{name}_metrics.tsv" for name in plan.data}
    found = {name: path for name, path in tables.items() if path.is_file()}
    if not found:
        raise InputDataError(
            f"{results} has no table of metrics", "at least one <benchmark>_metrics.tsv", "run snakemake first"
        )
    roles = {name: card.role for name, card in plan.models.items()}
    published = {name: card.published_as for name, card in plan.models.items()}
    pages = []
    for name, path in found.items():
        metrics = read_metrics([path])
        summary = summarize(metrics, plan.benchmarks, plan.data, roles, published)
        summary = summary[summary["role"] != "published"]
        pages.append(out / f"{name}.md")
        write_text(pages[-1], _page(plan, name, summary, metrics, results, out / "kept" / f"{name}.tsv"))
    return pages


def _page(plan: Plan, benchmark: str, summary: pd.DataFrame, metrics: pd.DataFrame, results: Path, kept: Path) -> str:
    card, spec, preset = plan.benchmarks[benchmark], plan.data[benchmark], plan.config.preset
    settings = f"preset={preset}" + (f" results_dir={results.name}" if results.name != "results" else "")
    lines = [
        f"# {card.title}",
        "",
        f"`snakemake {results.name}/{benchmark}_metrics.tsv --config {settings}`, then `sclong pages {results.name}`. "
        f"Data set `{spec.dataset}`, split `{spec.split}`, card version {card.version}. "
        "Mean over seeds ± half the 95 % interval; empty: not defined.",
        "",
        card.summary.strip(),
        "",
    ]
    for metric, rows in summary.groupby("metric", sort=False):
        lines += _table(str(metric), rows)
    lines += _origins(metrics, results)
    lines += _not_run(plan, benchmark, set(metrics["model"]))
    if kept.is_file():
        lines += _kept(read_tsv(kept, KEPT_COLUMNS, dtype={"scenario": str, "origin": str}))
    return "\n".join(lines).rstrip() + "\n"


def _table(metric: str, rows: pd.DataFrame) -> list[str]:
    """Return one metric: models in rows, scenarios in columns."""
    scenarios = list(dict.fromkeys(rows["scenario"]))
    counts = rows.drop_duplicates("scenario").set_index("scenario")["n"]
    unit = rows["unit_of_uncertainty"].iloc[0]
    heads = [f"{s or 'all'} ({counts[s]} {unit})" for s in scenarios]
    better = "higher" if rows["direction"].iloc[0] == "max" else "lower"
    lines = [f"## {metric} ({better} is better)", "", "| model | role | seeds | " + " | ".join(heads) + " |"]
    lines.append("|---|---|---|" + "---|" * len(heads))
    for model, own in rows.groupby("model", sort=False):
        at = own.set_index("scenario")
        values = [_value(at.loc[s, "mean"], at.loc[s, "ci95_high"]) if s in at.index else "" for s in scenarios]
        role = at["role"].iloc[0] + (", paper's protocol" if at["protocol"].iloc[0] == "paper" else "")
        lines.append(f"| {model} | {role} | {at['seeds'].iloc[0]} | " + " | ".join(values) + " |")
    return [*lines, ""]


def _value(mean: float, high: float) -> str:
    if mean != mean:
        return ""
    return f"{mean:.4g}" + (f" ± {high - mean:.2g}" if high == high else "")


def _origins(metrics: pd.DataFrame, results: Path) -> list[str]:
    """Return where each row comes from: commit, machine and time of its predictions, hashes of code and data."""
    lines = [
        "## Origin of the rows",
        "",
        f"Code of the scores `{metrics['code_hash'].iloc[0]}`, data and split `{metrics['data_hash'].iloc[0]}`.",
        "",
        "| model | seeds | seconds of all seeds | commit | machine |",
        "|---|---|---|---|---|",
    ]
    for (benchmark, model), rows in metrics.groupby(["benchmark", "model"], sort=False):
        seeds = sorted(rows["seed"].unique())
        logs = [results / "logs" / "predict" / benchmark / model / f"seed{seed}.json" for seed in seeds]
        records: list[Mapping[str, object]] = [read_json(log) for log in logs if log.is_file()]
        seconds = sum(float(str(r["seconds"])) for r in records)
        commits, machines = (", ".join(sorted({str(r[key]) for r in records})) for key in ("commit", "machine"))
        known = f"{seconds:.1f}" if len(records) == len(seeds) else "not recorded"
        lines.append(f"| {model} | {', '.join(map(str, seeds))} | {known} | {commits} | {machines} |")
    return [*lines, ""]


def _not_run(plan: Plan, benchmark: str, run: set[str]) -> list[str]:
    """Return the models that apply to the benchmark and have no row."""
    from sclong.config.cards import ModelCard
    from sclong.config.load import all_cards
    from sclong.plan.rows import meets

    cards = all_cards(Path(plan.config.cards_dir) / "models", ModelCard)
    missing = sorted(n for n, card in cards.items() if n not in run and meets(plan.benchmarks[benchmark], card))
    if not missing:
        return []
    return ["## Not run", "", *(f"- `{n}`: {_why(plan, benchmark, n)}" for n in missing), ""]


def _why(plan: Plan, benchmark: str, model: str) -> str:
    if model not in plan.models:
        return "not among the selected `models`"
    return plan.rows.why_not(benchmark, model) or "its predictions are not in this folder"


def _kept(table: pd.DataFrame) -> list[str]:
    """Return the rows that an earlier tree made."""
    lines = ["## Kept rows", "", "Made by earlier trees, not by the run above; the origin says by which, and how.", ""]
    for (metric, origin), rows in table.groupby(["metric", "origin"], sort=False):
        scenarios = list(dict.fromkeys(rows["scenario"].fillna("")))
        lines += [f"### {metric}", "", str(origin), ""]
        lines.append("| model | role | seeds | " + " | ".join(s or "all" for s in scenarios) + " |")
        lines.append("|---|---|---|" + "---|" * len(scenarios))
        for model, own in rows.groupby("model", sort=False):
            at = own.assign(scenario=own["scenario"].fillna("")).set_index("scenario")
            values = [_value(at.loc[s, "mean"], at.loc[s, "high"]) if s in at.index else "" for s in scenarios]
            lines.append(f"| {model} | {at['role'].iloc[0]} | {at['seeds'].iloc[0]} | " + " | ".join(values) + " |")
        lines.append("")
    return lines
