"""The rows of every table: which models a benchmark runs, how often, and why it leaves out the others. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sclong.benchmark.registry import load_task
from sclong.benchmark.task import Task
from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard
from sclong.config.load import Config
from sclong.errors import CardError, listing, nearest
from sclong.plan.addresses import Paths

ROLES = ("floor", "ceiling", "classical", "ablation", "model")
How = Literal["native", "embedding"]


@dataclass(frozen=True)
class Rows:
    """The run matrix: models that meet a benchmark, their seeds, and the files of their predictions.

    Attributes
    ----------
    config, paths
        Of the run.
    benchmarks, models
        Cards that are selected.
    data
        Benchmark -> the data that is used.
    """

    config: Config
    paths: Paths
    benchmarks: Mapping[str, BenchmarkCard]
    models: Mapping[str, ModelCard]
    data: Mapping[str, DataSpec]

    def task_of(self, benchmark: str) -> Task:
        """Return the task of a benchmark."""
        return load_task(self.benchmarks[benchmark].task)

    def how(self, benchmark: str, model: str) -> How | None:
        """Return "native", "embedding" or None (does not apply)."""
        return None if self.why_not(benchmark, model) else meets(self.benchmarks[benchmark], self.models[model])

    def why_not(self, benchmark: str, model: str) -> str | None:
        """Say why a model does not run on a benchmark; None where it does."""
        return why_not(self.config, self.benchmarks[benchmark], self.data.get(benchmark), self.models[model])

    def models_of(self, benchmark: str) -> list[str]:
        """Return the models that apply to a benchmark: controls first, then by name."""
        chosen = [m for m in self.models.values() if self.how(benchmark, m.name)]
        return [m.name for m in sorted(chosen, key=lambda m: (ROLES.index(m.role), m.name))]

    def seeds_of(self, benchmark: str, model: str) -> list[int]:
        """Return the training seeds of a model on a benchmark: one where the seed changes nothing."""
        return seeds_of(self.config.seeds, self.benchmarks[benchmark], self.models[model])

    def not_applicable(self) -> list[tuple[str, str, str]]:
        """Return (benchmark, model, reason) of every pair that is not run."""
        return [(b, m, why) for b in self.data for m in self.models if (why := self.why_not(b, m))]

    def predictions(self, benchmark: str) -> list[str]:
        """Return the files of all predictions of a benchmark."""
        return [
            self.paths.result("predictions", benchmark, model, f"seed{seed}.npz")
            for model in self.models_of(benchmark)
            for seed in self.seeds_of(benchmark, model)
        ]

    def pictured(self, benchmark: str) -> dict[str, str]:
        """Return model -> predictions with the first seed, where the task's figure is drawn from predictions."""
        if self.task_of(benchmark).figure != "predictions":
            return {}
        folder = self.paths.result("predictions", benchmark)
        return {m: f"{folder}/{m}/seed{self.seeds_of(benchmark, m)[0]}.npz" for m in self.models_of(benchmark)}

    def features_of(self, benchmark: str) -> Callable[[Any], list[str]]:
        """Return an input function: the embeddings that a model's predictions for `benchmark` are made from."""
        dataset = self.data[benchmark].dataset

        def features(wildcards: Any) -> list[str]:
            model = self.models.get(wildcards.model)
            if model is None or not (model.features_of or self.how(benchmark, model.name) == "embedding"):
                return []
            return [self.paths.result("embeddings", model.features_of or model.name, dataset)]

        return features

    def recipe_of(self, model: str) -> dict[str, Any]:
        """Return what of a model's card decides its results, for a rule's params."""
        return asdict(self.models[model].recipe())

    def code_of_prediction(self, benchmark: str, model: str) -> list[str]:
        """Return the entry points of a prediction that its script does not name: the task's steps, the adapter."""
        task = self.task_of(benchmark)
        native = self.how(benchmark, model) == "native"
        return [task.module("problems"), self.models[model].adapter if native else task.module("solve")]

    def checkpoint_of(self, model: str) -> list[str]:
        """Return the checkpoint folder that a model's embeddings are made from, if any."""
        name = self.models[model].checkpoint
        return [self.paths.result("checkpoints", name)] if name else []


def meets(benchmark: BenchmarkCard, model: ModelCard) -> How | None:
    """Say how a model meets a benchmark: it predicts itself, by its embedding and the task's head, or not at all."""
    native, *embeddings = benchmark.needs
    if native in model.provides:
        # a model that reads another's embedding cannot predict where no model may embed
        return None if model.features_of and not embeddings else "native"
    return "embedding" if set(embeddings) & set(model.provides) else None


def seeds_of(seeds: list[int], benchmark: BenchmarkCard, model: ModelCard) -> list[int]:
    """Return the training seeds of a model on a benchmark: the first one where the seed changes nothing."""
    by_head = meets(benchmark, model) == "embedding"
    drawn = not model.deterministic and (not by_head or load_task(benchmark.task).head_draws)
    return list(seeds) if drawn else seeds[:1]


def why_not(config: Config, benchmark: BenchmarkCard, spec: DataSpec | None, model: ModelCard) -> str | None:
    """Say why a model does not run on a benchmark; None where it does.

    Parameters
    ----------
    spec
        The data that is used; None where there is none, and nothing is known of it.
    """
    if meets(benchmark, model) is None:
        species = spec.options.get("species", "human") if spec else "human"
        if species != "human" and _knows_human_genes(benchmark, model):
            return f"the genes of the data set are those of a {species}; the model knows human genes"
        if benchmark.needs[0] in model.provides:
            return f"predicts from the embedding of {model.features_of}; the benchmark takes no embedding"
        return f"provides {', '.join(model.provides)}; the task needs {' or '.join(benchmark.needs)}"
    if (setting := missing_setting(config, model)) is not None:
        return f"the configuration does not set {setting}"
    if spec is not None and (need := missing_input(spec, model)) is not None:
        return "needs raw counts; the data set has none" if need == "counts" else f"the data set has no {need}"
    return None


def missing_input(spec: DataSpec, model: ModelCard) -> str | None:
    """Return the first thing that a model needs of a data set (``needs_inputs``) and the data set does not have."""
    has = {*spec.inputs, *(["counts"] if spec.options.get("value_kind", "counts") == "counts" else [])}
    return next((need for need in model.needs_inputs if need not in has), None)


def missing_setting(config: Config, model: ModelCard) -> str | None:
    """Return the key of the configuration that a model's card needs (``only_with``), where it is null.

    Raises
    ------
    CardError
        When the configuration has no such key.
    """
    key = model.only_with
    value: Any = config
    for part in key.split(".") if key else []:
        if not hasattr(value, part):
            raise CardError(
                f"model {model.name!r}: only_with: {key}", "a key of docs/configuration.md", "correct the model's card"
            )
        value = getattr(value, part)
    return key if value is None else None


def _knows_human_genes(benchmark: BenchmarkCard, model: ModelCard) -> bool:
    """Whether a model would meet the benchmark by gene vectors of its own genes, or by those of another model."""
    embeds = {"gene_embedding", "static_gene_embedding", "covariation_embedding"} & set(model.provides)
    return bool(model.checkpoint and embeds) or bool(model.features_of and benchmark.needs[0] in model.provides)


# ---------------------------------------------------------------------- checks


def check_benchmark(card: BenchmarkCard) -> None:
    """Check a benchmark card against its task.

    Raises
    ------
    CardError
        Needs that are not the task's (its own capability first, then some of those that its head can use), or a primary
        metric or a published number of a metric that the task does not score.
    """
    task = load_task(card.task)
    where = f"benchmark {card.name!r}"
    if not card.needs or card.needs[0] != task.native or not set(card.needs) <= set(task.capabilities):
        expected = f"{task.native} first, then any of {', '.join(task.needs) or 'nothing'}"
        raise CardError(f"{where}: needs {card.needs}", expected, f"write needs: [{', '.join(task.capabilities)}]")
    for metric in (card.primary_metric, *(p.metric for p in card.paper)):
        if metric not in task.metrics:
            like = nearest(metric, list(task.metrics))
            raise CardError(
                f"{where}: metric {metric!r}",
                f"a metric of task {task.name}: {', '.join(task.metrics)}",
                f"write {like[0]!r}" if like else "correct the card",
            )


def check_models(models: Mapping[str, ModelCard], tasks: Iterable[Task]) -> None:
    """Check that models provide what some task knows, and that those whose embeddings others read are selected.

    Raises
    ------
    CardError
        A capability that looks like a misspelt one, or a ``features_of`` whose model is not selected.
    """
    known = sorted({c for task in tasks for c in task.capabilities})
    for card in models.values():
        for capability in card.provides:
            like = nearest(capability, known)
            if capability not in known and like:
                raise CardError(
                    f"model {card.name!r} provides {capability!r}, which no task knows",
                    f"capabilities of the tasks found: {listing(known, 20)}",
                    f"write {like[0]!r}",
                )
        if card.features_of is not None and card.features_of not in models:
            raise CardError(
                f"model {card.name!r} predicts from the embedding of {card.features_of!r}, which is not selected",
                "both of them",
                f"add {card.features_of} to models, or leave {card.name} out",
            )
