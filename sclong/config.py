"""The configuration, typed: every key, its meaning, its unit, its limits. Unknown keys are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from sclong.cards import PRESETS, BenchmarkCard, ModelCard, Name, Strict, describe_validation, load_cards, load_yaml
from sclong.errors import ConfigError, nearest


class Architecture(Strict):
    """Shape of a scLong model (spec: dual encoder, FAVOR+ attention, GO gene encoder).

    The published billion-parameter model is ``config/architectures/1b.yaml``.
    """

    name: Name
    top_genes: int = Field(ge=1, description="L: number of highest values that the large encoder reads")
    base_dim: int = Field(ge=1, description="d: width of gene vectors")
    value_hidden_dim: int = Field(default=50, ge=1, description="hidden width of the expression value MLP")
    mini_depth: int = Field(ge=1, description="layers of the encoder of the remaining genes")
    mini_heads: int = Field(ge=1)
    mini_dim_head: int = Field(ge=2)
    large_dim: int = Field(ge=1, description="D: width of the large encoder")
    large_depth: int = Field(ge=1)
    large_heads: int = Field(ge=1)
    large_dim_head: int = Field(ge=2)
    decoder_depth: int = Field(ge=1, description="layers of the full-length Performer")
    decoder_heads: int = Field(ge=1)
    decoder_dim_head: int = Field(ge=2)
    ff_mult: int = Field(default=4, ge=1, description="feed-forward width as a multiple of the encoder's width")
    stabilizer: Literal["per_head", "per_cell", "global"] = Field(
        default="per_head", description="over what the maximum of the key features is taken"
    )
    tie_rule: Literal["gene_order", "torch_topk"] = Field(
        default="gene_order",
        description="which of equal values are among the highest: the first in gene order (defined everywhere), or "
        "whatever torch.topk picks (the published code; differs between devices and versions)",
    )
    top_attention: Literal["favor", "exact"] = Field(
        default="favor", description="attention of the large encoder: FAVOR+ (published) or exact softmax attention"
    )
    kernels: Literal["fast", "blocks", "oracle"] = Field(
        default="fast",
        description="how FAVOR+ attention and the GO convolution are computed: fast (a fused kernel on CUDA, blocks "
        "elsewhere), blocks (portable), or oracle (performer-pytorch's and torch-geometric's operations; slow)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="precision of matrix products; parameters and sums stay float32"
    )
    recompute_layers: bool = Field(
        default=False, description="compute each layer again in the backward pass instead of keeping its intermediates"
    )
    compile: bool = Field(default=False, description="use torch.compile where it works; eager where it does not")


class PretrainConfig(Strict):
    """Masked reconstruction: budget, optimiser, schedule, checkpoints."""

    steps: int = Field(ge=0, description="optimiser steps")
    batch_size: int = Field(ge=1, description="cells per optimiser step")
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="cells per forward and backward pass; null: all of a step at once"
    )
    learning_rate: float = Field(gt=0, description="peak learning rate of Adam")
    minimum_learning_rate: float = Field(default=1e-6, ge=0)
    warmup_steps: int = Field(default=20, ge=0, description="optimiser steps of linear warm-up")
    gradient_clip: float = Field(default=1.0, gt=0, description="maximum norm of the gradient")
    mask_fraction: float = Field(default=0.15, gt=0, lt=1, description="share of non-zero values chosen per cell")
    replace_fraction: float = Field(default=0.9, gt=0, le=1, description="share of the chosen values that is hidden")
    redraw_every: int = Field(
        default=1000, ge=0, description="optimiser steps between draws of random features; 0: never"
    )
    validate_every: int = Field(ge=1, description="optimiser steps between evaluations on held-out donors")
    validation_cells: int = Field(ge=1, description="held-out cells per evaluation")
    checkpoint_every: int = Field(ge=1, description="optimiser steps between training checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1)
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of donors held out (at least one)")
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=2, ge=1)


class CorpusSource(Strict):
    """One data set of the corpus."""

    name: Name
    input: str = Field(description="address: world:FILE, source:ID/FILE, file:PATH or census:DATASET_ID")
    format: Literal["h5ad", "10x_h5", "csv"] = "h5ad"
    member: str | None = Field(default=None, description="member to read when the file is a tar archive")
    transpose: bool = Field(default=False, description="csv with genes in rows")
    gene_column: str | None = Field(default=None, description="column of var with gene ids; default: found")
    layer: str | None = Field(default=None, description="where the counts are: X, raw or a layer's name")
    donor_column: str | None = Field(default=None, description="column of obs; default: the whole source is one donor")
    cell_type_column: str | None = None
    tissue: str = ""
    assay: str = ""
    organism: Literal["human"] = "human"
    optional: bool = Field(default=False, description="left out, with a line in the manifest, where it cannot be had")
    keep_cells: str | None = Field(default=None, description="pandas query on obs")


class CorpusConfig(Strict):
    """What the model is pretrained on."""

    sources: list[CorpusSource] = Field(min_length=1)
    minimum_genes: int = Field(default=200, ge=1, description="cells with fewer detected genes are dropped")
    cells_per_shard: int = Field(default=100_000, ge=1)


class VocabularyConfig(Strict):
    """The gene vocabulary and the tables it is built from."""

    mode: Literal["rule", "authors"] = Field(
        default="rule",
        description="rule: protein-coding genes, then the non-coding genes that most sources of the corpus detect "
        "(those that are not optional count); authors: the list `genes` as it is, in its order",
    )
    size: int | None = Field(
        default=None,
        ge=1,
        description="number of genes; null: every gene of the annotation, or of the list",
    )
    annotation: str = Field(description="address of the gene annotation table (gene_id, gene_name, biotype, ...)")
    release: str | None = Field(
        default=None, description="release of the annotation, as its publisher states it; goes into the vocabulary file"
    )
    symbols: str | None = Field(
        default=None, description="address of the HGNC table: previous and alias symbols, Entrez"
    )
    genes: str | None = Field(
        default=None,
        description="address of a list of Ensembl ids, one per line, for mode authors; a last line PAD is left out",
    )

    @model_validator(mode="after")
    def _list_and_mode(self) -> VocabularyConfig:
        if (self.mode == "authors") != (self.genes is not None):
            raise ValueError("mode: authors and genes: ADDRESS of the list go together")
        return self


EvidenceCode = Literal[
    "EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP", "IBA", "IBD", "IKR", "IRD", "ISS",
    "ISO", "ISA", "ISM", "IGC", "RCA", "TAS", "NAS", "IC", "ND", "IEA",
]  # fmt: skip
"""Evidence codes of the Gene Ontology."""


class GoConfig(Strict):
    """The Gene Ontology similarity graph."""

    obo: str = Field(description="address of go-basic.obo (format tables: of the table of terms)")
    annotation: str = Field(description="address of the annotation of genes")
    format: Literal["gaf", "gene2go", "tables"] = Field(
        default="gaf", description="GAF 2.x, NCBI's gene2go, or tables exported from Bioconductor"
    )
    parents: str | None = Field(default=None, description="format tables: address of the table child, parent")
    aspects: list[Literal["BP", "MF", "CC"]] = ["BP", "MF", "CC"]
    evidence: list[EvidenceCode] | None = Field(default=None, description="evidence codes that count; null: all")
    evidence_excluded: list[EvidenceCode] = Field(
        default=[], description="evidence codes that do not count, such as IEA"
    )
    propagate: bool = Field(default=False, description="count annotations of descendants too")
    threshold: float = Field(default=0.1, ge=0, lt=1, description="edges have a Jaccard index above this")
    rule: Literal["sclong", "authors"] = Field(
        default="sclong",
        description="sclong: the most similar genes and a guaranteed self loop; authors: one more of the most similar "
        "genes, self among them, so that a self loop can be lost",
    )
    neighbours: int = Field(default=20, ge=1, description="most similar genes kept per gene, besides itself")


class Gene2VecConfig(Strict):
    """Vectors from which the model's two gene tables start."""

    vectors: str | None = Field(
        default=None,
        description="address of Gene2Vec vectors: text with a gene and its numbers on each line, or .npy (genes, "
        "dimensions); null: the tables start from random numbers",
    )
    genes: str | None = Field(
        default=None, description="address of the names of the rows of a .npy, one a line; null: the vocabulary's order"
    )
    reduce: bool = Field(
        default=False,
        description="start from the first base_dim principal components of vectors that are wider than base_dim",
    )


class EmbedConfig(Strict):
    """How cells are embedded."""

    batch_size: int = Field(default=8, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=2, ge=1)


class Preset(Strict):
    """One size of the whole workflow."""

    architecture: Name
    corpus: CorpusConfig
    vocabulary: VocabularyConfig
    go: GoConfig
    gene2vec: Gene2VecConfig = Gene2VecConfig()
    pretrain: PretrainConfig
    embed: EmbedConfig = EmbedConfig()
    seeds: list[int] = Field(min_length=1, description="training seeds; each is a training of its own")


class Config(Preset):
    """The whole configuration after preset, config.yaml and ``--config`` are laid over each other."""

    preset: Literal["demo", "small", "paper"] = "demo"
    results_dir: str = "results"
    data_dir: str = Field(default="data", description="where fetched files are kept")
    mirror: str | None = Field(default=None, description="folder or http address that is asked before the origin")
    offline: bool = Field(default=False, description="never open a socket; list what is missing")
    models: list[Name] | Literal["all"] = "all"
    benchmarks: list[Name] | Literal["all"] = "all"
    cards_dir: str = Field(default="config", description="folder with benchmarks/, models/, architectures/, presets/")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Config:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ: equal seeds are the same training")
        return self


T = TypeVar("T", bound=Strict)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], inside: bool = False) -> dict[str, Any]:
    """Lay `over` on `base`; mappings are merged, everything else replaces.

    A null at the top level is a key that was left empty, and changes nothing; inside a section it is a value. Snakemake
    hands over ``--config 'section={key: null}'`` as the text "null".
    """
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merge(out[key], value, inside=True)
        elif inside and value == "null":
            out[key] = None
        elif inside or value is not None or key not in out:
            out[key] = value
    return out


def _validate(kind: type[T], raw: Mapping[str, Any], where: str) -> T:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found, action = describe_validation(error, kind)
        raise ConfigError(f"{where}: {found}", "a key and a value of docs/configuration.md", action) from None


def load_config(user: Mapping[str, Any], root: Path = Path(".")) -> Config:
    """Lay the user's keys over their preset and check everything.

    Parameters
    ----------
    user
        Keys of config.yaml and ``--config``, already merged (Snakemake does that).
    root
        Folder with ``config/``.

    Raises
    ------
    ConfigError
        Unknown preset or key (with the nearest valid one) or a value out of its limits.
    """
    preset = user.get("preset") or "demo"
    if preset not in PRESETS:
        like = nearest(str(preset), PRESETS)
        raise ConfigError(
            f"preset {preset!r}", f"one of {', '.join(PRESETS)}", f"preset: {like[0] if like else 'demo'}"
        )
    folder = root / (user.get("cards_dir") or "config")
    path = folder / "presets" / f"{preset}.yaml"
    raw = load_yaml(path)
    _validate(Preset, raw, str(path))
    return _validate(Config, {**_merge(raw, user), "preset": preset}, "configuration")


def load_architecture(name: str, folder: Path = Path("config")) -> Architecture:
    """Read ``architectures/<name>.yaml``.

    Raises
    ------
    ConfigError
        No such file (with the nearest name) or a wrong key or value.
    """
    path = folder / "architectures" / f"{name}.yaml"
    if not path.is_file():
        names = [p.stem for p in path.parent.glob("*.yaml")]
        like = nearest(name, names)
        raise ConfigError(
            f"architecture {name!r}", f"one of {', '.join(sorted(names))}",
            f"architecture: {like[0]}" if like else f"write {path}",
        )  # fmt: skip
    return _validate(Architecture, load_yaml(path), str(path))


def select_cards(config: Config, root: Path = Path(".")) -> tuple[dict[str, BenchmarkCard], dict[str, ModelCard]]:
    """Return the benchmark cards and the model cards that the configuration asks for.

    Raises
    ------
    ConfigError
        A name in ``benchmarks`` or ``models`` that has no card.
    """
    folder = root / config.cards_dir
    benchmarks = load_cards(folder / "benchmarks", BenchmarkCard)
    models = load_cards(folder / "models", ModelCard)
    return _chosen(config.benchmarks, benchmarks, "benchmarks"), _chosen(config.models, models, "models")


Item = TypeVar("Item", BenchmarkCard, ModelCard)


def _chosen(names: list[str] | Literal["all"], cards: dict[str, Item], key: str) -> dict[str, Item]:
    if names == "all":
        return cards
    for name in names:
        if name not in cards:
            like = nearest(name, cards)
            raise ConfigError(
                f"{key}: no card named {name!r}", f"names of {', '.join(sorted(cards))}",
                f"write {like[0]!r}" if like else f"add config/{key}/{name}.yaml",
            )  # fmt: skip
    return {name: cards[name] for name in names}


def remember_preset(config: Config) -> None:
    """Refuse a results folder that belongs to another preset.

    Raises
    ------
    ConfigError
        With the way out: another ``results_dir``.
    """
    path = Path(config.results_dir) / "preset.json"
    if path.is_file():
        other = json.loads(path.read_text())["preset"]
        if other != config.preset:
            raise ConfigError(
                f"{config.results_dir}/ holds results of preset {other!r}; asked for {config.preset!r}",
                "one preset per results folder, so that numbers of different sizes never mix",
                f"add --config preset={config.preset} results_dir=results_{config.preset} "
                f"(or remove {config.results_dir}/)",
            )


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``config.yaml`` (written to config/schema.json; a test keeps it in step)."""
    out = Config.model_json_schema()
    out["required"] = []
    out["title"] = "sclong configuration"
    return out
