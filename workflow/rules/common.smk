import sys
from collections import Counter
from pathlib import Path

from snakemake.exceptions import WorkflowError

from sclong.config.load import remember_preset
from sclong.errors import SclongError
from sclong.io.files import write_json, write_text
from sclong.benchmark.registry import load_task
from sclong.plan.advice import blocked_error, offline_error, in_the_future, say_what_is_left_out, unaudited_error
from sclong.plan.inputs import require_inputs, require_right_bytes
from sclong.plan.plan import make_plan
from sclong.plan.snapshot import settings_of_run, take_snapshot
from sclong.provenance import code_hash
from sclong.train.identity import (
    ENTRY as TRAINING,
    check_plan,
    check_work_dir,
    keep_export,
    planned_identity,
    remember_plan,
)

CONDA = "../../envs/sclong.yaml"


def plan_or_explain(user):
    """Build the plan; an error in the configuration ends the run with its three parts, without a traceback."""
    try:
        plan = make_plan(user)
        remember_preset(plan.config)
        require_inputs(plan)
        return plan
    except SclongError as error:
        raise WorkflowError(str(error)) from None


# A job on a compute node reads the Snakefile again: it takes what the run was started with.
plan = plan_or_explain(config if workflow.is_main_process else settings_of_run(config))
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


# Rules that make what a training reads.
DATA_OF_TRAINING = {
    "scan_source",
    "census_list",
    "vocabulary",
    "corpus_part",
    "census_part",
    "find_overlap",
    "shards",
    "go_graph",
    "gene2vec",
}


def refuse_another_training(jobs):
    """Before any output is removed: no folder may hold another training, or one of other data, than is planned."""
    rules = {job.rule.name for job in jobs}
    begins = any(rule.startswith("pretrain") for rule in rules)
    for checkpoint, settings in plan.trainings.items():
        work_dir = Path(result("training", checkpoint))
        if begins:
            check_work_dir(work_dir, planned_identity(plan.architecture, settings))
        if begins or rules & DATA_OF_TRAINING:
            check_plan(work_dir, plan.data_of_training)


def keep_trainings(jobs):
    """Write down what is trained on, and keep the checkpoints that jobs are about to replace."""
    for job in jobs:
        if job.rule.name.startswith("pretrain"):
            work_dir = Path(job.params.work_dir)
            remember_plan(work_dir, plan.data_of_training)
            keep_export(Path(job.output.checkpoint), work_dir)


def refuse_before_start(jobs):
    """Refuse a run that would lose something finished, use a wrong file, or lack one."""
    refuse_another_training(jobs)
    blocked = sorted({job.rule.name.removeprefix("score_") for job in jobs} & set(plan.blocked))
    if blocked:
        raise blocked_error(plan, blocked)
    fetched = sorted(str(f) for job in jobs if job.rule.name in ("fetch",) for f in job.output)
    lost = [f for f in fetched if plan.files.lost_path(f)]
    corpus_rules = ("shards", "pretrain", "pretrain_seed1")
    if any(job.rule.name in corpus_rules for job in jobs) and (error := unaudited_error(plan)):
        raise error
    if plan.config.offline and any(job.rule.name.startswith("census") for job in jobs):
        plan.files.require_local_census()
    if plan.config.offline and lost:
        raise offline_error(plan, lost)
    made = {str(file) for job in jobs for file in job.output}
    require_right_bytes(plan, {str(file) for job in jobs for file in job.input} - made)


def check_before_start():
    """Before the first job: refuse what cannot end well, say what is left out, remember what the run is."""
    jobs = list(workflow.dag.needrun_jobs())
    try:
        refuse_before_start(jobs)
    except SclongError as error:
        raise WorkflowError(str(error)) from None
    left_out = Path(result("left_out.tsv"))
    rows = say_what_is_left_out(plan)
    write_text(left_out, "what\tname\twhy\n" + "".join("\t".join(row) + "\n" for row in rows))
    if rows:
        counts = Counter(what for what, *_ in rows)
        said = ", ".join(f"{n} {what}" for what, n in counts.items())
        print(f"left out: {said}; {left_out} says which and why", file=sys.stderr)
    late = in_the_future(str(file) for job in jobs for file in job.input)
    if late:
        print(f"warning: {late}", file=sys.stderr)
    write_json(Path(plan.config.results_dir) / "preset.json", {"preset": plan.config.preset})
    write_json(Path(plan.config.results_dir) / "config.json", plan.config.model_dump())
    take_snapshot(plan, config)
    keep_trainings(jobs)


def say_what_to_open():
    """After the last job: name the page to open."""
    page = Path(result("report.html"))
    if page.is_file():
        print(f"open {page.resolve()}", file=sys.stderr)
