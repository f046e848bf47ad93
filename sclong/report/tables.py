"""The summary: every score with its interval, its floor and ceiling, and the paper's number beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.statistics import mean_interval
from sclong.config.cards import BenchmarkCard, DataSpec, PaperNumber
from sclong.io.tables import read_tsv
from sclong.report.verdict import verdict

KEYS = ["benchmark", "task", "dataset", "protocol", "scenario", "metric", "direction", "model"]
SUMMARY_COLUMNS = [
    "benchmark",
    "task",
    "dataset",
    "protocol",
    "scenario",
    "metric",
    "primary",
    "direction",
    "model",
    "role",
    "seeds",
    "mean",
    "sd",
    "ci95_low",
    "ci95_high",
    "n",
    "unit_of_uncertainty",
    "floor",
    "ceiling",
    "percent_of_range",
    "paper_value",
    "paper_sd",
    "paper_where",
    "delta",
    "verdict",
    "unpinned_inputs",
]
ROLE_ORDER = ["floor", "ceiling", "classical", "ablation", "model", "published"]


def read_metrics(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read and stack metrics tables; an empty scenario stays an empty string."""
    tables = [read_tsv(p, [*KEYS, "seed", "value"], dtype={"scenario": str, "fold": str}) for p in paths]
    table = pd.concat(tables, ignore_index=True)
    table["scenario"] = table["scenario"].fillna("")
    return table


def paper_number(card: BenchmarkCard, model: str, scenario: str, metric: str) -> PaperNumber | None:
    """Find the published number of a model; exact statements of the paper's text go before figures of the preprint.

    A value that is published without a standard deviation gets that of another publication of the same number.
    """
    found = [p for p in card.paper if (p.model.lower(), p.scenario, p.metric) == (model.lower(), scenario, metric)]
    best = min(found, key=lambda p: ("exact", "preprint", "anchor").index(p.mark), default=None)
    spreads = [p.sd for p in found if p.sd is not None]
    return best.model_copy(update={"sd": spreads[0]}) if best and best.sd is None and spreads else best


def summarize(
    metrics: pd.DataFrame,
    cards: Mapping[str, BenchmarkCard],
    data: Mapping[str, DataSpec],
    roles: Mapping[str, str],
    published: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """Summarise tidy scores over seeds.

    Parameters
    ----------
    metrics
        Rows as in ``<benchmark>_metrics.tsv``.
    cards, data
        Benchmark name -> its card, and the data that was used.
    roles
        Model name -> floor, ceiling, classical, ablation or model.
    published
        Model name -> its name among published numbers, where that is another.

    Returns
    -------
    pd.DataFrame
        Columns `SUMMARY_COLUMNS`. ``floor`` is the best mean of the floor controls of that row's metric and scenario
        under the strict protocol, ``ceiling`` the best of the ceilings; ``percent_of_range`` is 0 at the floor and 100
        at the ceiling.
    """
    rows = []
    for key, group in metrics.groupby(KEYS, sort=False, dropna=False):
        row: dict[str, object] = dict(zip(KEYS, key, strict=True))
        mean, sd, low, high = mean_interval(group["value"].to_numpy(float))
        if low == high:  # equal values: no randomness, which is no certainty
            low = high = float("nan")
        row.update(
            role=roles[str(row["model"])],
            primary=cards[str(row["benchmark"])].primary_metric == row["metric"],
            seeds=group["seed"].nunique(),
            mean=mean,
            sd=sd,
            ci95_low=low,
            ci95_high=high,
            n=int(group["n"].iloc[0]),
            unit_of_uncertainty=group["unit_of_uncertainty"].iloc[0],
            unpinned_inputs=group["unpinned_inputs"].iloc[0] if "unpinned_inputs" in group else "",
        )
        rows.append(row)
    out = pd.DataFrame(rows)
    out = _add_range(out)
    names = {model: name or model for model, name in (published or {}).items()}
    papers = [
        paper_number(cards[r.benchmark], names.get(r.model, r.model), r.scenario, r.metric) for r in out.itertuples()
    ]
    out["paper_value"] = [p.value if p else np.nan for p in papers]
    out["paper_sd"] = [p.sd if p and p.sd is not None else np.nan for p in papers]
    out["paper_where"] = [f"{p.where} ({p.mark})" if p else "" for p in papers]
    out["delta"] = out["mean"] - out["paper_value"]
    out["verdict"] = [
        verdict(r.mean, r.ci95_low, r.ci95_high, p, data[r.benchmark], r.direction, r.protocol)
        for r, p in zip(out.itertuples(), papers, strict=True)
    ]
    alone = _published_alone(out, cards, data, names)
    if len(alone):
        out = pd.concat([out.astype({"seeds": "Int64", "n": "Int64"}), alone], ignore_index=True)
    order = out.assign(
        _benchmark=out["benchmark"].map({b: i for i, b in enumerate(cards)}),
        _role=out["role"].map(ROLE_ORDER.index),
    )
    order = order.sort_values(
        ["_benchmark", "primary", "metric", "scenario", "_role", "model"],
        ascending=[True, False, True, True, True, True],
        kind="stable",
    )
    return order[SUMMARY_COLUMNS].reset_index(drop=True)


def _published_alone(
    table: pd.DataFrame, cards: Mapping[str, BenchmarkCard], data: Mapping[str, DataSpec], names: Mapping[str, str]
) -> pd.DataFrame:
    """Return published numbers of models without a row of their own, role "published", own columns empty."""
    rows = []
    for benchmark, own in table.groupby("benchmark", sort=False):
        card, first = cards[str(benchmark)], own.iloc[0]
        here = {names.get(m, m).lower() for m in own["model"]}
        metrics = dict(zip(own["metric"], own["direction"], strict=True))
        keys = dict.fromkeys((p.model, p.scenario, p.metric) for p in card.paper if p.model.lower() not in here)
        for model, scenario, metric in keys:
            number = paper_number(card, model, scenario, metric)
            if number is None or metric not in metrics:
                continue
            spec = data[str(benchmark)]
            why = "" if spec.comparable else f"; not comparable: {spec.why_not_comparable or 'other data'}"
            rows.append(
                {
                    **{key: first[key] for key in ("benchmark", "task", "dataset")},
                    "protocol": "paper",
                    "scenario": scenario,
                    "metric": metric,
                    "primary": card.primary_metric == metric,
                    "direction": metrics[metric],
                    "model": model,
                    "role": "published",
                    "paper_value": number.value,
                    "paper_sd": np.nan if number.sd is None else number.sd,
                    "paper_where": f"{number.where} ({number.mark})",
                    "verdict": f"published; no row of its own here{why}",
                }
            )
    return pd.DataFrame(rows, columns=list(table.columns))


def _add_range(table: pd.DataFrame) -> pd.DataFrame:
    """Add floor, ceiling and percent_of_range; controls are those of the strict protocol."""
    place = ["benchmark", "scenario", "metric"]

    def best(rows: pd.DataFrame) -> float:
        values = rows["mean"].dropna()
        if values.empty:
            return float("nan")
        return float(values.max() if rows["direction"].iloc[0] == "max" else values.min())

    for role in ("floor", "ceiling"):
        chosen = table[(table["role"] == role) & (table["protocol"] == "strict")]
        found = {key: best(rows) for key, rows in chosen.groupby(place, dropna=False)}
        table[role] = [found.get(tuple(key), np.nan) for key in table[place].itertuples(index=False)]
    span = table["ceiling"] - table["floor"]
    table["percent_of_range"] = np.where(span.abs() > 1e-12, 100 * (table["mean"] - table["floor"]) / span, np.nan)
    return table


def pretraining_effect(
    metrics: pd.DataFrame, benchmark: str, metric: str, trained: Sequence[str], untrained: str
) -> pd.DataFrame:
    """Compare pretrained models with the same network untrained, pretraining by pretraining.

    Parameters
    ----------
    metrics
        Rows as in ``<benchmark>_metrics.tsv``.
    benchmark, metric
        What is compared.
    trained
        Models of which each is a pretraining of its own; each counts with its mean over the seeds of heads.
    untrained
        The untrained twin.

    Returns
    -------
    pd.DataFrame
        One row per scenario with scenario, differences (list, one per pretraining; positive: pretraining is better),
        mean, ci95_low, ci95_high (Student's t over pretrainings; NaN for one) and verdict: "better", "worse", or
        "unclear" where pretrainings disagree. Empty where one of the models has no row.
    """
    rows = metrics[(metrics["benchmark"] == benchmark) & (metrics["metric"] == metric)]
    columns = ["scenario", "differences", "mean", "ci95_low", "ci95_high", "verdict"]
    out = []
    for scenario, own in rows.groupby("scenario", sort=False):
        means = own.groupby("model")["value"].mean()
        found = [model for model in trained if model in means.index]
        if untrained not in means.index or not found:
            continue
        sign = 1.0 if own["direction"].iloc[0] == "max" else -1.0
        differences = [sign * float(means[model] - means[untrained]) for model in found]
        mean, _, low, high = mean_interval(np.array(differences))
        agree = {d > 0 for d in differences} if all(differences) else set()
        verdict_ = {frozenset({True}): "better", frozenset({False}): "worse"}.get(frozenset(agree), "unclear")
        out.append((scenario, differences, mean, low, high, verdict_))
    return pd.DataFrame(out, columns=columns)


def primary_table(summary: pd.DataFrame, columns: Sequence[str] = ("mean", "ci95_low", "ci95_high")) -> pd.DataFrame:
    """Return the rows of the primary metrics, for a reader: one line per benchmark, scenario and model."""
    rows = summary[summary["primary"].astype(str).str.lower() == "true"]
    return rows[
        [
            "benchmark",
            "scenario",
            "metric",
            "direction",
            "model",
            "role",
            "seeds",
            *columns,
            "floor",
            "ceiling",
            "percent_of_range",
            "paper_value",
            "verdict",
        ]
    ].reset_index(drop=True)
