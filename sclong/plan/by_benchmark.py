"""What each benchmark of a plan consists of: rows that run, rows that do not and why, files to fetch. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from sclong.io.sources import availability
from sclong.plan.availability import addresses_of
from sclong.plan.plan import Plan


@dataclass(frozen=True)
class BenchmarkPlan:
    """One benchmark.

    Attributes
    ----------
    benchmark, dataset
        Names; `dataset` is empty where the benchmark is left out.
    models, predictions
        Rows of its table, and predictions behind them (a row may be predicted with several seeds).
    not_run
        Reason -> models of the task that are no rows for this reason.
    files, bytes, unknown_sizes
        Files of its data that must still be fetched, their published sizes, and how many have none.
    why
        Why the benchmark is left out or blocked; empty where it runs.
    """

    benchmark: str
    dataset: str
    models: int
    predictions: int
    not_run: dict[str, list[str]]
    files: int
    bytes: int
    unknown_sizes: int
    why: str = ""


def by_benchmark(plan: Plan) -> list[BenchmarkPlan]:
    """Return what each selected benchmark consists of, those that run first."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for benchmark, model, why in plan.rows.not_applicable():
        if why.startswith("provides "):  # a model of another task is no row that is lacking
            continue
        reasons.setdefault(benchmark, {}).setdefault(why, []).append(model)
    config, out = plan.config, []
    for benchmark, spec in plan.data.items():
        keys = [a.removeprefix("source:") for a in addresses_of(spec) if a.startswith("source:")]
        state = availability(keys, plan.sources, config.data_dir, config.mirror, config.offline)
        sizes = [plan.sources[key].known_bytes for key, status in state.items() if status != "here"]
        out.append(
            BenchmarkPlan(
                benchmark,
                spec.dataset,
                len(plan.rows.models_of(benchmark)),
                len(plan.rows.predictions(benchmark)),
                reasons.get(benchmark, {}),
                len(sizes),
                sum(size or 0 for size in sizes),
                sizes.count(None),
            )
        )
    left = {**plan.blocked, **plan.skipped}
    return out + [BenchmarkPlan(name, "", 0, 0, {}, 0, 0, 0, " ".join(why.split())) for name, why in left.items()]
