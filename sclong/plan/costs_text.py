"""Costs of a run, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sclong.errors import listing
from sclong.plan.by_benchmark import BenchmarkPlan
from sclong.plan.costs import Costs


def as_json(costs: Costs) -> str:
    """Return everything as JSON; unknown figures are null."""
    return json.dumps(asdict(costs), indent=2)


def _text(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.{digits}f}" if value >= 0.05 or not value else "< 0.1"


def _size(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    if unit != "bytes":
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f} {unit}".strip()
    for name, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:,.1f} {name}"
    return f"{value:,.0f} bytes"


def as_table(costs: Costs) -> str:
    """Return everything as two tables for people, and notes."""
    header = ["kind of job", "jobs", "threads", "memory GB", "limit h", "nodes", "GPUs", "CPU-hours", "GPU-hours"]
    rows: list[list[Any]] = [
        [
            r.kind,
            str(r.jobs),
            str(r.threads),
            _text(r.mem_gb),
            _text(r.limit_h),
            str(r.nodes),
            str(r.gpus),
            _text(r.cpu_hours),
            _text(r.gpu_hours, 0) if r.gpus or r.gpu_hours is not None else "-",
        ]
        for r in costs.rules
    ]
    if any(r.partition for r in costs.rules):
        header.append("partition")
        rows = [[*row, r.partition or "-"] for row, r in zip(rows, costs.rules, strict=True)]
    header.append("rests on")
    rows = [[*row, r.rests_on] for row, r in zip(rows, costs.rules, strict=True)]
    figures = [[f.name, _size(f.value, f.unit), f.rests_on] for f in costs.figures]
    lines = [f"preset {costs.preset}, results in {costs.results_dir}/; requests are those of a first attempt", ""]
    lines += [*_columns([header, *rows]), "", *_columns([["of the whole run", "", "rests on"], *figures])]
    if costs.benchmarks:
        lines += ["", *_benchmarks(costs.benchmarks)]
    return "\n".join([*lines, *(["", *(f"note: {note}" for note in costs.notes)] if costs.notes else [])])


def _benchmarks(found: Sequence[BenchmarkPlan]) -> list[str]:
    """Return a table of benchmarks that run, then reasons for rows and benchmarks that do not."""
    table = [["benchmark", "data", "rows", "predictions", "rows not run", "files", "to fetch"]]
    for b in found:
        if b.why:
            continue
        lost = sum(len(models) for models in b.not_run.values())
        size = _size(b.bytes, "bytes") + (f" and {b.unknown_sizes} of unknown size" if b.unknown_sizes else "")
        table.append([b.benchmark, b.dataset, str(b.models), str(b.predictions), str(lost), str(b.files), size])
    reasons: dict[str, set[str]] = {}
    for b in found:
        for why, models in b.not_run.items():
            reasons.setdefault(why, set()).update(models)
    lines = _columns(table)
    if reasons:
        lines += ["", "rows that do not run (on some benchmark), by reason"]
        lines += [f"  {why}: {listing(sorted(models), 4)}" for why, models in sorted(reasons.items())]
    gone = [b for b in found if b.why]
    if gone:
        lines += ["", "benchmarks that do not run", *(f"  {b.benchmark}: {b.why[:200]}" for b in gone)]
    return lines


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = {0, len(widths) - 1}
    return [
        "  ".join(
            f"{c:<{w}}" if i in left else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
