"""What a configuration asks for, worked out from cards alone: which data, which runs, which files. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard, check_features_of, load_cards, meets
from sclong.config.load import Config, load_architecture, load_config, select_cards
from sclong.config.sections import Architecture
from sclong.errors import CardError, ConfigError, FetchError, listing
from sclong.io.sources import Source, availability, load_sources, missing_report
from sclong.plan.corpus import CorpusPlan, plan_corpus
from sclong.plan.rows import seeds_of, why_not
from sclong.provenance import code_hash

KINDS = ("world", "source", "resource", "file")


def split_address(address: str) -> tuple[str, str]:
    """Split ``kind:rest`` and check the kind.

    Raises
    ------
    CardError
        For an unknown kind of address.
    """
    kind, _, rest = address.partition(":")
    if kind not in KINDS or not rest:
        raise CardError(f"address {address!r}", f"one of {', '.join(k + ':...' for k in KINDS)}", "correct the address")
    return kind, rest


@dataclass(frozen=True)
class Plan:
    """A resolved configuration: cards, data, run matrix, paths.

    Attributes
    ----------
    config, architecture, benchmarks, models, sources
        What was read; benchmarks and models that are asked for.
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

    # ------------------------------------------------------------------ paths

    def result(self, *parts: str) -> str:
        """Return a path below the results folder."""
        return "/".join([self.config.results_dir, *parts])

    def fetched(self, *parts: str) -> str:
        """Return a path below the folder of fetched files."""
        return "/".join([self.config.data_dir, *parts])

    def path(self, address: str) -> str:
        """Return the file that an address stands for.

        Raises
        ------
        CardError
            Unknown kind, or a source without a row in config/sources.tsv.
        """
        kind, rest = split_address(address)
        if kind == "source" and rest not in self.sources:
            raise CardError(
                f"address {address!r}: no such row in config/sources.tsv", "id/file of a row", "add the row"
            )
        return {
            "world": self.result("world", rest),
            "source": self.fetched("sources", rest),
            "resource": f"resources/{rest}",
            "file": rest,
        }[kind]

    def paths(self, value: str | list[str]) -> str | list[str]:
        """Resolve one address or a list of them."""
        return [self.path(v) for v in value] if isinstance(value, list) else self.path(value)

    # ----------------------------------------------------------------- corpus

    @cached_property
    def corpus(self) -> CorpusPlan:
        """What the corpus is made of."""
        return plan_corpus(
            self.config.corpus, self.config.vocabulary, self._lost, self.cards, lambda card: _find_data(self, card)[:2]
        )

    # ------------------------------------------------------------- benchmarks

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
        """Return the benchmarks that use a data set: those that are asked for, else the one that names it."""
        asked = [name for name, spec in self.data.items() if spec.dataset == dataset]
        return asked or [self.corpus.excluded[dataset]]

    def spec(self, benchmark: str) -> DataSpec:
        """Return the data of a benchmark, whether it is asked for or only left out of the corpus."""
        found = self.data.get(benchmark) or _find_data(self, self.cards[benchmark])[0]
        assert found is not None
        return found

    def how(self, benchmark: str, model: str) -> str | None:
        """Return "native", "embedding" or None (does not apply)."""
        return None if self.why_not(benchmark, model) else meets(self.benchmarks[benchmark], self.models[model])

    def why_not(self, benchmark: str, model: str) -> str | None:
        """Say why a model does not run on a benchmark; None where it does."""
        return why_not(self.config, self.benchmarks[benchmark], self.data.get(benchmark), self.models[model])

    def models_of(self, benchmark: str) -> list[str]:
        """Models that apply to a benchmark: controls first, then by name."""
        order = ["floor", "ceiling", "classical", "ablation", "model"]
        chosen = [m for m in self.models.values() if self.how(benchmark, m.name)]
        return [m.name for m in sorted(chosen, key=lambda m: (order.index(m.role), m.name))]

    def seeds_of(self, model: str, benchmark: str) -> list[int]:
        """Training seeds of a model on a benchmark: one where the seed changes nothing."""
        return seeds_of(self.config.seeds, self.benchmarks[benchmark], self.models[model])

    def not_applicable(self) -> list[tuple[str, str, str]]:
        """(benchmark, model, reason) of every pair that is not run."""
        return [(b, m, why) for b in self.data for m in self.models if (why := self.why_not(b, m))]

    def predictions(self, benchmark: str) -> list[str]:
        """Files of all predictions of a benchmark."""
        return [
            self.result("predictions", benchmark, model, f"seed{seed}.npz")
            for model in self.models_of(benchmark)
            for seed in self.seeds_of(model, benchmark)
        ]

    def pictured(self, benchmark: str) -> dict[str, str]:
        """Return model -> predictions that pictures are drawn from: batch integration, first seed."""
        if self.benchmarks[benchmark].task != "batch_integration":
            return {}
        folder = self.result("predictions", benchmark)
        return {m: f"{folder}/{m}/seed{self.seeds_of(m, benchmark)[0]}.npz" for m in self.models_of(benchmark)}

    def features_of(self, benchmark: str) -> Callable[[Any], list[str]]:
        """Return an input function: the embeddings that a model's predictions for `benchmark` are made from."""
        dataset = self.data[benchmark].dataset

        def features(wildcards: Any) -> list[str]:
            model = self.models.get(wildcards.model)
            if model is None or not (model.features_of or self.how(benchmark, model.name) == "embedding"):
                return []
            return [self.result("embeddings", model.features_of or model.name, dataset)]

        return features

    def code_of_prediction(self, benchmark: str) -> Callable[[Any], str]:
        """Return a params function: hash of the code behind one prediction."""
        return lambda wildcards: self.code(self.task_module(benchmark), self.adapter_module(wildcards.model))

    def checkpoint_of(self, model: str) -> list[str]:
        """Checkpoint folder that a model's embeddings are made from, if any."""
        name = self.models[model].checkpoint
        return [self.result("checkpoints", name)] if name else []

    def metrics(self) -> list[str]:
        """Metrics tables that ``all`` makes."""
        return [self.result(f"{b}_metrics.tsv") for b in [*self.data, *self.blocked]]

    def sha256(self, key: str) -> str:
        """Hash that the file of a row of sources.tsv must have.

        Raises
        ------
        CardError
            When there is no such row.
        """
        self.path(f"source:{key}")
        return self.sources[key].sha256

    def code(self, *modules: str) -> str:
        """Return the hash of the meaning of modules, for a rule's params."""
        return code_hash(*modules)

    def task_module(self, benchmark: str) -> str:
        """Return the module of a benchmark's task."""
        return f"sclong.tasks.{self.cards[benchmark].task}"

    def adapter_module(self, model: str) -> str:
        """Return the module of a model's adapter."""
        return self.models[model].adapter.partition(":")[0]

    # ----------------------------------------------------------- availability

    def _status(self, addresses: list[str]) -> dict[str, str]:
        """Address -> here, mirror, fetchable, or missing."""
        keys = [split_address(a)[1] for a in addresses if a.startswith("source:") and self.path(a)]
        found = availability(keys, self.sources, self.config.data_dir, self.config.mirror, self.config.offline)
        status = {f"source:{key}": value for key, value in found.items()}
        for address in addresses:
            kind, _ = split_address(address)
            if kind in ("file", "resource"):
                status[address] = "here" if Path(self.path(address)).exists() else "missing"
            elif kind == "world":
                status[address] = "here"
        return status

    def lost_path(self, path: str) -> bool:
        """Say whether a file that must be fetched cannot be had as configured."""
        return bool(self._lost([self._address_of(path)]))

    def _address_of(self, path: str) -> str:
        """Inverse of :meth:`path` for fetched files."""
        return "source:" + path.removeprefix(f"{self.config.data_dir}/sources/")

    def _lost(self, addresses: list[str]) -> list[str]:
        return [a for a, s in self._status(addresses).items() if s == "missing"]

    def explain_missing(self, addresses: list[str]) -> str:
        """Say of each missing file what it is, where it comes from and where it belongs."""
        keys = [a.removeprefix("source:") for a in addresses if a.startswith("source:")]
        lines = [missing_report(keys, self.sources, self.config.data_dir)] if keys else []
        lines += [f"  {self.path(a)}: put it there by hand" for a in addresses if a.startswith(("file:", "resource:"))]
        return "\n".join(lines)

    def require_local_census(self) -> None:
        """Refuse to go to the public Census where no socket may be opened.

        Raises
        ------
        FetchError
        """
        census = self.config.corpus.census
        if census is not None and (census.uri is None or "://" in census.uri):
            raise FetchError(
                f"offline, and the corpus reads release {census.version} of the CELLxGENE Census",
                "a copy on a disk",
                "name the folder of a copy (corpus.census.uri), or drop offline: true, or set corpus.census: null",
            )

    def offline_error(self, paths: list[str]) -> FetchError:
        """Build the one error that lists every file an offline run lacks, and what can run without them."""
        addresses = [self._address_of(p) for p in paths]
        return FetchError(
            f"offline, and {len(addresses)} files are missing:\n{self.explain_missing(addresses)}",
            "every file in place, or a mirror folder that has it",
            "put the files where the list says, or name a folder that holds them (--config mirror=DIR), or drop "
            f"offline: true. {self.what_can_run()}",
        )

    def what_can_run(self) -> str:
        """Say which benchmarks have all their own files here or in the mirror, and which preset needs none."""
        near = {"here", "mirror"}
        able = [b for b, spec in self.data.items() if set(self._status(_flat(spec)).values()) <= near]
        return f"Benchmarks whose own data is here: {', '.join(able) or 'none'}; preset demo needs no file at all"

    def could_not_fetch(self, error: FetchError) -> FetchError:
        """Add to the error of a download what can run without it."""
        return FetchError(error.found, error.expected, f"{error.action}. {self.what_can_run()}")

    def blocked_error(self, names: list[str]) -> FetchError:
        """Build the one error that lists what blocked benchmarks lack, and what can run without them."""
        able = list(self.data)
        return FetchError(
            "files of " + ", ".join(names) + " are not here:\n" + "\n".join(self.blocked[n] for n in names),
            "every file in place",
            "put the files where the list says, or run "
            f"what can run: --config 'benchmarks=[{', '.join(able)}]'; preset demo needs no file at all",
        )


def _flat(spec: DataSpec) -> list[str]:
    return [a for v in spec.inputs.values() for a in (v if isinstance(v, list) else [v])]


def make_plan(user: dict[str, object], root: Path = Path(".")) -> Plan:
    """Read configuration, cards and sources; choose for each benchmark the first data that can be had.

    Raises
    ------
    ConfigError, CardError
        Anything wrong with them, with the way out.
    """
    config = load_config(user, root)
    folder = root / config.cards_dir
    benchmarks, models = select_cards(config, root)
    models = {name: card.for_preset(config.preset) for name, card in models.items()}
    plan = Plan(
        config,
        load_architecture(config.architecture, folder),
        benchmarks,
        models,
        load_sources(folder / "sources.tsv"),
        load_cards(folder / "benchmarks", BenchmarkCard),
    )
    for name, card in benchmarks.items():
        _check_benchmark(card)
        spec, why, can_be_put = _find_data(plan, card)
        if spec is not None:
            plan.data[name] = spec
        else:
            (plan.blocked if can_be_put else plan.skipped)[name] = why
    _ = plan.datasets
    check_features_of(models)
    if not benchmarks or not models:
        raise ConfigError("no benchmark or no model is chosen", "at least one of each", "see config/config.yaml")
    return plan


def _check_benchmark(card: BenchmarkCard) -> None:
    if not card.needs:
        raise CardError(
            f"benchmark {card.name!r}: 'needs' is empty",
            "the capability that answers the task, then what its head can use (Task.native, Task.needs)",
            "add needs: [perturbation_prediction, gene_embedding] or the like",
        )


def _find_data(plan: Plan, card: BenchmarkCard) -> tuple[DataSpec | None, str, bool]:
    """Return the first data of a card that can be had; else why there is none, and whether it can be put in place."""
    alternatives = card.alternatives(plan.config.preset)
    if not alternatives:
        why = f"its card has no data for preset {plan.config.preset!r} (why: config/benchmarks/{card.name}.yaml)"
        return None, why, False
    reasons = []
    for spec in alternatives:
        lost = plan._lost(_flat(spec))
        if not lost:
            return spec, "", True
        reasons.append((spec, lost))
    public = [spec for spec, lost in reasons if all(_has_public_address(plan, a) for a in lost)]
    if public:  # offline: the run says in one message what all of them lack
        return public[0], "", True
    spec, lost = reasons[0]
    if all(a.startswith("source:") for a in lost):
        return None, f"files without a public address, in no mirror: {listing(lost)}", False
    return None, f"{card.name} ({spec.dataset}): {card.summary}\n{plan.explain_missing(lost)}", True


def _has_public_address(plan: Plan, address: str) -> bool:
    kind, rest = split_address(address)
    return kind == "source" and plan.sources[rest].kind != "mirror"
