"""What a configuration selects, worked out from cards alone: which data, which runs, which files. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sclong.benchmark.adapter_check import check_adapter
from sclong.benchmark.registry import load_tasks
from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard
from sclong.config.load import Config, all_cards, load_architecture, load_config, select_cards
from sclong.config.sections import Architecture, PretrainConfig
from sclong.errors import CardError, ConfigError
from sclong.io.sources import Source, load_sources
from sclong.plan.addresses import Paths
from sclong.plan.availability import Availability, addresses_of
from sclong.plan.corpus import CorpusPlan, plan_corpus
from sclong.plan.released import released_files
from sclong.plan.rows import Rows, check_benchmark, check_models


@dataclass(frozen=True)
class Plan:
    """A resolved configuration.

    Attributes
    ----------
    config, architecture, benchmarks, models, sources
        What was read; benchmarks and models that are selected.
    cards
        All benchmark cards.
    data
        Benchmark -> the alternative of its card that is used.
    skipped
        Benchmark -> why ``all`` leaves it out (its files have no public address and no mirror has them).
    blocked
        Benchmark -> what its files are and how to get them (they are needed, and are not here).
    """

    config: Config
    architecture: Architecture
    benchmarks: dict[str, BenchmarkCard]
    models: dict[str, ModelCard]
    sources: dict[str, Source]
    cards: dict[str, BenchmarkCard]
    data: dict[str, DataSpec] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    @cached_property
    def paths(self) -> Paths:
        """Where files lie."""
        return Paths(self.config.results_dir, self.config.data_dir, self.sources)

    @cached_property
    def files(self) -> Availability:
        """Which files can be had."""
        return Availability(self.config, self.paths)

    @cached_property
    def rows(self) -> Rows:
        """Which models run on which benchmarks."""
        return Rows(self.config, self.paths, self.benchmarks, self.models, self.data)

    @cached_property
    def trainings(self) -> dict[str, PretrainConfig]:
        """Checkpoint -> settings of its pretraining: ``sclong``, and ``sclong_seed1`` where there is a second seed."""
        settings = self.config.pretrain
        out = {"sclong": settings}
        if settings.second_seed is not None:
            out["sclong_seed1"] = settings.model_copy(update={"seed": settings.second_seed, "second_seed": None})
        return out

    def unpinned_inputs(self, benchmark: str) -> str:
        """Return the inputs of a benchmark's data for which no hash is published, with blanks between them."""
        keys = [a.removeprefix("source:") for a in addresses_of(self.data[benchmark]) if a.startswith("source:")]
        return " ".join(sorted({key for key in keys if not self.sources[key].pinned}))

    @cached_property
    def released(self) -> dict[str, str]:
        """Inputs of the released checkpoint: the authors' files, and symbols of genes. Empty: not there."""
        files = released_files(self.config.released)
        annotation = self.config.vocabulary.annotation
        if files and annotation:
            files["symbols"] = str(self.paths.path(annotation))
        return files or {}

    @cached_property
    def data_of_training(self) -> dict[str, Any]:
        """What of the configuration decides the data of a training: JSON values, keys without effect left out."""
        config = self.config
        dump: dict[str, Any] = config.model_dump(
            include={"corpus", "vocabulary", "go", "gene2vec"},
            exclude={"corpus": {"census": {"uri", "tiledb", "piece_cells"}}},
            mode="json",
        )
        dump["corpus"]["sources"] = {
            s["name"]: s for s in dump["corpus"]["sources"] if s["name"] in self.corpus.sources
        }
        return {**dump, "left_out_of_corpus": dict(self.corpus.excluded)}

    @cached_property
    def corpus(self) -> CorpusPlan:
        """What the corpus is made of."""
        return plan_corpus(self.config.corpus, self.config.vocabulary, self.files, self.cards)

    @cached_property
    def datasets(self) -> dict[str, tuple[BenchmarkCard, DataSpec]]:
        """Data set -> a benchmark that uses it, and how it is made; with those that the corpus leaves out.

        Raises
        ------
        CardError
            When two benchmarks make a data set of one name from different files or options.
        """
        out: dict[str, tuple[BenchmarkCard, DataSpec]] = {}
        excluded = {name: self.spec(name) for name in self.corpus.excluded.values() if name not in self.data}
        for name, spec in {**self.data, **excluded}.items():
            card = self.cards[name]
            other = out.setdefault(spec.dataset, (card, spec))
            if (other[0].task, other[1].inputs, other[1].options) != (card.task, spec.inputs, spec.options):
                raise CardError(
                    f"benchmarks {other[0].name!r} and {name!r} make data set {spec.dataset!r} differently",
                    "one task, one set of inputs and options per data set name",
                    "make them equal, or rename one of the two data sets",
                )
        return out

    def benchmarks_of(self, dataset: str) -> list[str]:
        """Return the benchmarks that use a data set: those that are selected, else the one that names it."""
        selected = [name for name, spec in self.data.items() if spec.dataset == dataset]
        return selected or [self.corpus.excluded[dataset]]

    def spec(self, benchmark: str) -> DataSpec:
        """Return the data of a benchmark, whether it is selected or only left out of the corpus.

        Raises
        ------
        CardError
            None of its data can be had.
        """
        found = self.data.get(benchmark)
        if found is None:
            choice = self.files.choose(self.cards[benchmark])
            if choice.spec is None:
                raise CardError(f"benchmark {benchmark!r}: {choice.why}", "data that can be had", "put its files there")
            found = choice.spec
        return found

    def metrics(self) -> list[str]:
        """Return the metrics tables that ``all`` makes."""
        return [self.paths.result(f"{b}_metrics.tsv") for b in [*self.data, *self.blocked]]


def make_plan(user: dict[str, object], root: Path = Path(".")) -> Plan:
    """Read configuration, cards and sources; choose for each benchmark the first data that can be had.

    Raises
    ------
    ConfigError, CardError
        Anything wrong with them, with the way out.
    """
    config = load_config(user, root)
    if config.preset == "demo" or released_files(config.released) is None:  # simulated genes are not the model's
        config = config.model_copy(update={"released": None})
    folder = root / config.cards_dir
    benchmarks, models = select_cards(config, root)
    models = {name: card.for_preset(config.preset) for name, card in models.items()}
    if not benchmarks or not models:
        raise ConfigError("no benchmark or no model is selected", "at least one of each", "see config/config.yaml")
    plan = Plan(
        config,
        load_architecture(config.architecture, folder),
        benchmarks,
        models,
        load_sources(folder / "sources.tsv"),
        all_cards(folder / "benchmarks", BenchmarkCard),
    )
    for name, card in benchmarks.items():
        check_benchmark(card)
        choice = plan.files.choose(card)
        if choice.spec is not None:
            plan.data[name] = choice.spec
        else:
            (plan.blocked if choice.can_be_put else plan.skipped)[name] = choice.why
    _ = plan.datasets
    for model in models.values():
        check_adapter(model.name, model.adapter, model.options, root)
    check_models(models, load_tasks().values())
    return plan
