"""Write docs/go_graph.md and its figure from the real files: ``SCLONG_MIRROR=... python docs/make_go_graph.py``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sclong.data.vocabulary import build_vocabulary
from sclong.io.files import write_text
from sclong.knowledge.similarity import GoGraph, build_go_graph

HERE = Path(__file__).parent
GENES = ["TP53", "GAPDH", "INS", "CD3E", "MKI67", "HBB", "ALB", "ACTB", "MYH7", "GFAP", "CDK1", "IFNG", "RPL3", "OR1A1"]

TEXT = """# The gene similarity graph

Two genes are joined where the Gene Ontology annotates them alike: Jaccard index of their term sets above 0.1, the 20 most similar genes of each,
and the gene itself. The graph is directed, from the similar gene to the target; ties go by vocabulary order. Options are in the section `go` of the
configuration, reasons in [decisions/0009-go-annotations.md](decisions/0009-go-annotations.md).

This page is written by `docs/make_go_graph.py` from real files, over a vocabulary of 27,874 genes (built without a corpus: its non-coding genes are
taken by id).

## Two releases

| | {names} |
|---|{dashes}|
{rows}

{shared}

![Number of genes by the number of edges that leave them](images/go_graph_degrees.svg)

Genes without annotation have no edge, not even to themselves; the model gives them the bias of the graph's layer. They are mostly non-coding.

## Would a biologist agree?

The most similar genes of some that everybody knows, release {first}, with their Jaccard index:

| gene | terms shared most with |
|---|---|
{neighbours}

Genes of one complex, family or pathway should stand beside each other; where they do not, the annotation is broad (GAPDH, ACTB) or rich and
particular to the gene (TP53), so that few others share most of it.
"""


def main() -> None:
    """Build both graphs, describe them."""
    mirror = Path(os.environ["SCLONG_MIRROR"])
    vocabulary = build_vocabulary(
        mirror / "gencode_genes/human_ensembl_latest.csv.gz", mirror / "hgnc/hgnc_entries.tsv", None, 27_874
    )
    old = mirror / "go_2019"
    new = mirror / "go_2022"
    graphs = {
        "2019-01": build_go_graph(
            old / "GeneOntology_2019.01.29.obo.gz", old / "GO.goa_human_2019.01.29.gz", vocabulary
        ),
        "2022-09": build_go_graph(
            new / "go_terms_2022-07-01.tsv.gz",
            new / "gene2go_human_ncbi_2022-09-12.tsv.gz",
            vocabulary,
            format="tables",
        ),
    }
    rows = [describe(graph) for graph in graphs.values()]
    keys = list(rows[0])
    edges = [set(zip(targets(g).tolist(), g.indices.tolist(), strict=True)) for g in graphs.values()]
    both = len(edges[0] & edges[1])
    shared = (
        f"{both:,} edges are in both: {100 * both / len(edges[0]):.0f} % of the older graph, "
        f"{100 * both / len(edges[1]):.0f} % of the newer."
    )
    figure(graphs)
    first = next(iter(graphs))
    write_text(
        HERE / "go_graph.md",
        TEXT.format(
            names=" | ".join(graphs), dashes="|".join("---" for _ in graphs), shared=shared, first=first,
            rows="\n".join(f"| {key} | {' | '.join(str(row[key]) for row in rows)} |" for key in keys),
            neighbours="\n".join(neighbours(graphs[first], vocabulary.table["symbol"].tolist(), g) for g in GENES),
        ),
    )  # fmt: skip


def targets(graph: GoGraph) -> np.ndarray:
    """Return the target of each edge."""
    return np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))


def describe(graph: GoGraph) -> dict[str, str]:
    """Return what the table shows of a graph."""
    into = np.diff(graph.indptr)
    out = np.bincount(graph.indices, minlength=len(into))
    facts, known = graph.metadata, into > 0
    return {
        "annotated genes": f"{facts['annotated_genes']:,}",
        "genes without annotation": f"{facts['isolated_genes']:,}",
        "annotations read": f"{facts['annotations']:,}",
        "terms": f"{facts['terms']:,}",
        "edges": f"{graph.n_edges:,}",
        "edges into a gene, median": f"{np.median(into[known]):.0f}",
        "genes with themselves only": f"{int((into == 1).sum()):,}",
        "edges out of a gene, median / 99 % / most": f"{np.median(out[known]):.0f} / {np.percentile(out[known], 99):.0f} / {out.max():,}",
        "Jaccard index of edges, median (without self)": f"{np.median(graph.weights[targets(graph) != graph.indices]):.2f}",
    }


def neighbours(graph: GoGraph, symbols: list[str], gene: str) -> str:
    """Return a row of the table of neighbours."""
    target = symbols.index(gene)
    part = slice(graph.indptr[target], graph.indptr[target + 1])
    found = sorted(zip(-graph.weights[part], graph.indices[part], strict=True))
    best = [f"{symbols[s]} {-w:.2f}" for w, s in found if s != target][:6]
    return f"| {gene} | {', '.join(best) or 'none above 0.1'} |"


def figure(graphs: dict[str, GoGraph]) -> None:
    """Draw how many genes have how many edges leaving them."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "sclong"
    import matplotlib.pyplot as plt

    axes = plt.figure(figsize=(6, 3.2), layout="constrained").gca()
    for name, graph in graphs.items():
        out = np.bincount(graph.indices, minlength=len(graph.indptr) - 1)
        counts = np.bincount(out)[1:]
        axes.loglog(np.flatnonzero(counts) + 1, counts[counts > 0], ".", label=f"release {name}", alpha=0.6)
    axes.set_xlabel("edges that leave a gene (genes it is a neighbour of, itself included)")
    axes.set_ylabel("genes")
    axes.legend(frameon=False)
    (HERE / "images").mkdir(exist_ok=True)
    axes.figure.savefig(HERE / "images/go_graph_degrees.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
