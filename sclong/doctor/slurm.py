"""Checks of SLURM: account, partitions, time limits, GPUs, against what the jobs ask for."""

from __future__ import annotations

import getpass
import math
import re
from dataclasses import dataclass
from pathlib import Path

from sclong.config.cards import load_yaml
from sclong.doctor.findings import Case, Finding
from sclong.plan.jobs import Job

SHORTEST_MEMORY_OF_JOBS_S = 240
"""Above the longest interval (180 s) at which the executor asks squeue how jobs ended."""
LOCAL_RULES = {"fetch", "census_list"}
"""Rules that run where Snakemake runs, and are no jobs of SLURM."""


@dataclass(frozen=True)
class Partition:
    """A partition as SLURM shows it: the limits of the best of its nodes."""

    name: str
    up: bool
    minutes: float
    nodes: int
    cpus: int
    memory_mb: int
    gpus: int


def parse_minutes(text: str) -> float:
    """Turn a time of SLURM (``1-00:00:00``, ``30:00``, ``infinite``) or of a profile (``24h``, ``90``) into minutes.

    Examples
    --------
    >>> [parse_minutes(t) for t in ("1-12:00:00", "04:00:00", "30:00", "24h", "90", "infinite")]
    [2160.0, 240.0, 30.0, 1440.0, 90.0, inf]
    """
    text = text.strip()
    if text.lower() in ("infinite", "unlimited", "n/a", ""):
        return math.inf
    if unit := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text):
        return float(unit[1]) * {"s": 1 / 60, "m": 1, "h": 60, "d": 1440, "w": 10080}[unit[2]]
    days, _, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    if days:
        parts += [0.0] * (3 - len(parts))
    elif len(parts) == 2:
        parts = [0.0, *parts]
    elif len(parts) == 1:
        parts = [0.0, parts[0], 0.0]
    hours, minutes, seconds = parts
    return float(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def parse_partitions(text: str) -> dict[str, Partition]:
    """Read ``sinfo -h -o "%P|%a|%l|%D|%c|%m|%G"``; lines of one partition are put together."""
    out: dict[str, Partition] = {}
    for line in text.splitlines():
        cells = line.strip().split("|")
        if len(cells) != 7:
            continue
        name = cells[0].rstrip("*")
        gpus = sum(int(n) for n in re.findall(r"gpu(?::[^:,(]+)?:(\d+)", cells[6]))
        nodes, cpus, memory = (int(re.match(r"\d*", cell)[0] or 0) for cell in cells[3:6])  # type: ignore[index]
        new = Partition(name, cells[1] == "up", parse_minutes(cells[2]), nodes, cpus, memory, gpus)
        old = out.get(name)
        out[name] = (
            new
            if old is None
            else Partition(
                name,
                old.up or new.up,
                max(old.minutes, new.minutes),
                old.nodes + nodes,
                max(old.cpus, cpus),
                max(old.memory_mb, memory),
                max(old.gpus, gpus),
            )
        )
    return out


def profile_partitions(profile: str | None, root: Path = Path(".")) -> dict[str, dict[str, object]]:
    """Return the partitions of a profile's ``slurm-partition-config`` and their limits; none where it names no file."""
    for folder in (root / profile, root / "profiles" / profile) if profile else ():
        path = folder / "config.yaml"
        named = re.search(r"^slurm-partition-config:\s*(\S+)", path.read_text(), re.M) if path.is_file() else None
        if named:
            return dict(load_yaml(root / named[1]).get("partitions", {}))
    return {}


def misfit(job: Job, partition: Partition) -> str:
    """Say why a job does not fit a partition; empty: it fits."""
    per_node = math.ceil(job.gpus / job.nodes)
    reasons = [
        (job.runtime_min or 0) > partition.minutes and f"{job.runtime_min} min of {partition.minutes:.0f}",
        (job.mem_mb or 0) > partition.memory_mb and f"{job.mem_mb} MB of {partition.memory_mb} per node",
        job.threads > partition.cpus and f"{job.threads} cores of {partition.cpus} per node",
        per_node > partition.gpus and f"{per_node} GPUs of {partition.gpus} per node",
        job.nodes > partition.nodes and f"{job.nodes} nodes of {partition.nodes}",
    ]
    return ", ".join(reason for reason in reasons if reason)


def check_slurm(case: Case) -> list[Finding]:
    """Compare what jobs ask for with the cluster's partitions, limits and accounts."""
    if not case.slurm:
        return [Finding("SLURM", "ok", "no SLURM here: jobs run on this machine")]
    ping = case.tools.run(["scontrol", "ping"])
    if not ping.good or "UP" not in ping.out:
        return [
            Finding(
                "SLURM",
                "error",
                f"scontrol ping: {(ping.out or ping.err).strip()}",
                "a controller that is up",
                "ask again later, or ask the cluster's administrators",
            )
        ]
    there = parse_partitions(case.tools.run(["sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G"]).out)
    found = ", ".join(f"{p.name} ({p.nodes} nodes, {_hours(p.minutes)}, {p.gpus} GPUs)" for p in there.values())
    queue = case.tools.run(["squeue", "-h", "-u", getpass.getuser(), "-o", "%T"])
    mine = f"; {len(queue.out.split())} jobs of yours in the queue" if queue.good else ""
    out = [Finding("SLURM", "ok", f"controller up; partitions {found}{mine}")]
    return [
        *out,
        *_partitions(case, there),
        *_fits(case, there),
        *_account(case),
        *_longest_of_account(case),
        *_settings(case),
    ]


def _submitted(case: Case) -> list[Job]:
    return [job for job in case.jobs if job.rule not in LOCAL_RULES]


def _hours(minutes: float) -> str:
    return "no limit" if math.isinf(minutes) else f"{minutes / 60:g} h"


def _partitions(case: Case, there: dict[str, Partition]) -> list[Finding]:
    """Compare the partitions that the profile names with those that are there."""
    out = []
    names = {*case.partitions, *(job.partition for job in case.jobs if job.partition)}
    for name in sorted(names):
        if name not in there or not there[name].up:
            state = "is down" if name in there else "does not exist"
            out.append(
                Finding(
                    "partition",
                    "error",
                    f"partition {name} {state}",
                    f"one of {', '.join(sorted(there))}",
                    "correct the lines marked EDIT in profiles/slurm",
                )
            )
            continue
        said, real = case.partitions.get(name, {}), there[name]
        limits = [
            ("max_runtime", parse_minutes(str(said.get("max_runtime", 0))), real.minutes),
            ("max_mem_mb", float(str(said.get("max_mem_mb", 0))), real.memory_mb),
            ("max_threads", float(str(said.get("max_threads", 0))), real.cpus),
            ("max_gpu", float(str(said.get("max_gpu", 0))), real.gpus),
        ]
        over = [f"{key} {said[key]}, is {limit:g}" for key, value, limit in limits if value > limit]
        if over:
            out.append(
                Finding(
                    "partition",
                    "warning",
                    f"{name}: the profile says " + "; ".join(over),
                    "the partition's own limits (minutes, MB, cores, GPUs of a node)",
                    "correct them in profiles/slurm/partitions.yaml (scontrol show partition)",
                )
            )
    return out


def _fits(case: Case, there: dict[str, Partition]) -> list[Finding]:
    """Find the rules whose jobs no partition can take, at their first attempt or at a later one."""
    named = [there[name] for name in case.partitions if name in there] or list(there.values())
    first: dict[str, str] = {}
    later: dict[str, str] = {}
    for job in _submitted(case):
        able = [there[job.partition]] if job.partition in there else named
        for attempt, asked in enumerate(case.attempts.all_of(job), 1):
            if able and all(misfit(asked, partition) for partition in able):
                best = min(able, key=lambda p: misfit(asked, p).count(",") + (p.gpus < asked.gpus))
                said = f"{misfit(asked, best)} in {best.name}"
                if attempt == 1:
                    first.setdefault(job.rule, f"{job.rule}: {said}")
                else:
                    later.setdefault(job.rule, f"{job.rule}, attempt {attempt}: {said}")
                break
    out = [Finding("limits", "ok", "every job's first attempt fits a partition")]
    if first:
        out = [
            Finding(
                "limits",
                "error",
                _some(first),
                "requests within the limits of a partition",
                "name larger partitions in profiles/slurm, or ask for less there (set-resources)",
            )
        ]
    if later:
        out.append(
            Finding(
                "later attempts",
                "warning",
                _some(later),
                "requests that stay within the limits of a partition",
                'cap them in set-resources of the profile, as "min(attempt * 1440, 2880)", or lower its retries',
            )
        )
    return out


def _some(said: dict[str, str]) -> str:
    shown = list(said.values())
    return "; ".join(shown[:6]) + (f"; {len(shown) - 6} more rules" if len(shown) > 6 else "")


def _associations(case: Case) -> list[tuple[str, str, float]] | None:
    """Return account, partition ("": any) and longest job in minutes of each association; None without accounts."""
    user = getpass.getuser()
    said = case.tools.run(["sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account,partition,maxwall"])
    rows = [line.strip().split("|") for line in said.out.splitlines() if line.count("|") >= 2]
    return [(row[0], row[1], parse_minutes(row[2])) for row in rows] if said.good else None


def _account(case: Case) -> list[Finding]:
    user, found = getpass.getuser(), _associations(case)
    if found is None:
        return [Finding("account", "ok", "this SLURM keeps no accounts (no slurmdbd)")]
    accounts = sorted({account for account, _, _ in found})
    wanted = sorted({job.account for job in case.jobs if job.account})
    missing = [name for name in wanted if name not in accounts]
    if missing or not accounts:
        return [
            Finding(
                "account",
                "error",
                f"account {', '.join(missing) or 'none'}; {user} belongs to: {', '.join(accounts) or 'no account'}",
                "an account that may submit",
                "set slurm_account in default-resources of profiles/slurm/config.yaml, or ask for an account",
            )
        ]
    if len(accounts) > 1 and not wanted:
        return [
            Finding(
                "account",
                "warning",
                f"{user} belongs to {', '.join(accounts)}; the profile names none",
                "the account that shall pay",
                "set slurm_account in profiles/slurm/config.yaml",
            )
        ]
    return [Finding("account", "ok", f"account {', '.join(wanted) or accounts[0]}")]


def _longest_of_account(case: Case) -> list[Finding]:
    """Compare times, last attempts included, with the longest that any of the user's associations allows."""
    found = _associations(case) or []
    over: dict[str, str] = {}
    for job in _submitted(case):
        limit = max((minutes for account, _, minutes in found if job.account in (None, account)), default=math.inf)
        for attempt, asked in enumerate(case.attempts.all_of(job), 1):
            if (asked.runtime_min or 0) > limit:
                over.setdefault(job.rule, f"{job.rule}, attempt {attempt}: {asked.runtime_min} min of {limit:.0f}")
                break
    if not over:
        return []
    return [
        Finding(
            "MaxWall",
            "warning",
            _some(over),
            "times within MaxWall of your account (sacctmgr show assoc)",
            "cap them in set-resources of the profile, or ask for a longer limit: such a job waits for ever",
        )
    ]


def _settings(case: Case) -> list[Finding]:
    """Look at settings of the cluster on which Snakemake relies."""
    shown = case.tools.run(["scontrol", "show", "config"])
    out = []
    if shown.good and re.search(r"EnforcePartLimits\s*=\s*NO\b", shown.out):
        out.append(
            Finding(
                "limits of partitions",
                "warning",
                "EnforcePartLimits is NO: a job beyond them waits for ever",
                "a job that no partition can take is refused by sbatch",
                "heed the lines above; scancel what squeue --me shows with a reason like PartitionTimeLimit",
            )
        )
    age = re.search(r"MinJobAge\s*=\s*(\d+)", shown.out)
    if shown.good and age and 0 < int(age[1]) < SHORTEST_MEMORY_OF_JOBS_S:  # 0: never
        kept = "accounting_storage/slurmdbd" in shown.out
        missed = "; sacct, which is asked, shows cancelled jobs as running" if kept else ", and there is no slurmdbd"
        out.append(
            Finding(
                "job states",
                "warning",
                f"finished jobs are forgotten after {age[1]} s{missed}",
                f"MinJobAge of at least {SHORTEST_MEMORY_OF_JOBS_S} s: states are asked every 180 s or more often",
                "ask the administrators to raise it" + kept * "; after scancel of a job, Ctrl-C and start again",
            )
        )
    return out


__all__ = ["Partition", "check_slurm", "misfit", "parse_minutes", "parse_partitions", "profile_partitions"]
