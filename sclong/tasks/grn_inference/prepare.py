"""Gene regulatory networks, step prepare: expression and a published network become the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import anndata
import numpy as np
import pandas as pd
from pydantic import Field
from scipy import sparse

from sclong.benchmark.options import parse_options
from sclong.cells.h5ad import read_expression
from sclong.cells.normalize import check_counts, log1p_cp10k
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.tasks.grn_inference import metrics as grn
from sclong.tasks.grn_inference import networks
from sclong.tasks.grn_inference.dataset import write_cells, write_network


class GrnOptions(Strict):
    """Options of :func:`prepare`."""

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


def prepare(inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Select genes and edges; write the data set (:mod:`.dataset`).

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
    chosen = parse_options(GrnOptions, options, "grn_inference")
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
    write_cells(out, counts, cells, genes, chosen.value_kind, chosen.max_cells_embedding)
    write_network(out, values[:, columns], judged, edges, chosen.species)
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
