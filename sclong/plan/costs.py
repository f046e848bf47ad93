"""What a plan costs: jobs, processor and GPU hours, memory, bytes to fetch, disk. Every figure says what it rests on.

A figure is counted, measured (docs/scale.md) and multiplied, or arithmetic from an assumption that is named; where none
of these is to be had it is unknown.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sclong.io.sources import availability
from sclong.io.tables import read_tsv
from sclong.plan.by_benchmark import BenchmarkPlan, by_benchmark
from sclong.plan.jobs import Job
from sclong.plan.plan import Plan
from sclong.plan.training import MFU, gpu_hours, is_training, peak_flops, products, training_figures, training_notes

RELEASE_CELLS = {
    "2023-12-15": 36_227_903,
    "2024-07-01": 44_265_932,
    "2025-01-30": 65_601_657,
    "2025-11-08": 99_633_637,
}
"""Primary human cells ("unique cells") of the long-term releases of the Census, by its own list of releases."""
CPU_S_PER_MILLION = {"census_part": 183, "find_overlap": 324, "shards": 3, "corpus_summary": 28}
SHARED_BY_JOBS = ("census_part", "shards", "corpus_summary")
CENSUS_BYTES_PER_CELL = 5_500
SHARD_BYTES_PER_CELL = 9_800
"""docs/scale.md: measured rates and sizes."""


@dataclass(frozen=True)
class Attempts:
    """How a profile starts a failed job again.

    Attributes
    ----------
    retries
        How often.
    table
        What it asks for, rule by rule, instead of what stands beside the rule (``set-resources``).
    """

    retries: int = 0
    table: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def asked(self, job: Job, attempt: int) -> Job:
        """Return what a job asks for at an attempt: by the table, else that many times what it asked for at first."""
        said, out = self.table.get(job.rule, {}), {"mem_mb": job.mem_mb, "runtime": job.runtime_min}
        for name, first in out.items():
            out[name] = first and attempt * first
            with contextlib.suppress(Exception):  # not there, or of things that only Snakemake knows
                out[name] = int(eval(str(said[name]), {"attempt": attempt}))
        return dataclasses.replace(job, mem_mb=out["mem_mb"], runtime_min=out["runtime"])

    def all_of(self, job: Job) -> list[Job]:
        """Return what a job asks for, attempt by attempt."""
        return [self.asked(job, attempt) for attempt in range(1, self.retries + 2)]


@dataclass(frozen=True)
class RuleCost:
    """Jobs of one kind of rule: how many, and the largest request and the summed hours among them.

    ``cpu_hours`` and ``gpu_hours`` are None where unknown; ``rests_on`` says where they come from.
    """

    kind: str
    jobs: int
    threads: int
    mem_gb: float | None
    limit_h: float | None
    nodes: int
    gpus: int
    partition: str | None
    cpu_hours: float | None
    gpu_hours: float | None
    rests_on: str


@dataclass(frozen=True)
class Figure:
    """One number about the whole run; None: unknown."""

    name: str
    value: float | None
    unit: str
    rests_on: str


@dataclass(frozen=True)
class Costs:
    """All that ``sclong plan`` prints.

    Attributes
    ----------
    preset, results_dir
        Of what.
    rules, figures
        Rows of the two tables.
    notes
        What should be looked at before the run is started.
    benchmarks
        What each benchmark consists of.
    """

    preset: str
    results_dir: str
    rules: list[RuleCost]
    figures: list[Figure]
    notes: list[str]
    benchmarks: list[BenchmarkPlan] = field(default_factory=list)

    def figure(self, name: str) -> Figure:
        """Return a figure by its name."""
        return next(figure for figure in self.figures if figure.name == name)


def kind_of(rule: str, plan: Plan) -> str:
    """Return the kind of a rule: those made from cards are named by their verb."""
    if rule.startswith("score_") and rule.removeprefix("score_") in plan.blocked:
        return "blocked benchmark"
    verb, _, name = rule.partition("_")
    known: dict[str, Container[str]] = {
        "prepare": plan.datasets,
        **dict.fromkeys(("split", "predict", "score"), plan.data),
    }
    return verb if name in known.get(verb, ()) else rule


def cells_of_corpus(plan: Plan) -> tuple[int | None, str]:
    """Return the number of cells of the corpus, and how it is known."""
    manifest = Path(plan.paths.result("corpus", "manifest.tsv"))
    if manifest.is_file():
        return int(read_tsv(manifest)["cells_kept"].astype(float).sum()), f"counted in {manifest}"
    census = plan.config.corpus.census
    if census is None:
        return None, f"not counted yet: snakemake {manifest} counts"
    if census.tissues is not None or census.value_filter != "is_primary_data == True" or plan.corpus.sources:
        return None, "a part of the Census, or more than it; not counted yet"
    known = RELEASE_CELLS.get(census.version)
    if known is None:
        return None, f"release {census.version} is none whose cells docs/census.md lists"
    return known, f"{known:,} primary human cells of release {census.version}, by the Census"


def work_out(plan: Plan, jobs: Sequence[Job], attempts: Attempts | None = None) -> Costs:
    """Work out what jobs of a plan cost.

    Parameters
    ----------
    plan
        The configuration they belong to.
    jobs
        From :func:`sclong.plan.jobs.dry_run`.
    attempts
        How the profile starts a failed job again (:func:`attempts_of`); default: never.
    """
    cells, counted = cells_of_corpus(plan)
    kinds: dict[str, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(kind_of(job.rule, plan), []).append(job)
    rules = [_rule_cost(kind, some, plan, cells) for kind, some in sorted(kinds.items())]
    figures = [
        Figure("jobs", len(jobs), "", "counted by Snakemake's dry run"),
        *_fetching(plan, jobs, cells, counted),
        *_disk(plan, kinds, cells, counted),
        *[Figure(*row) for row in training_figures(plan) if any(map(is_training, kinds))],
    ]
    notes = _notes(plan, kinds, figures, attempts or Attempts())
    return Costs(plan.config.preset, plan.config.results_dir, rules, figures, notes, by_benchmark(plan))


def _rule_cost(kind: str, jobs: Sequence[Job], plan: Plan, cells: int | None) -> RuleCost:
    cpu_hours, gpus_h, rests_on = None, None, ""
    if kind in CPU_S_PER_MILLION and cells is not None:
        times = 1 if kind in SHARED_BY_JOBS else len(jobs)
        if kind == "census_part" and plan.config.corpus.census is not None:
            times = len(jobs) / plan.config.corpus.census.parts  # type: ignore[assignment]
        cpu_hours = CPU_S_PER_MILLION[kind] * cells / 1e6 / 3600 * times
        rests_on = f"{CPU_S_PER_MILLION[kind]} s per million cells, measured on one core"
        rests_on += "; without the network" if kind == "census_part" else ""
    if is_training(kind) and (gpus_h := gpu_hours(plan, MFU[1])) is not None:
        rests_on = f"assumed: {MFU[1]:.0%} of {peak_flops(plan) / 1e12:.0f} TFLOP/s ({products(plan)}); not measured"
    memory = [job.mem_mb for job in jobs if job.mem_mb is not None]
    limits = [job.runtime_min for job in jobs if job.runtime_min is not None]
    largest = max(jobs, key=lambda job: job.gpus)
    return RuleCost(
        kind,
        len(jobs),
        max(job.threads for job in jobs),
        max(memory) / 1000 if memory else None,
        max(limits) / 60 if limits else None,
        max(job.nodes for job in jobs),
        largest.gpus,
        largest.partition,
        cpu_hours,
        gpus_h,
        rests_on,
    )


def _fetching(plan: Plan, jobs: Sequence[Job], cells: int | None, counted: str) -> list[Figure]:
    """Return bytes that come over the network, and from a mirror folder."""
    below = plan.paths.fetched("sources") + "/"
    keys = [path.removeprefix(below) for job in jobs if job.rule == "fetch" for path in job.outputs]
    status = availability(keys, plan.sources, plan.config.data_dir, plan.config.mirror, plan.config.offline)
    size = {
        wanted: sum(plan.sources[key].known_bytes or 0 for key, state in status.items() if state == wanted)
        for wanted in ("fetchable", "mirror")
    }
    unknown = sum(plan.sources[key].known_bytes is None for key, state in status.items() if state != "here")
    rows = f"sizes of {len(keys)} rows of config/sources.tsv"
    rows += f"; {unknown} of them have no published size and count 0" if unknown else ""
    out = [
        Figure("files to fetch over the network", size["fetchable"], "bytes", rows),
        Figure("files to copy from the mirror", size["mirror"], "bytes", rows),
    ]
    if any(job.rule == "census_part" for job in jobs):
        value = None if cells is None else cells * CENSUS_BYTES_PER_CELL
        out.append(Figure("Census to read", value, "bytes", f"{CENSUS_BYTES_PER_CELL} per cell, measured; {counted}"))
    return out


def _disk(plan: Plan, kinds: dict[str, list[Job]], cells: int | None, counted: str) -> list[Figure]:
    out = []
    if "shards" in kinds:
        value = None if cells is None else cells * SHARD_BYTES_PER_CELL
        out.append(
            Figure("disk of the corpus", value, "bytes", f"{SHARD_BYTES_PER_CELL} per cell, measured; {counted}")
        )
    size = plan.config.vocabulary.size
    trainings = sum(map(is_training, kinds))
    if trainings and size is not None:
        from sclong.train.memory import count_parameters

        parameters, kept = count_parameters(plan.architecture, size).total, plan.config.pretrain.keep_checkpoints + 1
        out.append(
            Figure(
                "disk of checkpoints",
                trainings * 12 * parameters * kept + (trainings + 1) * 4 * parameters,
                "bytes",
                f"{parameters:,} parameters: 12 bytes in each of {kept} training checkpoints (one is being written) of "
                f"{trainings} training(s), 4 in each trained model and in the untrained one",
            )
        )
    out.append(Figure("disk of predictions and embeddings", None, "bytes", "not measured"))
    return out


def _notes(plan: Plan, kinds: dict[str, list[Job]], figures: Sequence[Figure], attempts: Attempts) -> list[str]:
    out = []
    if plan.blocked:
        out.append(
            f"the run refuses to start: files of {', '.join(plan.blocked)} are not here (snakemake lists them); put "
            f"them there, or choose: 'benchmarks=[{','.join(plan.data)}]'"
        )
    if plan.skipped:
        out.append(f"left out, as there are no files for this preset: {', '.join(plan.skipped)}")
    if plan.corpus.not_excluded:
        names = ", ".join(plan.corpus.not_excluded)
        paper = plan.config.preset == "paper"
        out.append(
            f"the training refuses to start: the corpus cannot be audited against {names}, whose files are not here"
            if paper
            else f"their cells stay in the corpus, as files are not here: {names}"
        )
    trainings = [some[0] for kind, some in kinds.items() if is_training(kind)]
    if trainings:
        values = {figure.name: figure.value for figure in figures}
        said = attempts.table.get(trainings[0].rule, {}).get("slurm_extra")
        limits = [job.runtime_min for job in attempts.all_of(trainings[0])]
        out += training_notes(plan, values, limits, None if said is None else str(said))
    return out


def attempts_of(profile: str | None, root: Path = Path(".")) -> Attempts:
    """Return how a profile of this repository starts failed jobs again; never where it says nothing.

    The profile is read as Snakemake reads it: with the expressions in it, which look at this program's command line.
    """
    for folder in (Path(profile), Path("profiles") / profile) if profile else ():
        if (root / folder / "config.yaml").is_file():
            import yte

            with contextlib.chdir(root):
                said = yte.process_yaml((folder / "config.yaml").read_text(), require_use_yte=True)
            return Attempts(int(said.get("retries", 0)), said.get("set-resources", {}))
    return Attempts()
