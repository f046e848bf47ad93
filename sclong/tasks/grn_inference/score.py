"""Gene regulatory networks, step score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sclong.benchmark.names import REMAKE_SPLIT, align
from sclong.benchmark.predictions import answers_to
from sclong.benchmark.problem import Predictions
from sclong.seeding import rng
from sclong.tasks.grn_inference import metrics as grn
from sclong.tasks.grn_inference.dataset import SCENARIO, read_edges, read_genes

NULL_NETWORKS = 199


def score(dataset: Path, split: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Return the measures of :mod:`.metrics` over all candidate pairs.

    A prediction may be several networks of one training, side by side; measures are then means over them.
    ``p_value`` is that of the average precision against 199 networks of the same shape whose genes have exchanged
    their names; its least value is 0.005.

    Raises
    ------
    InputDataError
        Predictions for other genes, or for other regulators.
    """
    genes = read_genes(dataset)
    parts = []
    for fold in split["fold"].unique():
        rows, values = answers_to(split, predictions, fold, genes, side_by_side=True)
        regulators, networks = rows["sample"].tolist(), np.split(values, values.shape[1] // len(genes), axis=1)
        found = _fold_scores(read_edges(dataset), regulators, genes, networks, fold)
        n = int(grn.candidate_pairs(regulators, genes).sum())
        parts += [(SCENARIO, metric, value, n, "regulator-gene pairs") for metric, value in found.items()]
    return pd.DataFrame(parts, columns=["scenario", "metric", "value", "n", "unit"])


def _fold_scores(
    edges: grn.EdgeList, regulators: list[str], genes: list[str], networks: list[np.ndarray], fold: str
) -> dict[str, float]:
    """Return the measures, means over `networks`, and the p-value of the mean average precision."""
    truth, pairs = grn.adjacency(edges, regulators, genes), grn.candidate_pairs(regulators, genes)
    own = align(genes, regulators, "the genes: regulators", REMAKE_SPLIT)
    found, observed, nulls = [], [], []
    for scores in networks:
        ranking = grn.Ranking.of(truth, scores, pairs)
        found.append(grn.measures(truth, scores, pairs, ranking))
        draw = rng("grn_inference", "relabelled networks", fold)  # the same networks each time
        nulls.append(grn.relabelled_average_precision(truth, scores, ranking, own, draw, NULL_NETWORKS))
        observed.append(ranking.average_precision())
    p_value = grn.p_value(float(np.mean(observed)), np.mean(nulls, axis=0))
    return pd.DataFrame(found).mean().to_dict() | {"p_value": p_value}
