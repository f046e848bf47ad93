import gzip
import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.benchmark.problem import Features, Predictions
from sclong.errors import CardError, InputDataError
from sclong.tasks.batch_integration.controls import (
    CellTypeOneHot,
    ConstantEmbedding,
    Pca,
    RandomEmbedding,
    ShuffledPca,
    variable_genes,
)
from sclong.tasks.batch_integration.task import METRICS, TASK

GENES, EACH = 120, 40
TYPES, BATCHES = ["alpha", "beta", "delta"], ["b0", "b1"]


def counts_with_batches():
    """Three types with markers of their own; every gene is shifted in the second batch."""
    draw = np.random.default_rng(0)
    celltype = np.tile(np.repeat(TYPES, EACH), len(BATCHES))
    batch = np.repeat(BATCHES, EACH * len(TYPES))
    log_mean = np.zeros((len(batch), GENES))
    for i, name in enumerate(TYPES):
        log_mean[celltype == name, i * 10 : i * 10 + 10] += 1.5
    log_mean[batch == "b1"] += draw.normal(0, 1.0, GENES)
    counts = sparse.csr_matrix(draw.poisson(np.exp(log_mean)).astype(np.float32))
    order = draw.permutation(len(batch))
    return counts[order], batch[order], celltype[order]


def write_h5ad(path):
    counts, batch, celltype = counts_with_batches()
    obs = pd.DataFrame({"tech": batch, "celltype": celltype}, index=[f"c{i}" for i in range(len(batch))])
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)])).write_h5ad(path)
    return path


OPTIONS = {"batch_column": "tech", "cell_type_column": "celltype"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integration")
    out = folder / "data"
    out.mkdir()
    return out, TASK.prepare({"expression": write_h5ad(folder / "cells.h5ad")}, OPTIONS, out)


def problem_of(folder, sees_truth=False):
    split = TASK.split(folder, "none", {}, 1)
    (problem,) = TASK.problems(folder, split, sees_truth=sees_truth)
    return split, problem


def scores_of(folder, answer):
    split, problem = problem_of(folder)
    samples = np.array(problem.test_samples)
    outputs = np.array([str(i) for i in range(answer.shape[1])])
    table = TASK.score(folder, split, Predictions(np.array(["0"] * len(samples)), samples, answer, outputs))
    assert set(table["metric"]) == set(TASK.metrics) and set(table["scenario"]) == {"all_cells"}
    return table.set_index("metric")["value"]


def test_prepare_shows_no_cell_types(dataset):
    folder, facts = dataset
    assert facts["cells_per_batch"] == {"b0": 120, "b1": 120}
    assert facts["cells_per_type"] == {"alpha": 80, "beta": 80, "delta": 80}
    shown = anndata.read_h5ad(folder / "expression.h5ad")
    assert list(shown.obs.columns) == ["batch"] and shown.uns["value_kind"] == "counts"


def test_problem_hides_the_truth(dataset):
    _, problem = problem_of(dataset[0])
    assert list(problem.samples.columns) == ["part", "batch"]
    assert np.isnan(problem.targets).all() and problem.outputs == ["label"]
    assert problem.context.expression.shape == (240, len(problem.context.gene_names))
    assert problem.context.counts.sum() == counts_with_batches()[0].sum()
    total = np.expm1(problem.context.expression.toarray()).sum(axis=1)
    assert total == pytest.approx(np.full(240, 1e4), rel=1e-3)


def test_ceiling_scores_the_maximum(dataset):
    scores = scores_of(dataset[0], CellTypeOneHot().predict(problem_of(dataset[0], sees_truth=True)[1], 0))
    for metric in set(METRICS) - {"ilisi", "batch_mixing", "overall"}:
        assert scores[metric] == pytest.approx(1.0), metric
    assert scores["ilisi"] == pytest.approx(1.0, abs=0.01)  # every type has equally many cells in both batches


def test_ceiling_is_refused_without_truth(dataset):
    with pytest.raises(InputDataError, match="sees_truth"):
        CellTypeOneHot().predict(problem_of(dataset[0])[1], 0)


def test_constant_embedding_wins_batch_asw_and_knows_no_type(dataset):
    scores = scores_of(dataset[0], ConstantEmbedding().predict(problem_of(dataset[0])[1], 0))
    assert scores["batch_asw_scib"] == scores["batch_asw_scib_metrics"] == 1.0
    assert (scores["celltype_asw"], scores["nmi"], scores["ari"]) == (0.5, 0.0, 0.0)


@pytest.mark.parametrize("model", [RandomEmbedding(), ShuffledPca(20)])
def test_floors_know_no_biology(dataset, model):
    answer = model.predict(problem_of(dataset[0])[1], 0)
    scores = scores_of(dataset[0], answer)
    assert scores["nmi"] < 0.1 and scores["celltype_asw"] == pytest.approx(0.5, abs=0.02)
    assert scores["ilisi"] > 0.75 and scores["batch_asw_scib"] > 0.9
    assert not np.array_equal(answer, model.predict(problem_of(dataset[0])[1], 1))


def test_centring_batches_mixes_them_and_keeps_types(dataset):
    _, problem = problem_of(dataset[0])
    plain = scores_of(dataset[0], Pca(10, top_genes=100).predict(problem, 0))
    centred = scores_of(dataset[0], Pca(10, top_genes=100, centre_batches=True).predict(problem, 0))
    shuffled = scores_of(dataset[0], ShuffledPca(10, top_genes=100).predict(problem, 0))
    assert plain["ilisi"] < 0.5 and centred["ilisi"] > 0.65
    assert plain["pcr"] < 0.1 and centred["pcr"] == pytest.approx(1)
    assert centred["nmi"] > 0.9 > plain["nmi"]
    assert shuffled["overall"] < centred["overall"] > plain["overall"]


def test_variable_genes_do_not_count_batch_differences():
    batch = np.array(["a"] * 50 + ["b"] * 50)
    values = np.ones((100, 3), dtype=np.float32)
    values[batch == "b", 0] = 50
    values[::2, 1] = 2
    assert variable_genes(sparse.csr_matrix(values), batch, 1).tolist() == [1]


def test_solve_puts_cells_in_the_order_of_the_problem(dataset):
    _, problem = problem_of(dataset[0])
    cells = np.array(problem.test_samples)[::-1]
    vectors = np.arange(len(cells) * 2, dtype=np.float32).reshape(-1, 2)
    features = Features("reversed", cells, vectors, np.array([]), None, np.array([], dtype=bool))
    assert np.array_equal(TASK.solve(problem, features, 0), vectors[::-1])
    with pytest.raises(InputDataError, match="missing: 'c239'"):
        TASK.solve(problem, Features("short", cells[1:], vectors[1:], np.array([]), None, np.array([])), 0)


def test_scores_do_not_depend_on_the_order_of_predictions(dataset):
    split, problem = problem_of(dataset[0])
    answer = Pca(5).predict(problem, 0)
    order = np.random.default_rng(0).permutation(len(answer))
    samples = np.array(problem.test_samples)
    mixed = Predictions(np.array(["0"] * len(order)), samples[order], answer[order], np.array(list("01234")))
    again = TASK.score(dataset[0], split, mixed).set_index("metric")["value"]
    assert again.to_dict() == pytest.approx(scores_of(dataset[0], answer).to_dict())


def write_libraries(folder):
    """Two libraries, genes in rows and in different order, with doublets and metadata in another order."""
    counts, batch, celltype = counts_with_batches()
    inputs = {"expression": [], "metadata": []}
    for name in BATCHES:
        rows = np.flatnonzero(batch == name)
        genes = [f"g{i}" for i in range(GENES)] + [f"only_{name}"]
        cells = [f"A{i}" for i in range(len(rows))]
        dense = np.column_stack([counts[rows].toarray(), np.ones(len(rows))]).astype(int)
        table = pd.DataFrame(dense.T, index=genes, columns=cells)
        table = table if name == "b0" else table.iloc[::-1]
        metadata = pd.DataFrame({"line": celltype[rows], "call": "SNG"}, index=cells)
        metadata.iloc[:5, 1] = "DBL"
        for kind, frame in (("count", table), ("metadata", metadata.iloc[::-1])):
            path = folder / f"{name}.{kind}.csv.gz"
            with gzip.open(path, "wt") as handle:
                frame.to_csv(handle, index_label=False)
            inputs["expression" if kind == "count" else "metadata"].append(path)
    return inputs


LIBRARY_OPTIONS = {"expression_format": "csv", "transpose": True, "cell_type_column": "line", "keep": {"call": "SNG"}}


def test_libraries_are_joined_over_shared_genes_without_doublets(tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    facts = TASK.prepare(write_libraries(tmp_path), LIBRARY_OPTIONS, out)
    assert facts["cells_per_batch"] == {"b0": 115, "b1": 115} and facts["cells_not_kept"] == 10
    shown = anndata.read_h5ad(out / "expression.h5ad")
    assert not [g for g in shown.var_names if g.startswith("only")]
    counts, batch, celltype = counts_with_batches()
    second = np.flatnonzero(batch == "b1")
    cell = shown["b1:A17"].to_df().iloc[0]
    assert cell["g3"] == counts[second[17], 3] and cell["g111"] == counts[second[17], 111]
    labels = pd.read_csv(out / "labels.tsv", sep="\t").set_index("sample")
    assert labels.loc["b1:A17", "cell_type"] == celltype[second[17]]


def test_metadata_of_another_library_are_refused(tmp_path):
    inputs = write_libraries(tmp_path)
    table = pd.read_csv(inputs["metadata"][1], index_col=0)
    table.index = [f"x{i}" for i in range(len(table))]
    table.to_csv(inputs["metadata"][1])
    with pytest.raises(InputDataError, match="the same cells"):
        TASK.prepare(inputs, LIBRARY_OPTIONS, tmp_path)


def test_missing_column_and_single_batch_are_refused(tmp_path):
    path = write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputDataError, match="write 'celltype'"):
        TASK.prepare({"expression": path}, OPTIONS | {"cell_type_column": "cell_type"}, tmp_path)
    with pytest.raises(InputDataError, match="one batch only"):
        TASK.prepare({"expression": path}, OPTIONS | {"keep": {"tech": "b0"}}, tmp_path)
    with pytest.raises(CardError, match="batch_column"):
        TASK.prepare({"expression": path}, {"batch_colum": "tech"}, tmp_path)


def test_unlabelled_cells_are_left_out_and_counted(tmp_path):
    path = write_h5ad(tmp_path / "cells.h5ad")
    adata = anndata.read_h5ad(path)
    adata.obs["celltype"] = adata.obs["celltype"].astype(object)
    adata.obs.loc[["c0", "c9"], "celltype"] = None
    adata.write_h5ad(path)
    out = tmp_path / "data"
    out.mkdir()
    facts = TASK.prepare({"expression": path}, OPTIONS, out)
    assert (facts["cells_without_label"], facts["cells"]) == (2, 238)


def test_values_of_a_file_without_counts_are_taken_as_they_are(tmp_path):
    path = write_h5ad(tmp_path / "cells.h5ad")
    adata = anndata.read_h5ad(path)
    adata.layers["counts"], adata.X = adata.X, adata.X * 0.25
    adata.write_h5ad(path)
    (tmp_path / "data").mkdir()
    TASK.prepare({"expression": path}, OPTIONS | {"value_kind": "nonnegative", "layer": "X"}, tmp_path / "data")
    _, problem = problem_of(tmp_path / "data")
    assert problem.context.counts is None
    assert problem.context.expression.sum() == pytest.approx(counts_with_batches()[0].sum() / 4)
    assert scores_of(tmp_path / "data", Pca(5).predict(problem, 0))["overall"] > 0


def test_a_copy_of_the_census_is_a_data_set(tmp_path):
    pytest.importorskip("cellxgene_census", reason="reads a Census: pip install -c envs/constraints.txt -e '.[census]'")
    from census_store import RELEASE, simulated_datasets, write_census

    datasets = simulated_datasets()
    folder = write_census(tmp_path / "soma", datasets)
    options = {
        "expression_format": "census",
        "batch_column": "donor_id",
        "cell_type_column": "cell_type",
        "census_version": RELEASE,
        "min_cells": 1,
    }
    (tmp_path / "data").mkdir()
    facts = TASK.prepare({"expression": folder}, options, tmp_path / "data")
    obs = pd.concat([d.cells.obs for d in datasets if d.organism == "homo_sapiens"])
    obs = obs[obs["is_primary_data"]]
    assert facts["cells"] + facts["cells_with_few_genes"] == len(obs)
    assert facts["cells_per_batch"].keys() == set(obs["donor_id"]) and facts["cells_per_type"].keys() == set(
        obs["cell_type"]
    )
    _, problem = problem_of(tmp_path / "data")
    assert np.isfinite(scores_of(tmp_path / "data", Pca(3).predict(problem, 0))["overall"])


@pytest.mark.mirror
@pytest.mark.skipif("SCLONG_MIRROR" not in os.environ, reason="SCLONG_MIRROR does not name a folder of real files")
def test_real_libraries(tmp_path):
    mirror = Path(os.environ["SCLONG_MIRROR"])
    names = ["sc_celseq2_5cl_p3", "sc_dropseq"]
    inputs = {
        role: [mirror / f"scmixology_{n}" / f"{n}.{kind}.csv.gz" for n in names]
        for role, kind in (("expression", "count"), ("metadata", "metadata"))
    }
    options = LIBRARY_OPTIONS | {"cell_type_column": "cell_line_demuxlet", "keep": {"demuxlet_cls": "SNG"}}
    facts = TASK.prepare(inputs, options, tmp_path)
    assert facts["cells_per_batch"] == {"sc_celseq2_5cl_p3": 252, "sc_dropseq": 210}
