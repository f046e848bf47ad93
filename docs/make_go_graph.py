"""Write docs/go_graph.md and its figure from the real files.

``SCLONG_MIRROR=FOLDER python docs/make_go_graph.py`` takes about three minutes on one core; files lie at <id>/<file>.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from sclong.genes.go_graph import GoGraph, build_go_graph
from sclong.genes.go_terms import gene_terms, read_annotations
from sclong.genes.vocabulary import Vocabulary, build_vocabulary
from sclong.io.files import write_text

HERE = Path(__file__).parent
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "2019-01": ("go_2019/GeneOntology_2019.01.29.obo.gz", "go_2019/GO.goa_human_2019.01.29.gz", {}),
    "2022-09": (
        "go_2022/go_terms_2022-07-01.tsv.gz",
        "go_2022/gene2go_human_ncbi_2022-09-12.tsv.gz",
        {"format": "tables", "parents": "go_2022/go_parents_2022-07-01.tsv.gz"},
    ),
}
GENES = ["TP53", "GAPDH", "INS", "CD3E", "MKI67", "HBB", "ALB", "ACTB", "MYH7", "GFAP", "CDK1", "IFNG", "RPL3", "OR1A1"]
FAMILIES = {
    "ribosomal proteins (RPL, RPS)": r"RP[LS]\d+[AXYL]?\d*",
    "olfactory receptors (OR)": r"OR\d+[A-Z]+\d+[A-Z]*",
    "keratins (KRT)": r"KRT\d+[A-Z]?",
    "major histocompatibility complex (HLA-)": r"HLA-.*",
    "homeobox (HOX)": r"HOX[A-D]\d+",
    "proteasome (PSM)": r"PSM[A-E]\d+",
    "interferon alpha (IFNA)": r"IFNA\d+",
    "respiratory complex I (NDUF, MT-ND)": r"NDUF[ABCSV]\d+|MT-ND\d.*",
}
SAMPLE = 1000
NOTHING, LOST = "genes annotated by ND alone", "self loops lost under `go.rule: authors`"

TEXT = """# The gene similarity graph

Two genes are joined where the Gene Ontology annotates them alike: Jaccard index of their term sets above 0.1, the 20 most similar genes of each,
and the gene itself. The graph is directed, from the similar gene to the target; ties go by vocabulary order. Options are in the section `go` of the
configuration, reasons in [decisions/0009-go-annotations.md](decisions/0009-go-annotations.md), time and memory in
[benchmarks/results/go_graph.md](../benchmarks/results/go_graph.md).

This page is written by `docs/make_go_graph.py` from real files, over a vocabulary of 27,874 genes (built without a corpus: all {coding:,} coding genes,
and non-coding ones by id). The files of 2019 are an OBO and a GAF; those of 2022 are tables exported from Bioconductor, of an ontology of July and
annotations of September.

## Two releases

| | {names} |
|---|{dashes}|
{rows}

{shared}

![Number of genes by the number of edges that leave them](images/go_graph_degrees.svg)

Genes without annotation have no edge, not even to themselves; the model gives them the bias of the graph's layer. In the two releases
{bare} such genes are coding ones.

What the options change:

- `go.propagate`: with ancestors counted too, {above} of all pairs of annotated genes are above 0.1, so that the threshold chooses little.
- `go.rule: authors`: {lost} genes lose their self loop to twins that come earlier in the vocabulary.
- `go.evidence_excluded: [ND]`: {nothing} genes are annotated by ND alone ("no data": somebody looked, and nothing is known). They share root terms
  only, so that each becomes the neighbour of others of which nothing is known either.

## Would a biologist agree?

The most similar genes of some that everybody knows, with their Jaccard index:

| gene | {names} |
|---|{dashes}|
{neighbours}

Genes of one complex, family or pathway should stand beside each other; where they do not, the annotation is broad (GAPDH, ACTB) or rich and
particular to the gene (TP53), so that few others share most of it. MKI67 is known as a marker of dividing cells, but stands among proteins of the nucleus and
nucleolus: the graph knows what a protein does and where it is found, not when it is made.

Families by symbol: of the edges into their genes (self loops aside), the share that comes from the same family, and what chance would give.

| family | genes | {names} | chance |
|---|---|{dashes}|---|
{families}
"""


def main() -> None:
    """Build the graphs, describe them."""
    mirror = Path(os.environ["SCLONG_MIRROR"])
    vocabulary = build_vocabulary(
        mirror / "gencode_genes/human_ensembl_latest.csv.gz", mirror / "hgnc/hgnc_entries.tsv", None, 27_874
    )
    symbols = vocabulary.table["symbol"].fillna("").tolist()
    graphs, rows, above = {}, [], []
    for name, (obo, annotation, options) in FILES.items():
        files = mirror / obo, mirror / annotation
        options = {**options, **({"parents": mirror / options["parents"]} if "parents" in options else {})}
        graphs[name] = build_go_graph(*files, vocabulary, **options)
        theirs = build_go_graph(*files, vocabulary, rule="authors", **options)
        without = gene_terms(read_annotations(*files, **options, evidence_excluded=["ND"])[0], vocabulary)
        direct, up = (share_above(files, vocabulary, propagate=p, **options) for p in (False, True))
        above.append(f"{100 * up:.0f} %")
        rows.append(
            {
                **describe(graphs[name]),
                "pairs of annotated genes above 0.1": f"{100 * direct:.1f} %",
                "the same, propagated to ancestors": above[-1],
                NOTHING: f"{graphs[name].metadata['annotated_genes'] - sum(map(bool, without)):,}",
                LOST: f"{theirs.metadata['annotated_genes'] - theirs.metadata['self_loops']:,}",
            }
        )
    edges = [set(zip(targets(g).tolist(), g.indices.tolist(), strict=True)) for g in graphs.values()]
    both = len(edges[0] & edges[1])
    shared = (
        f"{both:,} edges are in both: {100 * both / len(edges[0]):.0f} % of the older graph, "
        f"{100 * both / len(edges[1]):.0f} % of the newer. {_kept(graphs)}"
    )
    figure(graphs)
    biotype = vocabulary.table["biotype"].fillna("").to_numpy()
    bare = [biotype[np.diff(g.indptr)[:-1] == 0] for g in graphs.values()]
    coding = " and ".join(f"{(b == 'protein_coding').sum():,} of {len(b):,}" for b in bare)
    write_text(
        HERE / "go_graph.md",
        TEXT.format(
            names=" | ".join(graphs),
            dashes="|".join("---" for _ in graphs),
            shared=shared,
            coding=int((biotype == "protein_coding").sum()),
            above=" and ".join(above),
            bare=coding,
            lost=" and ".join(row[LOST] for row in rows),
            nothing=" and ".join(row[NOTHING] for row in rows),
            rows="\n".join(f"| {key} | {' | '.join(row[key] for row in rows)} |" for key in rows[0]),
            neighbours="\n".join(
                f"| {gene} | {' | '.join(neighbours(g, symbols, gene) for g in graphs.values())} |" for gene in GENES
            ),
            families="\n".join(family(name, pattern, vocabulary, graphs) for name, pattern in FAMILIES.items()),
        ),
    )


def targets(graph: GoGraph) -> np.ndarray:
    """Return the target of each edge."""
    return np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))


def describe(graph: GoGraph) -> dict[str, str]:
    """Return what the table shows of a graph."""
    into = np.diff(graph.indptr)
    out = np.bincount(graph.indices, minlength=len(into))
    facts, known = graph.metadata, into > 0
    most = f"{np.median(out[known]):.0f} / {np.percentile(out[known], 99):.0f} / {out.max():,}"
    return {
        "annotated genes": f"{facts['annotated_genes']:,}",
        "genes without annotation": f"{facts['isolated_genes']:,}",
        "annotations read": f"{facts['annotations']:,}",
        "of them left out, qualified NOT": f"{facts['annotations_left_out_negated']:,}",
        "terms": f"{facts['terms']:,}",
        "edges": f"{graph.n_edges:,}",
        "annotated genes with 21 edges into them": f"{100 * (into[known] == 21).mean():.1f} %",
        "genes with themselves only": f"{int((into == 1).sum()):,}",
        "edges out of a gene, median / 99 % / most": most,
        "Jaccard index of edges, median (without self)": f"{np.median(graph.weights[targets(graph) != graph.indices]):.2f}",
    }


def _kept(graphs: dict[str, GoGraph]) -> str:
    """Say how many neighbours genes of both graphs keep."""
    old, new = graphs.values()
    kept = [
        len(np.intersect1d(old.indices[a:b], new.indices[c:d])) - 1
        for a, b, c, d in zip(old.indptr, old.indptr[1:], new.indptr, new.indptr[1:], strict=False)
        if b > a and d > c
    ]
    return f"Of {len(kept):,} genes annotated in both, the median one keeps {np.median(kept):.0f} of its neighbours."


def share_above(files: tuple[Path, Path], vocabulary: Vocabulary, **options: Any) -> float:
    """Return the share of pairs of different annotated genes above 0.1: of a sample of genes with all."""
    terms = [mine for mine in gene_terms(read_annotations(*files, **options)[0], vocabulary) if mine]
    column = {term: k for k, term in enumerate(sorted(set().union(*terms)))}
    sizes = np.array([len(mine) for mine in terms])
    columns = [column[term] for mine in terms for term in mine]
    ones = np.ones(len(columns), np.float32)
    matrix = sparse.csr_matrix((ones, columns, np.concatenate([[0], np.cumsum(sizes)])), (len(terms), len(column)))
    some = np.random.default_rng(0).choice(len(terms), SAMPLE, replace=False)
    common = (matrix[some] @ matrix.T).toarray()
    above = int((common / (sizes[some][:, None] + sizes - common) > 0.1).sum())
    return (above - SAMPLE) / (SAMPLE * (len(terms) - 1))


def neighbours(graph: GoGraph, symbols: list[str], gene: str) -> str:
    """Return a field of the table of neighbours."""
    target = symbols.index(gene)
    part = slice(graph.indptr[target], graph.indptr[target + 1])
    found = sorted(zip(-graph.weights[part], graph.indices[part], strict=True))
    best = [f"{symbols[s]} {-w:.2f}" for w, s in found if s != target][:5]
    return ", ".join(best) or "none above 0.1"


def family(name: str, pattern: str, vocabulary: Vocabulary, graphs: dict[str, GoGraph]) -> str:
    """Return a row of the table of families."""
    table = vocabulary.table
    mine = (
        table["symbol"].fillna("").str.fullmatch(pattern).to_numpy() & (table["biotype"] == "protein_coding").to_numpy()
    )
    shares = []
    for graph in graphs.values():
        mine_here = np.append(mine, False) & (np.diff(graph.indptr) > 0)
        target = targets(graph)
        into = mine_here[target] & (target != graph.indices)
        shares.append(f"{100 * mine_here[graph.indices[into]].mean():.0f} %")
    chance = mine_here.sum() / graphs["2022-09"].metadata["annotated_genes"]
    return f"| {name} | {mine.sum():,} | {' | '.join(shares)} | {100 * chance:.1f} % |"


def figure(graphs: dict[str, GoGraph]) -> None:
    """Draw how many genes have how many edges leaving them."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sclong", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    axes = plt.figure(figsize=(6, 3.2), layout="constrained").gca()
    bins = np.unique(np.geomspace(1, 1000, 25).astype(int))
    for name, graph in graphs.items():
        out = np.bincount(graph.indices, minlength=len(graph.indptr) - 1)
        share = np.histogram(out[out > 0], bins)[0] / np.diff(bins)
        axes.stairs(share, bins, label=f"release {name}")
    axes.set(xscale="log", yscale="log", xlabel="edges that leave a gene (genes it is a neighbour of, itself included)")
    axes.set_ylabel("genes per number of edges")
    axes.legend(frameon=False)
    (HERE / "images").mkdir(exist_ok=True)
    axes.figure.savefig(HERE / "images/go_graph_degrees.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
