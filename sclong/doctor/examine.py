"""Run all checks; none of them can end the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sclong.doctor.census import check_census
from sclong.doctor.findings import Case, Check, Finding, Tools
from sclong.doctor.machine import check_disk, check_file_system, check_gpus, check_packages
from sclong.doctor.network import check_hashes, check_mirror
from sclong.doctor.slurm import check_slurm, profile_partitions
from sclong.plan.costs import Costs, attempts_of
from sclong.plan.jobs import Job
from sclong.plan.plan import Plan

CHECKS: dict[str, Check] = {
    "packages": check_packages,
    "GPUs": check_gpus,
    "disk": check_disk,
    "write": check_file_system,
    "network": check_mirror,
    "hashes": check_hashes,
    "Census": check_census,
    "SLURM": check_slurm,
}


def diagnose(
    plan: Plan,
    jobs: Sequence[Job],
    costs: Costs,
    profile: str | None = None,
    tools: Tools | None = None,
    environment: dict[str, str] | None = None,
    root: Path = Path("."),
) -> list[Finding]:
    """Compare this machine with what a plan asks for. Nothing raises: a check that fails is a finding.

    Parameters
    ----------
    plan, jobs, costs
        The configuration, what would be submitted (:func:`sclong.plan.jobs.dry_run`), what it costs
        (:func:`sclong.plan.costs.work_out`).
    profile
        The Snakemake profile, whose partitions are looked at.
    tools, environment
        The outside world; default: the real one.
    root
        Folder of the repository.
    """
    case = Case(
        plan,
        jobs,
        costs,
        tools or Tools(),
        dict(os.environ) if environment is None else environment,
        profile_partitions(profile, root),
        root,
        attempts_of(profile, root),
    )
    out = []
    for name, check in CHECKS.items():
        try:
            out += check(case)
        except Exception as error:  # one check must not hide the others
            out.append(
                Finding(
                    name,
                    "error",
                    f"the check failed: {type(error).__name__}: {error}",
                    "a check that ends",
                    "look at it by hand, and report this line",
                )
            )
    return out


def as_text(findings: Sequence[Finding]) -> str:
    """Return findings as lines, and how many of each level there are."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.check}: {finding.found}")
        if finding.level != "ok":
            lines += [f"           expected:   {finding.expected}", f"           what to do: {finding.action}"]
    count = {level: sum(f.level == level for f in findings) for level in ("ok", "warning", "error")}
    return "\n".join([*lines, "", ", ".join(f"{n} {level}" for level, n in count.items())])
