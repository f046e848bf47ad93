"""DeepSEM's published output for hESC, ChIP-seq, TFs+500, scored with our metrics: the numbers of its own notebook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sclong.tasks.grn_inference import metrics as grn


@pytest.mark.mirror
def test_the_notebooks_numbers_come_out_of_its_published_output(mirror: Path) -> None:
    folder = mirror / "deepsem_hesc_500_chip"
    output = pd.read_csv(folder / "demo_output.tsv", sep="\t")
    label = pd.read_csv(folder / "label.csv")
    regulators, genes = sorted(set(label["Gene1"])), sorted(set(label["Gene1"]) | set(label["Gene2"]))
    edges = grn.clean_edges(label["Gene1"].tolist(), label["Gene2"].tolist(), genes)
    truth = grn.adjacency(edges, regulators, genes)
    output = output[output["Gene1"].isin(regulators) & output["Gene2"].isin(genes)]
    scores = np.zeros(truth.shape)
    rows, columns = pd.Index(regulators).get_indexer(output["Gene1"]), pd.Index(genes).get_indexer(output["Gene2"])
    scores[rows, columns] = output["EdgeWeight"].abs()
    candidates = grn.candidate_pairs(regulators, genes)
    assert grn.epr(truth, scores, candidates) == pytest.approx(1.2184, abs=5e-5)
    assert grn.aupr_ratio_published(truth, scores, candidates) == pytest.approx(1.1633, abs=5e-5)
