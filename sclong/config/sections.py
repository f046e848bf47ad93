"""The sections of the configuration, typed: every key, its meaning, its unit, its limits. Unknown keys are refused."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sclong.config.architecture import Architecture as Architecture
from sclong.config.architecture import TieRule as TieRule
from sclong.config.cards import Name, Strict


class PretrainConfig(Strict):
    """Masked reconstruction: budget, optimiser, schedule, checkpoints."""

    steps: int = Field(ge=0, description="optimiser steps")
    batch_size: int = Field(ge=1, description="cells per optimiser step")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="cells per forward and backward pass of each process (null: all cells of its share in one pass)",
    )
    optimizer: Literal["adam", "adamw"] = Field(
        default="adam", description="adam (published) or adamw (decoupled weight decay)"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="weight decay of matrices and tables (biases and norms have none)"
    )
    learning_rate: float = Field(gt=0, description="peak learning rate")
    minimum_learning_rate: float = Field(default=1e-6, ge=0)
    schedule: Literal["cosine", "cosine_restarts", "authors"] = Field(
        default="cosine",
        description="learning-rate schedule: cosine (warm-up, then half a cosine until the last step), cosine_restarts "
        "(the same in cycles), or authors (published: cycles in epochs, 15 with 5 of warm-up, later ones longer and "
        "0.9 as high)",
    )
    warmup_steps: int = Field(default=20, ge=0, description="optimiser steps of linear warm-up (in every cycle)")
    restart_steps: int | None = Field(
        default=None, ge=1, description="cosine_restarts: optimiser steps of the first cycle, warm-up included"
    )
    restart_factor: float = Field(
        default=2.0, ge=1, description="cosine_restarts: length of the next cycle's cosine, as a multiple"
    )
    restart_decay: float = Field(
        default=0.9, gt=0, le=1, description="cosine_restarts: peak of the next cycle, as a multiple"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="maximum norm of the gradient")
    mask_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="share of the non-zero values of a cell that are selected"
    )
    replace_fraction: float = Field(default=0.9, gt=0, le=1, description="share of the selected values that are masked")
    mask_zero_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the zeros of a cell that are selected and masked too (published: none)",
    )
    redraw_every: int = Field(
        default=1000, ge=0, description="optimiser steps between redraws of the random features (0: never)"
    )
    validate_every: int = Field(ge=1, description="optimiser steps between evaluations on held-out donors")
    validation_cells: int = Field(ge=1, description="held-out cells per evaluation")
    checkpoint_every: int = Field(ge=1, description="optimiser steps between training checkpoints")
    checkpoint_minutes: float | None = Field(
        default=None, gt=0, description="maximum number of minutes between training checkpoints (null: no limit)"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="number of newest training checkpoints that are kept")
    keep_every: int | None = Field(
        default=None, ge=1, description="keep the checkpoint of every N-th step permanently (null: none)"
    )
    log_every: int = Field(
        default=10, ge=1, description="optimiser steps between lines of the log and of monitor.jsonl"
    )
    explosion_factor: float = Field(
        default=100.0,
        gt=1,
        description="training stops when the loss exceeds this multiple of the loss of the untrained model",
    )
    peak_tflops: float | None = Field(
        default=None,
        gt=0,
        description="peak of a device in 10^12 operations per second, for MFU (null: known for common GPUs)",
    )
    tensorboard: bool = Field(default=False, description="also write TensorBoard files (needs the package tensorboard)")
    normalization: Literal["log1p_cp10k", "cp10k", "paper_log"] = Field(
        default="log1p_cp10k",
        description="counts per 10,000 with (log1p_cp10k) or without (cp10k) log1p, or log(x/10,000 + 1) scaled to a "
        "maximum of 10 in each cell (paper_log: the text of the paper, literally)",
    )
    held_out_by: Literal["donor", "dataset", "cell"] = Field(
        default="donor",
        description="unit that is held out as a whole; with cell (published), donors are on both sides of the split",
    )
    held_out_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the cells that is held out; whole donors (or data sets) that come closest to it are used",
    )
    second_seed: int | None = Field(
        default=None,
        description="seed of a second pretraining (checkpoint and row sclong_seed1), so that tables show the effect "
        "of the random weights, cells and masks (null: none)",
    )
    workers: int = Field(default=0, ge=0, description="prefetching processes per training process (0: none)")
    seed: int = 0
    parallel: Literal["none", "ddp", "fsdp"] = Field(
        default="none",
        description="parallelism of several processes: ddp (each has the whole model) or fsdp (weights, gradients and "
        "optimiser are sharded; layers are gathered in the precision of the architecture)",
    )
    processes: int = Field(default=1, ge=1, description="processes per node, one for each GPU")
    nodes: int = Field(default=1, ge=1, description="nodes of the cluster (more than one: SLURM)")
    tf32: bool = Field(default=True, description="use TF32 for float32 matrix products on a GPU (several times faster)")
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=2, ge=1, description="threads of a process")

    @model_validator(mode="after")
    def _processes_share_the_batch(self) -> PretrainConfig:
        count = self.processes * self.nodes
        if count > 1 and self.parallel == "none":
            raise ValueError(f"{count} processes need parallel: ddp or fsdp")
        if self.batch_size % count:
            raise ValueError(f"batch_size: {self.batch_size} cells cannot be shared equally by {count} processes")
        return self

    @model_validator(mode="after")
    def _second_seed_is_another(self) -> PretrainConfig:
        if self.second_seed == self.seed:
            raise ValueError("second_seed must differ from seed: equal seeds are the same training")
        return self

    @model_validator(mode="after")
    def _cycle_is_longer_than_its_warmup(self) -> PretrainConfig:
        if self.schedule == "cosine_restarts" and (self.restart_steps or 0) <= self.warmup_steps:
            raise ValueError("schedule: cosine_restarts needs restart_steps greater than warmup_steps")
        return self


class CorpusSource(Strict):
    """One data set of the corpus."""

    name: Name
    input: str = Field(description="address: world:FILE, source:ID/FILE, file:PATH or census:DATASET_ID")
    format: Literal["h5ad", "10x_h5", "csv", "mtx"] = Field(
        default="h5ad", description="mtx: a folder or tar archive with matrix.mtx, features.tsv, barcodes.tsv"
    )
    member: str | None = Field(default=None, description="member to read when the file is a tar archive")
    transpose: bool = Field(default=False, description="csv with genes in rows")
    gene_column: str | None = Field(default=None, description="column of var with gene ids; default: found")
    layer: str | None = Field(default=None, description="where the counts are: X, raw or a layer's name")
    round: bool = Field(default=False, description="round values that are no integers, as corrected counts")
    donor_column: str | None = Field(default=None, description="column of obs; default: the whole source is one donor")
    collection: str | None = Field(
        default=None,
        min_length=1,
        description="study: equal donors in sources of one study are one person; default: the source is its own study",
    )
    cell_type_column: str | None = None
    tissue: str = ""
    assay: str = ""
    tissue_column: str | None = Field(default=None, description="column of obs, instead of `tissue` for all cells")
    assay_column: str | None = Field(default=None, description="column of obs, instead of `assay` for all cells")
    optional: bool = Field(default=False, description="left out, with a line in the manifest, where it cannot be had")
    keep_cells: str | None = Field(
        default=None,
        description="condition on columns of obs: comparisons with values, in [...], joined by and, or, not",
    )
    doublet_column: str | None = Field(
        default=None, description="column of obs that flags doublets (true, 1, yes or doublet): they are left out"
    )


class CensusConfig(Strict):
    """Human cells of the CELLxGENE Census."""

    version: str = Field(
        default="2023-12-15",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="release of the Census, in quotes; long-term releases stay available",
    )
    uri: str | None = Field(
        default=None, description="folder or address of a Census; null: the public address of the release"
    )
    tissues: list[str] | None = Field(default=None, min_length=1, description="values of tissue_general; null: all")
    value_filter: str = Field(
        default="is_primary_data == True",
        min_length=1,
        description="condition on obs, in the language of TileDB-SOMA; cells of other organisms are never read",
    )
    parts: int = Field(default=64, ge=1, description="number of jobs that the data sets are divided into")
    piece_cells: int = Field(default=20_000, ge=1, description="cells that are held in memory at a time")
    tiledb: dict[str, str] = Field(
        default={}, description="settings of TileDB, all as text, such as vfs.s3.region where uri is a bucket"
    )


class CellFilters(Strict):
    """Which cells of a source stay, and how they are written."""

    minimum_genes: int = Field(default=200, ge=1, description="cells with fewer detected genes are left out")
    maximum_mitochondrial_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="cells with a greater share of counts of mitochondrial genes (MT-...) are left out; null: no limit",
    )
    cells_per_shard: int = Field(default=100_000, ge=1, description="a shard is held in memory until it is full")


class CorpusConfig(CellFilters):
    """What the model is pretrained on."""

    sources: list[CorpusSource] = []
    census: CensusConfig | None = Field(default=None, description="cells of the CELLxGENE Census, besides `sources`")
    exclude_benchmarks: list[Name] = Field(
        default=[], description="benchmarks whose cells are left out of the corpus, found by their counts"
    )

    @model_validator(mode="after")
    def _some_source(self) -> CorpusConfig:
        if not self.sources and self.census is None:
            raise ValueError("a corpus has sources, or census, or both")
        return self

    @model_validator(mode="after")
    def _distinct_names(self) -> CorpusConfig:
        twice = sorted({s.name for s in self.sources if sum(t.name == s.name for t in self.sources) > 1})
        if twice:
            raise ValueError(f"two sources are named {', '.join(twice)}: each needs a name of its own")
        return self

    @property
    def filters(self) -> CellFilters:
        """The filters alone."""
        return CellFilters(**{name: getattr(self, name) for name in CellFilters.model_fields})


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
    "EXP",
    "IDA",
    "IPI",
    "IMP",
    "IGI",
    "IEP",
    "HTP",
    "HDA",
    "HMP",
    "HGI",
    "HEP",
    "IBA",
    "IBD",
    "IKR",
    "IRD",
    "ISS",
    "ISO",
    "ISA",
    "ISM",
    "IGC",
    "RCA",
    "TAS",
    "NAS",
    "IC",
    "ND",
    "IEA",
]
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


NO_EFFECT = {
    "device",
    "threads",
    "workers",
    "parallel",
    "processes",
    "nodes",
    "micro_batch_size",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "keep_every",
    "log_every",
    "explosion_factor",
    "peak_tflops",
    "tensorboard",
    "second_seed",
}
"""Keys of the configuration that may change while a training goes on (results change by rounding, if at all)."""
