"""Which models a benchmark runs, how often, and why it leaves out the others; from cards alone. Torch-free."""

from __future__ import annotations

from typing import Any

from sclong.config.cards import BenchmarkCard, DataSpec, ModelCard, meets, missing_input
from sclong.config.load import Config
from sclong.errors import CardError

# tasks whose own head (Task.solve) draws nothing: an embedding has one answer, whatever the seed
HEADS_WITHOUT_DRAWS = frozenset({"batch_integration", "gene_pairs", "genetic_perturbation", "grn_inference"})


def seeds_of(seeds: list[int], benchmark: BenchmarkCard, model: ModelCard) -> list[int]:
    """Return the training seeds of a model on a benchmark: the first one where the seed changes nothing."""
    drawn = not model.deterministic and not (
        meets(benchmark, model) == "embedding" and benchmark.task in HEADS_WITHOUT_DRAWS
    )
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
            return f"answers from the embedding of {model.features_of}; the benchmark takes no embedding"
        return f"provides {', '.join(model.provides)}; the task needs {' or '.join(benchmark.needs)}"
    if (setting := missing_setting(config, model)) is not None:
        return f"the configuration does not set {setting}"
    if spec is not None and (need := missing_input(spec, model)) is not None:
        return "needs raw counts; the data set has none" if need == "counts" else f"the data set has no {need}"
    return None


def missing_setting(config: Config, model: ModelCard) -> str | None:
    """Return the key of the configuration that a model's card asks for (``only_with``), where it is null.

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
    embeds = {"gene_embedding", "static_gene_embedding"} & set(model.provides)
    return bool(model.checkpoint and embeds) or bool(model.features_of and benchmark.needs[0] in model.provides)
