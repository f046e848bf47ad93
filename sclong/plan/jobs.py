"""The jobs that a run would submit, as Snakemake's own dry run finds them.

``python -m sclong.plan.jobs ARGUMENTS`` is that dry run: Snakemake with the same arguments, whose jobs are printed as
JSON. It is a process of its own, since Snakemake cannot be asked twice in one.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sclong.config.cards import load_yaml
from sclong.errors import ConfigError, SclongError

TIME_OUT_S = 600


class DryRunError(SclongError):
    """Snakemake could not say what it would do."""


@dataclass(frozen=True)
class Job:
    """One job that would run.

    Attributes
    ----------
    rule
        Its rule.
    threads, mem_mb, runtime_min, gpus, nodes
        What it asks for at its first attempt; memory per node, GPUs over all nodes. None: nothing is asked for.
    partition, account
        SLURM's, where a profile names them.
    outputs
        Its files.
    """

    rule: str
    threads: int = 1
    mem_mb: int | None = None
    runtime_min: int | None = None
    gpus: int = 0
    nodes: int = 1
    partition: str | None = None
    account: str | None = None
    outputs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DryRun:
    """What Snakemake would do: the configuration as it sees it, profile included, and the jobs."""

    config: dict[str, Any]
    jobs: list[Job]


def job_of(rule: str, threads: int, resources: Mapping[str, Any], outputs: Sequence[str]) -> Job:
    """Make a job of what Snakemake says of it."""
    nodes = int(resources.get("nodes", 1))
    per_node = re.fullmatch(r"gpu:(?:[^:]+:)?(\d+)", str(resources.get("gres", "")))
    number = {key: value if isinstance(value := resources.get(key), int) else None for key in ("mem_mb", "runtime")}
    return Job(
        rule,
        threads,
        number["mem_mb"],
        number["runtime"],
        int(per_node[1]) * nodes if per_node else int(resources.get("gpu", 0)),
        nodes,
        resources.get("slurm_partition"),
        resources.get("slurm_account"),
        list(outputs),
    )


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn ``key=value`` of the command line into a configuration, values as YAML, as Snakemake's ``--config`` does.

    Raises
    ------
    ConfigError
        Not of the form ``key=value``, or a value that is not YAML.
    """
    out: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key):
            raise ConfigError(f"setting {setting!r}", "key=value, as preset=paper", "write it so, in quotes if need be")
        try:
            out[key] = yaml.load(text, yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"setting {setting!r}: {error}", "a value in YAML", "correct it") from None
    return out


def user_config(settings: Sequence[str], root: Path = Path(".")) -> dict[str, Any]:
    """Return the keys of config/config.yaml with those of the command line over them.

    Raises
    ------
    ConfigError, CardError
        A setting or the file cannot be read.
    """
    path = root / "config" / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"no {path}", "the repository's root as the current folder", "cd to it")
    return _laid_over(load_yaml(path), parse_settings(settings))


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _laid_over(out[key], value) if both else value
    return out


def settings_for_results(settings: Sequence[str], root: Path = Path(".")) -> tuple[list[str], str | None]:
    """Add ``results_dir`` where the folder in config.yaml holds another preset and the command line names none.

    Returns
    -------
    tuple
        Settings, and a sentence that says what was added (None: nothing).
    """
    if "results_dir" in parse_settings(settings):
        return list(settings), None
    config = user_config(settings, root)
    folder, preset = config.get("results_dir") or "results", config.get("preset") or "demo"
    path = root / folder / "preset.json"
    if not path.is_file() or (other := json.loads(path.read_text())["preset"]) == preset:
        return list(settings), None
    said = (
        f"{folder}/ holds preset {other}: this plan assumes results_dir=results_{preset}; "
        "pass the same option to snakemake"
    )
    return [*settings, f"results_dir=results_{preset}"], said


def dry_run(
    settings: Sequence[str], profile: str | None = None, targets: Sequence[str] = ("all",), root: Path = Path(".")
) -> DryRun:
    """Ask Snakemake what it would do; nothing is run or written.

    Parameters
    ----------
    settings
        ``key=value``, as of ``--config``.
    profile
        Name or folder of a Snakemake profile.
    targets
        Files or rules.
    root
        Folder of the Snakefile.

    Raises
    ------
    DryRunError
        Snakemake ends with an error, which is passed on.
    """
    command = [sys.executable, "-m", "sclong.plan.jobs", "-n", *targets, "--cores", "4096"]
    command += ["--profile", profile] if profile else []
    command += ["--config", *settings] if settings else []
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TIME_OUT_S)
    except subprocess.TimeoutExpired:
        raise DryRunError(f"the dry run took more than {TIME_OUT_S} s", "an answer", "try snakemake -n all") from None
    if done.returncode:
        said = "\n".join(line for line in (done.stderr + done.stdout).splitlines() if not line.startswith("Using "))
        raise DryRunError(f"the dry run of Snakemake failed:\n{said}", "a list of jobs", "follow what it says")
    answer = json.loads(done.stdout.splitlines()[-1])
    return DryRun(answer["config"], [job_of(**raw) for raw in answer["jobs"]])


def _main(arguments: Sequence[str]) -> int:
    """Be the dry run: print the configuration and the jobs as one line of JSON."""
    from snakemake.cli import main
    from snakemake.logging import logger

    from sclong.plan import plan

    make_plan = plan.make_plan
    config: dict[str, Any] = {}
    jobs: dict[int, dict[str, Any]] = {}

    def remember(user: dict[str, Any], *rest: Any) -> plan.Plan:
        config.update(user)
        return make_plan(user, *rest)

    plan.make_plan = remember  # type: ignore[assignment]  # the Snakefile calls it with all that was laid over

    def listen(record: logging.LogRecord) -> bool:
        said: Any = record
        event = getattr(record, "event", None)
        if str(getattr(event, "value", event)) == "job_info" and said.rule_name != "all":
            resources = {key: value for key, value in said.resources.items() if isinstance(value, int | str)}
            outputs = [str(path) for path in said.output]
            jobs[said.jobid] = dict(rule=said.rule_name, threads=said.threads, resources=resources, outputs=outputs)
        return record.levelno >= logging.ERROR

    logger.addFilter(listen)
    try:
        main(list(arguments))
    except SystemExit as end:
        if end.code:
            return int(end.code)
    print(json.dumps({"config": config, "jobs": list(jobs.values())}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
