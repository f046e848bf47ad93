"""Twice a number: a task with a capability, a metric and a figure that exist nowhere else."""

from __future__ import annotations

from sclong.benchmark.task import Task

TASK = Task(
    name="doubling",
    package=__package__ or "",
    title="Doubling",
    native="doubled_numbers",
    needs=(),
    metrics={"absolute_error": "min"},
    head_draws=False,
    figure="scores",
)
