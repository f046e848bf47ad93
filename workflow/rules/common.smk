import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from sclong.config.load import remember_preset
from sclong.errors import SclongError
from sclong.io.files import write_json
from sclong.benchmark.registry import load_task
from sclong.plan.advice import blocked_error, offline_error, unaudited_error
from sclong.plan.plan import make_plan
from sclong.provenance import code_hash
from sclong.train.identity import ENTRY as TRAINING, check_work_dir, planned_identity

CONDA = "../../envs/sclong.yaml"


def plan_or_explain(user):
    """Build the plan; an error in the configuration ends the run with its three parts, without a traceback."""
    try:
        plan = make_plan(user)
        remember_preset(plan.config)
        return plan
    except SclongError as error:
        raise WorkflowError(str(error)) from None


plan = plan_or_explain(config)
result = plan.paths.result


wildcard_constraints:
    source="[^/]+",
    name="[a-z0-9_]+",
    dataset="[a-z0-9_]+",
    model="[a-z0-9_]+",
    seed=r"\d+",


def code_of(script, *entries):
    """Hash of the meaning of the code behind a job: its script, and what the script finds by name at run time."""
    return code_hash(Path(workflow.basedir, "workflow", "scripts", f"{script}.py"), *entries)


def code_of_prediction(benchmark):
    """A params function: hash of the code behind one prediction of a benchmark."""
    return lambda wildcards: code_of("predict", *plan.rows.code_of_prediction(benchmark, wildcards.model))


def is_native(benchmark):
    """A params function: whether a model predicts a benchmark by itself, not by its embedding."""
    return lambda wildcards: plan.rows.how(benchmark, wildcards.model) == "native"


def figures():
    """Modules that draw the figures of tasks that have one of their own."""
    tasks = [plan.rows.task_of(benchmark) for benchmark in plan.data]
    return sorted({task.module("figure") for task in tasks if task.figure})


def log_of(*parts):
    """Path of a rule's log."""
    return result("logs", *parts) + ".log"


def usage_of(*parts):
    """Path of a rule's benchmark file: time and memory used."""
    return result("usage", *parts) + ".tsv"


def grows(amount):
    """A resource that grows with every attempt."""
    return lambda wildcards, attempt: int(amount * attempt)


def gpus(device):
    """Number of GPUs a job asks for."""
    return 1 if device == "cuda" else 0


def gpus_of(model):
    """Number of GPUs that a model's own training asks for: one, where its card and its options both say so."""
    return gpus(model.options.get("device")) if model.device == "gpu" else 0


def refuse_another_training():
    """Before any output is removed: no training folder may hold another training than the one that is planned."""
    try:
        for checkpoint, settings in plan.trainings.items():
            check_work_dir(Path(result("training", checkpoint)), planned_identity(plan.architecture, settings))
    except SclongError as error:
        raise WorkflowError(str(error)) from None


def check_before_start():
    """Before the first job: refuse what cannot end well, say what is left out, remember the preset."""
    jobs = list(workflow.dag.needrun_jobs())
    blocked = sorted({job.rule.name.removeprefix("score_") for job in jobs} & set(plan.blocked))
    if blocked:
        raise WorkflowError(str(blocked_error(plan, blocked)))
    fetched = sorted(str(f) for job in jobs if job.rule.name in ("fetch",) for f in job.output)
    lost = [f for f in fetched if plan.files.lost_path(f)]
    if any(job.rule.name.startswith("pretrain") for job in jobs):
        refuse_another_training()
    corpus_rules = ("shards", "pretrain", "pretrain_seed1")
    if any(job.rule.name in corpus_rules for job in jobs) and (error := unaudited_error(plan)):
        raise WorkflowError(str(error))
    if plan.config.offline and any(job.rule.name.startswith("census") for job in jobs):
        plan.files.require_local_census()
    if plan.config.offline and lost:
        raise WorkflowError(str(offline_error(plan, lost)))
    for name, why in plan.skipped.items():
        print(f"left out: benchmark {name}: {why}", file=sys.stderr)
    for name in plan.corpus.left_out:
        print(
            f"left out: corpus source {name}: it has no public address and no mirror has it",
            file=sys.stderr,
        )
    for name, why in plan.corpus.not_excluded.items():
        print(
            f"not left out of the corpus: cells of benchmark {name}: {why}",
            file=sys.stderr,
        )
    write_json(Path(plan.config.results_dir) / "preset.json", {"preset": plan.config.preset})
    write_json(Path(plan.config.results_dir) / "config.json", plan.config.model_dump())
