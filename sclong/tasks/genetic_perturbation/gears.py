"""GEARS and its head on the gene vectors of another model: from a problem to :mod:`.gears_training`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from pydantic import ValidationError
from scipy import sparse

from sclong.benchmark.annotations import go_terms
from sclong.benchmark.model import Predictor, PredictorFromFeatures
from sclong.benchmark.names import REMAKE_EMBEDDING, align
from sclong.benchmark.problem import Features, Problem
from sclong.cells.normalize import log1p_cp10k
from sclong.config.cards import describe_validation
from sclong.errors import CardError
from sclong.genes.go_graph import jaccard_graph
from sclong.tasks.genetic_perturbation.classical import genes_of
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext
from sclong.tasks.genetic_perturbation.gears_network import Graph
from sclong.tasks.genetic_perturbation.gears_training import GearsData, GearsOptions, fit_predict_gears

GeneStates = Literal["table", "go"]
GO_THRESHOLD, GO_NEIGHBOURS = 0.1, 20
COEXPRESSION_THRESHOLD, COEXPRESSION_NEIGHBOURS = 0.4, 20
GO_DIMENSIONS = 64


class Gears(Predictor[PerturbationContext], PredictorFromFeatures[PerturbationContext]):
    """A GEARS network; see :class:`.GearsNetwork`.

    Answering from features it takes their contextual vectors (one for each gene in each control cell) where there are
    any, else one vector per gene, the same in every cell.

    Parameters
    ----------
    genes
        Where genes' states come from, when not from features: "table", trained with the network; "go", leading
        singular vectors of the table of genes and GO terms.
    coexpression
        Whether the table gets GEARS' co-expression branch.
    flag
        Whether the network is told which gene is perturbed, as in the scLong paper.
    **training
        Fields of :class:`.GearsOptions`.

    Raises
    ------
    CardError
        An option that does not exist.
    """

    def __init__(
        self, genes: GeneStates = "table", coexpression: bool = False, flag: bool = True, **training: Any
    ) -> None:
        if genes not in get_args(GeneStates):
            raise CardError(f"genes {genes!r}", "table or go", "correct the options of the model's card")
        self.genes, self.coexpression, self.flag = genes, coexpression, flag
        try:
            self.options = GearsOptions.model_validate(training)
        except ValidationError as error:
            found, action = describe_validation(error, GearsOptions)
            raise CardError(
                f"options of a GEARS model: {found}",
                "options of the network and its training",
                f"{action} in the model's card",
            ) from None

    def predict(self, problem: Problem[PerturbationContext], seed: int) -> np.ndarray:
        """Train without a given embedding, and answer; every seed is a training of its own.

        Raises
        ------
        InputDataError
            When the data set has no GO annotations, or a part has no conditions.
        """
        data = gears_data(problem)
        if self.genes == "go":
            data = replace(data, vectors=go_vectors(problem)[None])
        elif self.coexpression:
            data = replace(data, coexpression=coexpression_graph(problem))
        return fit_predict_gears(data, self.options, seed, flag=self.flag)

    def predict_from(self, problem: Problem[PerturbationContext], features: Features, seed: int) -> np.ndarray:
        """Train on the vectors of `features` and answer; every seed is a training of its own.

        Raises
        ------
        InputDataError
            As :meth:`predict`, or features of another data set.
        """
        data = with_vectors(gears_data(problem), problem, features)
        return fit_predict_gears(data, self.options, seed, flag=self.flag)


def gears_data(problem: Problem[PerturbationContext]) -> GearsData:
    """Collect what a network learns from and is asked; the pool of pairs are all control cells.

    The nodes of the GO graph are ``context.annotated_genes``: the measured genes, then perturbed ones that are not. The
    graph is the project's rule over their terms: Jaccard index above 0.1, the twenty most similar and the gene itself.
    """
    context, samples = problem.context, problem.samples.index
    place = {g: i for i, g in reversed(list(enumerate(context.annotated_genes)))}
    nodes = {
        part: [np.array([place[g] for g in genes]) for genes in genes_of(problem, part)]
        for part in ("train", "validation", "test")
    }
    train, validation = (samples[problem.rows(part)] for part in ("train", "validation"))
    indptr, sources, weights = jaccard_graph(go_terms(problem), GO_THRESHOLD, GO_NEIGHBOURS)
    return GearsData(
        control_CG=context.cells.control().toarray(),
        control_mean_G=np.asarray(context.control_mean, dtype=np.float32),
        vectors=None,
        cells=[context.cells.of(s) for s in train],
        counted=[context.non_zero[s] for s in train],
        train=nodes["train"],
        validation=nodes["validation"],
        test=nodes["test"],
        validation_mean_VG=problem.targets[problem.rows("validation")],
        validation_genes=[context.de[s] for s in validation],
        go_graph=as_graph(np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), sources, weights),
        n_nodes=len(context.annotated_genes),
    )


def as_graph(targets: np.ndarray, sources: np.ndarray, weights: np.ndarray) -> Graph:
    """Return edges as the network takes them."""
    edges = np.stack([sources, targets]).astype(np.int64)
    return Graph(torch.from_numpy(edges), torch.from_numpy(np.asarray(weights, dtype=np.float32)))


def with_vectors(data: GearsData, problem: Problem[PerturbationContext], features: Features) -> GearsData:
    """Return `data` with the vectors of `features`; the pool of pairs are then the cells that were embedded.

    Raises
    ------
    InputDataError
        When a measured gene, or an embedded cell, is not of this data set.
    """
    vectors = features.gene_vectors()
    what = f"embedding of {features.model!r}: measured genes"
    genes = align(features.genes, problem.outputs, what, REMAKE_EMBEDDING)
    if features.contextual_embedding is None:
        return replace(data, vectors=vectors[genes][None])
    in_order = np.array_equal(genes, np.arange(len(genes)))
    columns_kept: Any = slice(0, len(genes)) if in_order else genes  # a slice stays memory-mapped
    pool = embedded_controls(problem, features.cells)
    return replace(data, control_CG=pool, vectors=features.contextual_embedding[:, columns_kept])


def embedded_controls(problem: Problem[PerturbationContext], names: np.ndarray) -> np.ndarray:
    """Return log1p(CP10k) of the control cells that were embedded, (cells, G) float32, in the order of `names`.

    Raises
    ------
    InputDataError
        When a name is not one of the data set's.
    """
    import anndata

    adata = anndata.read_h5ad(problem.context.expression)
    rows = align(adata.obs_names, names, "expression of the control cells", REMAKE_EMBEDDING)
    values = sparse.csr_matrix(adata.X, dtype=np.float32)[rows]
    if adata.uns["value_kind"] == "counts":
        values = log1p_cp10k(values)
    columns = align(adata.var_names, problem.outputs, "expression of the control cells: genes", REMAKE_EMBEDDING)
    return values[:, columns].toarray()


def go_vectors(problem: Problem[PerturbationContext]) -> np.ndarray:
    """Return what the Gene Ontology says of each measured gene, (G, at most 64) float32.

    Leading left singular vectors, times singular values, of the table of genes and terms; terms count by log(genes /
    genes with the term), each gene's row has length one.
    """
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    terms = sparse.csr_matrix(go_terms(problem))[: len(problem.outputs)]
    rarity = np.log(max(terms.shape[0], 1) / np.maximum(terms.getnnz(axis=0), 1))
    weighted = normalize(terms @ sparse.diags(rarity))
    left, values, _ = randomized_svd(weighted, min(GO_DIMENSIONS, min(terms.shape) - 1), random_state=0)
    return np.asarray(left * values, dtype=np.float32)


def coexpression_graph(problem: Problem[PerturbationContext]) -> Graph:
    """Return GEARS' co-expression graph: genes joined by |Pearson correlation| over the cells of training singles.

    Of each gene's twenty-one most correlated (itself among them) those above 0.4 are sources of an edge.
    """
    train = problem.samples.index[problem.rows("train")]
    singles = [s for s, genes in zip(train, genes_of(problem, "train"), strict=True) if len(genes) == 1]
    cells = sparse.vstack([problem.context.cells.of(s) for s in singles or train]).toarray()
    with np.errstate(invalid="ignore", divide="ignore"):
        related = np.nan_to_num(np.abs(np.corrcoef(cells, rowvar=False)))
    best = np.argsort(-related, axis=1, kind="stable")[:, : COEXPRESSION_NEIGHBOURS + 1]
    targets, sources = np.repeat(np.arange(len(best)), best.shape[1]), best.ravel()
    kept = related[targets, sources] > COEXPRESSION_THRESHOLD
    return as_graph(targets[kept], sources[kept], related[targets, sources][kept])
