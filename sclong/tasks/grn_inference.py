"""Gene regulatory networks: rank transcription factor -> target pairs, judged by a known network.

The data set follows BEELINE (Pratapa et al. 2020): genes detected in enough cells; every transcription factor of the
network among them, and the most variable other genes ("TFs+1000"); the network restricted to these genes. Judged are
all pairs of its regulators with its genes (regulators and targets), without self pairs; genes without any edge are not.

Files of a data set: ``expression.h5ad`` (some cells, all genes: what embedding models see), ``network_expression.npz``
and ``genes.tsv`` (all cells, the judged genes: what predictors see), ``edges.tsv`` (the truth).

Problem: `samples` are regulators (column part), `outputs` are genes, `targets` the adjacency 0/1; `context` holds
``expression`` ((cells, genes) csr float32, log1p_cp10k, columns as `outputs`) and ``gene_names`` (= `outputs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.cards import Strict
from sclong.data.normalize import check_counts, log1p_cp10k
from sclong.errors import InputDataError, listing
from sclong.io.h5ad import read_expression
from sclong.io.tables import read_tsv, write_tsv
from sclong.metrics import grn
from sclong.seeding import rng
from sclong.tasks.base import Features, Predictions, Problem, Task
from sclong.tasks.options import check_policy, parse_options
from sclong.tasks.predictions import answers_to

SCENARIO = "all_genes"
UNMAPPED_SCORE = -1.0


class GrnOptions(Strict):
    """Options of :meth:`GrnInference.prepare`."""

    expression_format: Literal["h5ad", "10x_h5", "csv"] = "h5ad"
    transpose: bool = Field(default=False, description="genes stand in rows (csv)")
    layer: str | None = None
    gene_column: str | None = Field(default=None, description="column of .var that holds symbols")
    value_kind: Literal["counts", "log1p_cp10k", "nonnegative"] = "counts"
    max_genes: int | None = Field(default=1000, ge=0, description="most variable genes besides regulators; null: all")
    max_cells_embedding: int = Field(default=200, ge=1, description="cells that embedding models see, drawn once")
    min_cells: int = Field(default=10, ge=1, description="cells in which a gene must be detected")


class GrnInference(Task):
    """Rank regulator -> target pairs (see the module)."""

    name = "grn_inference"
    native = "edge_scores"
    needs = "gene_embedding"
    metrics: ClassVar[Mapping[str, str]] = {"aupr_ratio": "max", "epr": "max", "auroc": "max"}

    def prepare(self, inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Select genes and edges, write the data set.

        Parameters
        ----------
        inputs
            ``expression``; ``network`` (csv with Gene1, Gene2: regulator, target; symbols); optionally ``tfs`` (csv
            with a column TF: regulators of the network that are not in it are left out).
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
            When no edge of the network connects genes of the expression data.
        """
        chosen = parse_options(GrnOptions, options, self.name)
        adata = read_expression(
            inputs["expression"],
            chosen.expression_format,
            transpose=chosen.transpose,
            layer=chosen.layer,
            gene_column=chosen.gene_column,
        )
        counts, genes = _sum_duplicates(sparse.csr_matrix(adata.X), np.asarray(adata.var_names, dtype=str))
        filled = np.flatnonzero(counts.sum(axis=1).A1 > 0)
        counts, cells = counts[filled], np.asarray(adata.obs_names, dtype=str)[filled]
        if chosen.value_kind == "counts":
            check_counts(counts, str(inputs["expression"]))
            values = sparse.csr_matrix(log1p_cp10k(counts))
        else:
            values = counts
        edges, facts = _judged_edges(inputs, chosen, values, genes)
        judged = edges.gene_names
        columns = pd.Index(genes).get_indexer(judged)
        _write(out, counts, cells, genes, chosen)
        sparse.save_npz(out / "network_expression.npz", values[:, columns].astype(np.float32))
        write_tsv(pd.DataFrame({"gene": judged}), out / "genes.tsv")
        write_tsv(pd.DataFrame({"Gene1": edges.regulators, "Gene2": edges.targets}), out / "edges.tsv")
        regulators = edges.regulator_names
        pairs = grn.candidate_pairs(regulators, judged)
        return facts | {
            "cells": len(cells),
            "empty_cells_dropped": adata.n_obs - len(cells),
            "gene_names_summed": adata.n_vars - len(genes),
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
        expression = sparse.csr_matrix(sparse.load_npz(dataset / "network_expression.npz"))
        for fold, rows in split.groupby("fold", sort=False):
            regulators = rows["sample"].tolist()
            truth = grn.adjacency(_edges(dataset), regulators, genes).astype(np.float32)
            yield Problem(
                task=self.name,
                fold=str(fold),
                samples=pd.DataFrame({"part": rows["part"].to_numpy()}, index=regulators),
                targets=truth if sees_truth else np.full_like(truth, np.nan),
                outputs=genes,
                context={"expression": expression, "gene_names": genes},
            )

    def solve(self, problem: Problem, features: Features, seed: int) -> np.ndarray:
        """Score each pair by the cosine of the two gene vectors, sign kept; -1, the minimum, if one is unmapped.

        The published run starts DeepSEM from inner products of L1-normalised vectors instead and reports its weights.
        """
        assert features.gene_embedding is not None
        unit = _unit_rows(features.gene_embedding)
        regulators = _positions(features, problem.test_samples)
        genes = _positions(features, problem.outputs)
        scores = unit[regulators] @ unit[genes].T
        scores[~features.gene_mapped[regulators]] = UNMAPPED_SCORE
        scores[:, ~features.gene_mapped[genes]] = UNMAPPED_SCORE
        return scores.astype(np.float32)

    def score(self, dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
        """Return aupr_ratio, epr and auroc over all candidate pairs."""
        genes = _genes(dataset)
        columns = pd.Index(predictions.outputs).get_indexer(pd.Index(genes))
        if (columns < 0).any():
            raise InputDataError(
                f"predictions for {len(predictions.outputs)} genes, {int((columns < 0).sum())} of {len(genes)} missing",
                f"the genes of the data set {dataset.name}",
                "make the predictions again: they belong to another data set",
            )
        parts = []
        for fold in split["fold"].unique():
            rows, values = answers_to(split, predictions, fold)
            regulators = rows["sample"].tolist()
            truth = grn.adjacency(_edges(dataset), regulators, genes)
            pairs = grn.candidate_pairs(regulators, genes)
            for metric in self.metrics:
                value = getattr(grn, metric)(truth, values[:, columns], pairs)
                parts.append((SCENARIO, metric, value, int(pairs.sum()), "regulator-gene pairs"))
        return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


def _sum_duplicates(counts: sparse.csr_matrix, genes: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Add up columns with one name; names in order of first appearance."""
    code, names = pd.factorize(genes)
    if len(names) == len(genes):
        return counts, genes
    gather = sparse.csr_matrix((np.ones(len(genes), np.float32), (np.arange(len(genes)), code)))
    return sparse.csr_matrix(counts @ gather), np.asarray(names, dtype=str)


def _judged_edges(
    inputs: Mapping[str, Path], chosen: GrnOptions, values: sparse.csr_matrix, genes: np.ndarray
) -> tuple[grn.EdgeList, dict[str, Any]]:
    """Restrict the network to detected genes, then to its regulators and the most variable other genes."""
    network = read_tsv(inputs["network"], ["Gene1", "Gene2"], sep=",", dtype=str, na_values=[])
    tfs = read_tsv(inputs["tfs"], ["TF"], sep=",", dtype=str, na_values=[])["TF"].tolist() if "tfs" in inputs else None
    detected = values.getnnz(axis=0) >= chosen.min_cells
    first = grn.clean_edges(network["Gene1"], network["Gene2"], genes[detected].tolist(), tfs)
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
    return edges, {
        "genes_detected": int(detected.sum()),
        "genes_selected": len(selected),
        "edges_in_file": len(network),
        "edges_dropped": first.dropped | {"not_selected": edges.dropped["unknown_genes"]},
        "network_genes_not_detected": first.missing_genes,
    }


def _variance(values: sparse.csr_matrix) -> np.ndarray:
    mean = values.mean(axis=0).A1
    return values.multiply(values).mean(axis=0).A1 - mean**2


def _write(out: Path, counts: sparse.csr_matrix, cells: np.ndarray, genes: np.ndarray, chosen: GrnOptions) -> None:
    """Write the cells that embedding models see."""
    size = min(chosen.max_cells_embedding, len(cells))
    drawn = np.sort(rng("grn_inference", "cells to embed").choice(len(cells), size=size, replace=False))
    adata = anndata.AnnData(
        counts[drawn].astype(np.float32), obs=pd.DataFrame(index=cells[drawn]), var=pd.DataFrame(index=genes)
    )
    adata.uns["value_kind"] = chosen.value_kind
    adata.write_h5ad(out / "expression.h5ad")


def _genes(dataset: Path) -> list[str]:
    return read_tsv(dataset / "genes.tsv", ["gene"], dtype=str, na_values=[])["gene"].tolist()


def _edges(dataset: Path) -> grn.EdgeList:
    table = read_tsv(dataset / "edges.tsv", ["Gene1", "Gene2"], dtype=str, na_values=[])
    return grn.clean_edges(table["Gene1"], table["Gene2"], _genes(dataset))


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one; rows of zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _positions(features: Features, genes: Sequence[str]) -> np.ndarray:
    positions = pd.Index(features.genes).get_indexer(pd.Index(genes))
    if (positions < 0).any():
        missing = [g for g, p in zip(genes, positions, strict=True) if p < 0]
        raise InputDataError(
            f"embedding of {features.model!r}: no row for {listing(missing)}",
            "one row for every gene of the data set's expression.h5ad",
            "delete the embedding's folder and let it be made again",
        )
    return positions


TASK = GrnInference()
