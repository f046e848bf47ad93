"""Step into the script of a rule: ``sclong debug TARGET`` opens a Python prompt with the job's ``snakemake`` object."""

from __future__ import annotations

import code
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sclong.errors import InputDataError, listing, nearest
from sclong.plan.jobs import user_config


@dataclass(frozen=True)
class Step:
    """One job of the workflow, which is not run.

    Attributes
    ----------
    rule
        Name of its rule.
    script
        Path of the rule's script.
    snakemake
        What the script finds under the name ``snakemake``: input, output, params, wildcards, log, threads, resources.
    """

    rule: str
    script: Path
    snakemake: Any


def find_step(target: str, settings: Sequence[str], snakefile: Path = Path("Snakefile")) -> Step:
    """Return the job that makes a file; nothing is run, and no file is touched.

    Parameters
    ----------
    target
        A file that a rule makes ("results/norman_metrics.tsv").
    settings
        "KEY=VALUE", as of Snakemake's ``--config``.
    snakefile
        Of the workflow.

    Raises
    ------
    InputDataError
        The folder has no workflow, no rule with a script makes the file, or the rule's inputs cannot be worked out.
    """
    if not snakefile.is_file():
        raise InputDataError(f"no {snakefile} in {Path.cwd()}", "a clone of sclong", "change to its folder")
    workflow = _workflow(settings, snakefile)
    rules = [rule for rule in workflow.rules if rule.is_producer(target)]
    if not rules:
        known = sorted({str(output) for rule in workflow.rules for output in rule.output if "{" not in str(output)})
        like = nearest(target, known)
        raise InputDataError(
            f"no rule makes {target!r}",
            f"a file of the workflow, such as {listing(known)}",
            f"sclong debug {like[0]}" if like else "name a file that `snakemake -n all` lists",
        )
    rule = max(rules)
    if rule.script is None:
        raise InputDataError(
            f"rule {rule.name!r}, which makes {target!r}, has no script", "a rule with a script", "none"
        )
    job = _job(workflow, rule, rule.get_wildcards(target))
    script = Path(snakefile).parent / "workflow" / "rules" / rule.script
    return Step(rule.name, script.resolve(), _as_script_sees_it(job, rule, script))


def _workflow(settings: Sequence[str], snakefile: Path) -> Any:
    """Read the rules as Snakemake does, with a configuration."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        opened = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=user_config(list(settings))),
            snakefile=snakefile,
        )
        workflow = opened._workflow  # the interface has no way to a single job
        workflow.dag_settings = DAGSettings(rerun_triggers=frozenset())
        return workflow


def _job(workflow: Any, rule: Any, wildcards: Mapping[str, str]) -> Any:
    from snakemake.dag import DAG
    from snakemake.jobs import Job

    return Job(rule, DAG(workflow, rules=[rule]), wildcards_dict=dict(wildcards))


def _as_script_sees_it(job: Any, rule: Any, script: Path) -> Any:
    from snakemake.iocontainers import Snakemake

    return Snakemake(
        job.input,
        job.output,
        job.params,
        job.wildcards,
        job.threads,
        job.resources,
        job.log,
        job.dag.workflow.config,
        rule.name,
        None,
        str(script.parent),
    )


def debug(target: str, settings: Sequence[str]) -> None:
    """Open a Python prompt in which ``snakemake`` is the job's object and ``run()`` runs its script.

    Parameters
    ----------
    target, settings
        See :func:`find_step`.
    """
    step = find_step(target, settings)
    run: Callable[[], Any] = lambda: runpy.run_path(str(step.script), init_globals={"snakemake": step.snakemake})  # noqa: E731
    banner = (
        f"rule {step.rule}: {step.script}\n"
        "snakemake is the object that the script finds; run() runs the script (import pdb; pdb.runcall(run) steps "
        "through it)"
    )
    code.interact(banner=banner, local={"snakemake": step.snakemake, "step": step, "run": run}, exitmsg="")
    sys.stdout.flush()
