"""Gene regulatory networks: rank transcription factor -> target pairs, judged by a known network.

The data set follows BEELINE (Pratapa et al. 2020): genes detected in enough cells; every transcription factor of the
network among them, and the most variable other genes ("TFs+1000"); the network restricted to these genes. Judged are
all pairs of its regulators with its genes (regulators and targets), without self pairs; genes without any edge only if
the card says so (judge_all_genes).

Files of a data set: ``expression.h5ad`` (some cells, all genes: what embedding models see), ``cells.h5ad`` (all cells,
where those are not all), ``network_expression.npz`` and ``genes.tsv`` (all cells, the judged genes: what predictors
see), ``edges.tsv`` (the truth), ``species.txt``, and ``go_terms.npz`` (genes x terms, where annotations are given).

Problem: `samples` are regulators (column part), `outputs` are genes, `targets` the adjacency 0/1; `context` holds
``expression`` ((cells, genes) csr float32, log1p_cp10k or as published, columns as `outputs`), ``gene_names``
(= `outputs`), ``species`` and, where annotations are given, ``go_terms`` ((genes, terms) csr float32).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.benchmark.task import Task
from sclong.cells.h5ad import read_expression
from sclong.cells.normalize import check_counts, log1p_cp10k
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.io.files import write_text
from sclong.io.tables import read_tsv, write_tsv
from sclong.seeding import rng
from sclong.tasks.grn_inference import metrics as grn
from sclong.tasks.grn_inference import networks

SCENARIO = "all_genes"
NULL_NETWORKS = 199


class GrnOptions(Strict):
    """Options of :meth:`GrnInference.prepare`."""

    expression_format: Literal["h5ad", "10x_h5", "csv", "unnamed_matrix"] = "h5ad"
    transpose: bool = Field(default=False, description="genes stand in rows (csv)")
    layer: str | None = None
    gene_column: str | None = Field(default=None, description="column of .var that holds symbols")
    value_kind: Literal["counts", "log1p_cp10k", "nonnegative"] = "counts"
    species: networks.Species = "human"
    network_format: networks.NetworkFormat = "edges"
    network_columns: tuple[str, str] = Field(default=("Gene1", "Gene2"), description="columns of regulator and target")
    max_genes: int | None = Field(default=1000, ge=0, description="most variable genes besides regulators; null: all")
    judge_all_genes: bool = Field(
        default=False, description="judge selected genes without any edge too; BEELINE leaves them out"
    )
    max_cells_embedding: int = Field(default=200, ge=1, description="cells that embedding models see, drawn once")
    min_cells: int = Field(default=10, ge=0, description="cells in which a gene must be detected")


class GrnInference(Task):
    """Rank regulator -> target pairs (see the module)."""

    name = "grn_inference"
    native = "edge_scores"
    needs = "gene_embedding"
    metrics: ClassVar[Mapping[str, str]] = {
        "aupr_ratio": "max",
        "epr": "max",
        "auroc": "max",
        "aupr_ratio_published": "max",
        "aupr_ratio_beeline": "max",
        "epr_beeline": "max",
        "p_value": "min",
    }

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Select genes and edges, write the data set.

        Parameters
        ----------
        inputs
            ``expression``; ``network`` (csv with Gene1, Gene2: regulator, target; symbols). Optionally ``tfs`` (csv
            with a column TF: regulators of the network that are not in it are left out), ``gene_order`` (BEELINE's
            GeneOrdering.csv: genes are chosen by its rule, see :func:`.varying_genes`),
            ``gene_names`` (of matrices without names), ``obo`` and ``annotation`` (GAF: Gene Ontology terms of each
            symbol, all aspects, direct annotations).
        options
            See :class:`GrnOptions`.
        out
            Folder to fill.

        Returns
        -------
        dict
            Cells, genes, regulators, edges, positive rate, and how many edges were left out for which reason.

        Raises
        ------
        InputDataError
            When no edge of the network connects genes of the expression data, or their genes are of a mouse and the
            card does not say so.
        """
        chosen = parse_options(GrnOptions, options, self.name)
        adata = _read(inputs, chosen)
        networks.check_species(list(adata.var_names), chosen.species, str(inputs["expression"]))
        merge = _sum_duplicates if chosen.value_kind == "counts" else _mean_duplicates
        counts, genes = merge(sparse.csr_matrix(adata.X), np.asarray(adata.var_names, dtype=str))
        filled = np.flatnonzero(counts.sum(axis=1).A1 > 0)
        counts, cells = counts[filled], np.asarray(adata.obs_names, dtype=str)[filled]
        if chosen.value_kind == "counts":
            check_counts(counts, str(inputs["expression"]))
            values = sparse.csr_matrix(log1p_cp10k(counts))
        else:
            values = counts
        edges, facts, selected = _judged_edges(inputs, chosen, values, genes)
        judged = sorted(selected) if chosen.judge_all_genes else edges.gene_names
        columns = pd.Index(genes).get_indexer(judged)
        _write(out, counts, cells, genes, chosen)
        sparse.save_npz(out / "network_expression.npz", values[:, columns].astype(np.float32))
        write_tsv(pd.DataFrame({"gene": judged}), out / "genes.tsv")
        write_tsv(pd.DataFrame({"Gene1": edges.regulators, "Gene2": edges.targets}), out / "edges.tsv")
        write_text(out / "species.txt", f"{chosen.species}\n")
        if "annotation" in inputs:
            facts["annotated_genes"] = _write_terms(inputs, judged, out)
        regulators = edges.regulator_names
        pairs = grn.candidate_pairs(regulators, judged)
        return facts | {
            "cells": len(cells),
            "empty_cells_dropped": adata.n_obs - len(cells),
            "gene_names_merged": adata.n_vars - len(genes),
            "genes_judged": len(judged),
            "regulators": len(regulators),
            "edges": len(edges.regulators),
            "candidate_pairs": int(pairs.sum()),
            "positive_rate": grn.positive_rate(grn.adjacency(edges, regulators, judged), pairs),
        }

    def split(self, dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
        """Return one fold in which every regulator is a test sample (policy "none")."""
        check_policy(policy, ["none"], self.name)
        parse_options(Strict, options, f"{self.name}, split none")
        regulators = _edges(dataset).regulator_names
        return pd.DataFrame({"fold": "0", "sample": regulators, "part": "test", "scenario": SCENARIO})

    def problems(self, dataset: Path, split: pd.DataFrame, *, sees_truth: bool = False) -> Iterator[Problem]:
        """Yield the one problem (see the module for its layout)."""
        genes = _genes(dataset)
        context: dict[str, Any] = {
            "expression": sparse.csr_matrix(sparse.load_npz(dataset / "network_expression.npz")),
            "gene_names": genes,
            "species": (dataset / "species.txt").read_text(encoding="utf-8").strip(),
        }
        if (dataset / "go_terms.npz").is_file():
            context["go_terms"] = sparse.csr_matrix(sparse.load_npz(dataset / "go_terms.npz"))
        for fold, rows in split.groupby("fold", sort=False):
            regulators = rows["sample"].tolist()
            truth = grn.adjacency(_edges(dataset), regulators, genes).astype(np.float32)
            yield Problem(
                task=self.name,
                fold=str(fold),
                samples=pd.DataFrame({"part": rows["part"].to_numpy()}, index=regulators),
                targets=truth if sees_truth else np.full_like(truth, np.nan),
                outputs=genes,
                context=context,
            )

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Score each pair by the cosine of the two gene vectors, sign kept; -1, no prediction, if one is unmapped.

        The published run starts DeepSEM from inner products of L1-normalised vectors instead and reports its weights
        (the models grn_deepsem_sclong and grn_sclong_inner).
        """
        return cosine_scores(problem, *gene_vectors(problem, features))

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Return the measures of :mod:`.metrics` over all candidate pairs.

        An answer may be several networks of one training, side by side; measures are then means over them.
        ``p_value`` is that of the average precision against 199 networks of the same shape whose genes have exchanged
        their names; its least value is 0.005.
        """
        genes = _genes(dataset)
        blocks = _columns(predictions.outputs, genes, dataset.name)
        parts = []
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            found = _fold_scores(_edges(dataset), rows["sample"].tolist(), genes, [values[:, b] for b in blocks], fold)
            n = int(grn.candidate_pairs(rows["sample"].tolist(), genes).sum())
            parts += [(SCENARIO, metric, value, n, "regulator-gene pairs") for metric, value in found.items()]
        return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


def _columns(outputs: np.ndarray, genes: list[str], dataset: str) -> list[np.ndarray]:
    """Return for each network of an answer the columns of the genes: one, or several that stand side by side."""
    several = len(outputs) // len(genes)
    if several > 1 and np.array_equal(outputs, np.arange(several * len(genes)).astype(str)):
        return list(np.arange(len(outputs)).reshape(several, len(genes)))
    columns = pd.Index(outputs).get_indexer(pd.Index(genes))
    if (columns < 0).any():
        raise InputDataError(
            f"predictions for {len(outputs)} genes, {int((columns < 0).sum())} of {len(genes)} missing",
            f"the genes of the data set {dataset}",
            "make the predictions again: they belong to another data set",
        )
    return [columns]


def _fold_scores(
    edges: grn.EdgeList, regulators: list[str], genes: list[str], networks: list[np.ndarray], fold: str
) -> dict[str, float]:
    """Return the measures, means over `networks`, and the p-value of the mean average precision."""
    truth, pairs = grn.adjacency(edges, regulators, genes), grn.candidate_pairs(regulators, genes)
    own = pd.Index(genes).get_indexer(pd.Index(regulators))
    found, observed, nulls = [], [], []
    for scores in networks:
        ranking = grn.Ranking.of(truth, scores, pairs)
        found.append(grn.measures(truth, scores, pairs, ranking))
        draw = rng("grn_inference", "relabelled networks", fold)  # the same networks each time
        nulls.append(grn.relabelled_average_precision(truth, scores, ranking, own, draw, NULL_NETWORKS))
        observed.append(ranking.average_precision())
    p_value = grn.p_value(float(np.mean(observed)), np.mean(nulls, axis=0))
    return pd.DataFrame(found).mean().to_dict() | {"p_value": p_value}


def _read(inputs: Mapping[str, Path], chosen: GrnOptions) -> anndata.AnnData:
    """Read the expression file; cells in rows."""
    if chosen.expression_format == "unnamed_matrix":
        return networks.read_unnamed_expression(inputs["expression"], inputs.get("gene_names"))
    return read_expression(
        inputs["expression"],
        chosen.expression_format,
        transpose=chosen.transpose,
        layer=chosen.layer,
        gene_column=chosen.gene_column,
    )


def _write_terms(inputs: Mapping[str, Path], genes: list[str], out: Path) -> int:
    """Write the GO terms of the judged genes; return how many genes have one."""
    from sclong.genes.go_terms import read_annotations, term_incidence

    terms, _ = read_annotations(inputs["obo"], inputs["annotation"], aspects=("BP", "MF", "CC"), propagate=False)
    incidence = term_incidence(genes, terms)
    sparse.save_npz(out / "go_terms.npz", incidence)
    return int((incidence.getnnz(axis=1) > 0).sum())


def _sum_duplicates(counts: sparse.csr_matrix, genes: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Add up columns with one name; names in order of first appearance."""
    code, names = pd.factorize(genes)
    if len(names) == len(genes):
        return counts, genes
    gather = sparse.csr_matrix((np.ones(len(genes), np.float32), (np.arange(len(genes)), code)))
    return sparse.csr_matrix(counts @ gather), np.asarray(names, dtype=str)


def _mean_duplicates(values: sparse.csr_matrix, genes: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Average columns with one name (logarithms do not add up)."""
    total, names = _sum_duplicates(values, genes)
    if len(names) < len(genes):
        total = sparse.csr_matrix(total @ sparse.diags(1.0 / np.bincount(pd.Index(names).get_indexer(genes))))
    return total.astype(np.float32), names


def _judged_edges(
    inputs: Mapping[str, Path], chosen: GrnOptions, values: sparse.csr_matrix, genes: np.ndarray
) -> tuple[grn.EdgeList, dict[str, Any], list[str]]:
    """Restrict the network to detected genes, then to its regulators and the most variable other genes."""
    network = networks.read_network(
        inputs["network"], chosen.network_format, chosen.network_columns, inputs.get("gene_names")
    )
    tfs = networks.read_regulators(inputs["tfs"]) if "tfs" in inputs else None
    detected = values.getnnz(axis=0) >= chosen.min_cells
    measured = dict.fromkeys(genes[detected].tolist())
    first = grn.clean_edges(network["Gene1"], network["Gene2"], list(measured), tfs)
    if "gene_order" in inputs:
        named = networks.varying_genes(inputs["gene_order"], tfs or first.regulator_names, chosen.max_genes)
        selected = [g for g in named if g in measured]
    else:
        others = np.flatnonzero(detected & ~np.isin(genes, first.regulator_names))
        order = np.argsort(-_variance(values)[others], kind="stable")[: chosen.max_genes]
        selected = np.concatenate([first.regulator_names, genes[others[order]]]).tolist()
    edges = grn.clean_edges(first.regulators.tolist(), first.targets.tolist(), selected)
    if not len(edges.regulators):
        raise InputDataError(
            f"{inputs['network']}: none of {len(network)} edges joins two of {int(detected.sum())} detected genes of "
            f"{inputs['expression']}; genes are {listing(genes, 3)}, in the network {listing(network['Gene1'], 3)}",
            "gene symbols in both files (of one species)",
            "name the column that holds symbols (option gene_column), or lower min_cells",
        )
    return (
        edges,
        {
            "genes_detected": int(detected.sum()),
            "genes_selected": len(selected),
            "edges_in_file": len(network),
            "edges_dropped": first.dropped | {"not_selected": edges.dropped["unknown_genes"]},
            "network_genes_not_detected": first.missing_genes,
        },
        selected,
    )


def _variance(values: sparse.csr_matrix) -> np.ndarray:
    mean = values.mean(axis=0).A1
    return values.multiply(values).mean(axis=0).A1 - mean**2


def _write(out: Path, counts: sparse.csr_matrix, cells: np.ndarray, genes: np.ndarray, chosen: GrnOptions) -> None:
    """Write the cells that embedding models see and, where these are not all, all: none of them is pretrained on."""
    adata = anndata.AnnData(counts.astype(np.float32), obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))
    adata.uns["value_kind"] = chosen.value_kind
    size = min(chosen.max_cells_embedding, len(cells))
    drawn = np.sort(rng("grn_inference", "cells to embed").choice(len(cells), size=size, replace=False))
    adata[drawn].write_h5ad(out / "expression.h5ad")
    if size < len(cells):
        adata.write_h5ad(out / "cells.h5ad")


def _genes(dataset: Path) -> list[str]:
    return read_tsv(dataset / "genes.tsv", ["gene"], dtype=str, na_values=[])["gene"].tolist()


def _edges(dataset: Path) -> grn.EdgeList:
    table = read_tsv(dataset / "edges.tsv", ["Gene1", "Gene2"], dtype=str, na_values=[])
    return grn.clean_edges(table["Gene1"], table["Gene2"], _genes(dataset))


def gene_vectors(problem: Problem, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return a model's vectors of the genes of a problem.

    Returns
    -------
    (vectors, mapped)
        (genes, d) float32, and (genes,) bool: which genes the model knows.

    Raises
    ------
    InputDataError
        When the genes are not human, or the embedding is of other genes.
    """
    if problem.context["species"] != "human":
        raise InputDataError(
            f"genes of a {problem.context['species']}; embedding {features.model!r} is of human genes",
            "human genes",
            "write needs: [edge_scores] in the benchmark's card, and leave this model out of it (models)",
        )
    assert features.gene_embedding is not None
    positions = pd.Index(features.genes).get_indexer(pd.Index(problem.outputs))
    if (positions < 0).any():
        missing = [g for g, p in zip(problem.outputs, positions, strict=True) if p < 0]
        raise InputDataError(
            f"embedding of {features.model!r}: no row for {listing(missing)}",
            "one row for every gene of the data set's expression.h5ad",
            "delete the embedding's folder and let it be made again",
        )
    return features.gene_embedding[positions], features.gene_mapped[positions]


def cosine_scores(problem: Problem, vectors: np.ndarray, mapped: np.ndarray) -> np.ndarray:
    """Return the cosine of regulator and gene, (regulators, genes) float32; -1 where one of them is not mapped.

    Only there: vectors that point in opposite directions score the next number above.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    regulators = pd.Index(problem.outputs).get_indexer(pd.Index(problem.test_samples))
    scores = (unit[regulators] @ unit.T).astype(np.float32)
    np.maximum(scores, np.nextafter(np.float32(grn.NO_PREDICTION), np.float32(0)), out=scores)
    scores[~mapped[regulators]] = grn.NO_PREDICTION
    scores[:, ~mapped] = grn.NO_PREDICTION
    return scores


TASK = GrnInference()
