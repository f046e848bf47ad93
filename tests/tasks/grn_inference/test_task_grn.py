import os
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.benchmark.controls import Constant, RandomNormal, Truth
from sclong.benchmark.names import output_names
from sclong.benchmark.problem import Features, Predictions
from sclong.errors import CardError, InputDataError
from sclong.tasks.grn_inference import metrics as grn
from sclong.tasks.grn_inference.classical import AbsoluteCorrelation, ShuffledCorrelation, TargetMeanExpression
from sclong.tasks.grn_inference.networks import read_network, varying_genes
from sclong.tasks.grn_inference.task import TASK
from sclong.tasks.grn_inference.trees import Genie3Trees, GrnBoost2

N_TFS, N_TARGETS, N_OTHERS, CELLS = 6, 40, 10, 300
TFS = [f"TF{i}" for i in range(N_TFS)]
TARGETS = [f"G{i}" for i in range(N_TARGETS)]
OTHERS = [f"N{i}" for i in range(N_OTHERS)]
GENES = TFS + TARGETS + OTHERS
REGULATOR_OF = {gene: TFS[i % N_TFS] for i, gene in enumerate(TARGETS)}


def write_inputs(folder, transpose=False):
    """Counts in which each target follows its one regulator; a network with repeats, self loops and strangers."""
    draw = np.random.default_rng(0)
    activity = draw.normal(0, 1, (CELLS, N_TFS))
    log_mean = np.concatenate(
        [activity, activity[:, [int(REGULATOR_OF[g][2:]) for g in TARGETS]], np.zeros((CELLS, N_OTHERS))], axis=1
    )
    counts = sparse.csr_matrix(draw.poisson(np.exp(1 + 0.8 * log_mean)).astype(np.float32))
    cells = [f"c{i}" for i in range(CELLS)]
    adata = anndata.AnnData(counts, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=GENES))
    adata.write_h5ad(folder / "expression.h5ad")
    edges = [(regulator, target) for target, regulator in REGULATOR_OF.items()]
    edges += [edges[0], ("TF0", "TF0"), ("TF1", "elsewhere"), ("stranger", "G1"), ("G3", "G4")]
    pd.DataFrame(edges, columns=["Gene1", "Gene2"]).to_csv(folder / "network.csv", index=False)
    pd.DataFrame({"TF": [*TFS, "stranger"]}).to_csv(folder / "tfs.csv", index=False)
    return {
        role: folder / f"{role}.{end}" for role, end in (("expression", "h5ad"), ("network", "csv"), ("tfs", "csv"))
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grn")
    out = folder / "data"
    out.mkdir()
    facts = TASK.prepare(write_inputs(folder), {"max_cells_embedding": 50}, out)
    return out, facts


def problem_of(folder, sees_truth=False):
    split = TASK.split(folder, "none", {}, 1)
    (problem,) = TASK.problems(folder, split, sees_truth=sees_truth)
    return split, problem


def scores_of(folder, answer):
    split, problem = problem_of(folder)
    samples = np.array(problem.test_samples)
    predictions = Predictions(np.array(["0"] * len(samples)), samples, answer, np.array(problem.outputs))
    table = TASK.score(folder, split, predictions)
    assert set(table["scenario"]) == {"all_genes"}
    return table.set_index("metric")["value"]


def test_prepare_counts_what_it_dropped(dataset):
    folder, facts = dataset
    assert facts["edges_dropped"] == {
        "self_loops": 1,
        "unknown_genes": 2,
        "not_a_regulator": 1,
        "duplicates": 1,
        "not_selected": 0,
    }
    assert (facts["edges"], facts["regulators"], facts["genes_judged"]) == (N_TARGETS, N_TFS, N_TFS + N_TARGETS)
    assert facts["candidate_pairs"] == N_TFS * (N_TFS + N_TARGETS) - N_TFS
    shown = anndata.read_h5ad(folder / "expression.h5ad")
    assert shown.shape == (50, len(GENES)) and shown.uns["value_kind"] == "counts"
    assert np.array_equal(shown.X.toarray(), np.round(shown.X.toarray()))


def test_problem_hides_the_truth(dataset):
    folder, _ = dataset
    split, problem = problem_of(folder)
    assert list(split.columns) == ["fold", "sample", "part", "scenario"]
    assert set(split["part"]) == {"test"} and problem.test_samples == TFS
    assert np.isnan(problem.targets).all()
    assert problem.context.expression.shape == (CELLS, len(problem.outputs))
    assert problem.context.annotated_genes == problem.outputs
    assert problem.context.species == "human" and problem.context.go_terms is None
    _, open_problem = problem_of(folder, sees_truth=True)
    assert open_problem.targets.sum() == N_TARGETS
    column = open_problem.outputs.index("G7")
    assert np.flatnonzero(open_problem.targets[:, column]).tolist() == [TFS.index(REGULATOR_OF["G7"])]


def test_a_context_fits_its_genes_and_its_species(dataset):
    context = problem_of(dataset[0])[1].context
    with pytest.raises(InputDataError, match="one column of expression"):
        replace(context, expression=context.expression[:, :-1])
    with pytest.raises(InputDataError, match="human or mouse"):
        replace(context, species="rat")
    with pytest.raises(InputDataError, match="annotations of 2 genes"):
        replace(context, go_terms=sparse.csr_matrix((2, 3), dtype=np.float32))


def test_a_regulator_that_is_no_gene_is_refused(dataset):
    problem = problem_of(dataset[0])[1]
    strange = replace(problem, samples=problem.samples.rename(index={"TF3": "elsewhere"}))
    with pytest.raises(InputDataError, match="'elsewhere'"):
        AbsoluteCorrelation().predict(strange, 0)


def test_ceiling_scores_the_maximum(dataset):
    folder, facts = dataset
    scores = scores_of(folder, Truth().predict(problem_of(folder, sees_truth=True)[1], 0))
    assert scores["aupr_ratio"] == pytest.approx(1 / facts["positive_rate"])
    assert scores["epr"] == pytest.approx(1 / facts["positive_rate"])
    assert scores["auroc"] == 1.0


def test_floors_score_chance(dataset):
    folder, _ = dataset
    _, problem = problem_of(folder)
    constant = scores_of(folder, Constant().predict(problem, 0))
    assert constant[["aupr_ratio", "epr", "auroc", "p_value"]].tolist() == pytest.approx([1, 1, 0.5, 1])
    for model in (RandomNormal(), ShuffledCorrelation()):
        mean = pd.concat([scores_of(folder, model.predict(problem, seed)) for seed in range(30)], axis=1).mean(axis=1)
        assert mean["aupr_ratio"] == pytest.approx(1, abs=0.25)
        assert mean["epr"] == pytest.approx(1, abs=0.25)
        assert mean["auroc"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "model",
    [
        AbsoluteCorrelation("pearson"),
        AbsoluteCorrelation("spearman"),
        Genie3Trees(n_estimators=10, max_cells=150),
        Genie3Trees(forest="random_forest", n_estimators=5, max_cells=150),
        GrnBoost2(learning_rate=0.2, n_estimators=15, max_features=0.5, max_cells=150),
    ],
)
def test_classical_methods_find_planted_edges(dataset, model):
    folder, facts = dataset
    scores = scores_of(folder, model.predict(problem_of(folder)[1], 0))
    assert scores["aupr_ratio"] > 0.8 / facts["positive_rate"]
    assert scores["auroc"] > 0.9


def test_target_mean_cannot_tell_regulators_apart(dataset):
    answer = TargetMeanExpression().predict(problem_of(dataset[0])[1], 0)
    assert (answer == answer[0]).all() and answer[0].std() > 0


def test_trees_are_repeatable_and_leave_out_self_and_small_genes(dataset):
    _, problem = problem_of(dataset[0])
    model = Genie3Trees(n_estimators=3, max_cells=100, max_genes=5)
    first = model.predict(problem, 0)
    assert np.array_equal(first, model.predict(problem, 0))
    assert not np.array_equal(first, model.predict(problem, 1))
    assert (first.sum(axis=0) > 0).sum() == 5
    everything = Genie3Trees(n_estimators=3, max_cells=100).predict(problem, 0)
    grown = first.sum(axis=0) > 0
    assert np.array_equal(everything[:, grown], first[:, grown])
    for row, tf in enumerate(problem.test_samples):
        assert everything[row, problem.outputs.index(tf)] == 0


def test_correlation_of_a_gene_without_variance_is_zero(dataset):
    _, problem = problem_of(dataset[0])
    values = problem.context.expression.toarray()
    values[:, 3] = 0.1
    flat = replace(problem, context=replace(problem.context, expression=sparse.csr_matrix(values)))
    for method in ("pearson", "spearman"):
        answer = AbsoluteCorrelation(method).predict(flat, 0)
        assert (answer[:, 3] == 0).all() and np.isfinite(answer).all() and answer.max() <= 1 + 1e-6


def features_for(folder, unmapped=()):
    """Each gene points where its regulator points."""
    genes = np.array(anndata.read_h5ad(folder / "expression.h5ad").var_names, dtype=str)
    axis = {g: i for i, g in enumerate(TFS)} | {g: TFS.index(tf) for g, tf in REGULATOR_OF.items()}
    vectors = np.zeros((len(genes), N_TFS + 1), dtype=np.float32)
    for row, gene in enumerate(genes):
        vectors[row, axis.get(gene, N_TFS)] = 2.0 + row
    return Features("planted", np.array([]), None, genes, vectors, ~np.isin(genes, unmapped))


def test_solve_is_the_cosine_and_unmapped_genes_score_the_minimum(dataset):
    folder, facts = dataset
    _, problem = problem_of(folder)
    answer = TASK.solve(problem, features_for(folder), 0)
    assert answer.dtype == np.float32 and answer.max() == pytest.approx(1)
    assert scores_of(folder, answer)["aupr_ratio"] == pytest.approx(1 / facts["positive_rate"])
    partial = TASK.solve(problem, features_for(folder, unmapped=["G7", "TF2"]), 0)
    assert (partial[:, problem.outputs.index("G7")] == -1).all() and (partial[2] == -1).all()
    assert partial.min() == -1 and (partial != -1).any()


def test_opposite_vectors_are_a_prediction_and_unmapped_genes_are_none(dataset):
    folder, _ = dataset
    _, problem = problem_of(folder)
    features = features_for(folder, unmapped=["G7"])
    features.gene_embedding[np.flatnonzero(features.genes == "G0")] = -5 * np.eye(N_TFS + 1, dtype=np.float32)[0]
    answer = TASK.solve(problem, features, 0)
    weights = grn.weights(answer)
    assert -1 < answer[0, problem.outputs.index("G0")] < -0.999
    assert weights[0, problem.outputs.index("G0")] == pytest.approx(1)
    assert (weights[:, problem.outputs.index("G7")] == 0).all()


def test_max_genes_keeps_all_regulators(tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    facts = TASK.prepare(write_inputs(tmp_path), {"max_genes": 12}, out)
    assert facts["genes_selected"] == N_TFS + 12
    assert facts["edges"] + facts["edges_dropped"]["not_selected"] == N_TARGETS
    assert facts["edges"] <= 12


def test_genes_of_one_symbol_are_added_up(tmp_path):
    inputs = write_inputs(tmp_path)
    adata = anndata.read_h5ad(inputs["expression"])
    adata.var["symbol"] = [*GENES[:-1], "G0"]
    adata.var_names = [f"ENSG{i:011d}" for i in range(len(GENES))]
    adata.write_h5ad(inputs["expression"])
    out = tmp_path / "data"
    out.mkdir()
    facts = TASK.prepare(inputs, {"gene_column": "symbol", "max_cells_embedding": CELLS}, out)
    assert facts["gene_names_merged"] == 1
    shown = anndata.read_h5ad(out / "expression.h5ad")
    both = adata.X[:, GENES.index("G0")] + adata.X[:, -1]
    assert np.array_equal(shown[:, "G0"].X.toarray(), both.toarray())


def test_wrong_ids_are_refused_with_the_way_out(tmp_path):
    inputs = write_inputs(tmp_path)
    adata = anndata.read_h5ad(inputs["expression"])
    adata.var_names = [f"ENSG{i:011d}" for i in range(len(GENES))]
    adata.write_h5ad(inputs["expression"])
    with pytest.raises(InputDataError, match="gene_column"):
        TASK.prepare(inputs, {}, tmp_path)


def test_unknown_option_and_policy_are_refused(tmp_path, dataset):
    with pytest.raises(CardError, match="max_genes"):
        TASK.prepare({}, {"max_gene": 3}, tmp_path)
    with pytest.raises(CardError, match="none"):
        TASK.split(dataset[0], "random", {}, 1)


def test_predictions_for_other_genes_are_refused(dataset):
    split, problem = problem_of(dataset[0])
    samples = np.array(problem.test_samples)
    wrong = Predictions(np.array(["0"] * len(samples)), samples, np.zeros((len(samples), 2)), np.array(["G0", "G1"]))
    with pytest.raises(InputDataError, match="another data set"):
        TASK.score(dataset[0], split, wrong)


def test_several_networks_of_one_training_score_their_mean(dataset):
    folder, _ = dataset
    split, problem = problem_of(folder)
    samples = np.array(problem.test_samples)
    networks = [np.random.default_rng(i).random((N_TFS, len(problem.outputs)), dtype=np.float32) for i in (0, 1)]
    single = [scores_of(folder, network) for network in networks]
    names = np.array(output_names(problem.outputs, 2 * len(problem.outputs)))
    both = Predictions(np.array(["0"] * len(samples)), samples, np.concatenate(networks, axis=1), names)
    found = TASK.score(folder, split, both).set_index("metric")["value"]
    for metric in set(TASK.metrics) - {"p_value"}:
        assert found[metric] == pytest.approx((single[0][metric] + single[1][metric]) / 2)
    twice = Predictions(both.fold, samples, np.concatenate([networks[0]] * 2, axis=1), names)
    assert TASK.score(folder, split, twice).set_index("metric")["value"]["p_value"] == single[0]["p_value"]
    with pytest.raises(InputDataError, match="another data set"):
        TASK.score(folder, split, Predictions(both.fold, samples, both.values[:, :-1], names[:-1]))


def test_logarithms_of_one_symbol_are_averaged(tmp_path):
    inputs = write_inputs(tmp_path)
    adata = anndata.read_h5ad(inputs["expression"])
    adata.var_names = [*GENES[:-1], "G0"]
    adata.write_h5ad(inputs["expression"])
    out = tmp_path / "data"
    out.mkdir()
    TASK.prepare(inputs, {"value_kind": "nonnegative", "max_cells_embedding": CELLS}, out)
    shown = anndata.read_h5ad(out / "expression.h5ad")
    both = (adata.X[:, GENES.index("G0")] + adata.X[:, -1]).toarray() / 2
    assert np.array_equal(shown[:, "G0"].X.toarray(), both)
    assert np.array_equal(shown[:, "G1"].X.toarray(), adata[:, "G1"].X.toarray())


def test_a_network_with_columns_of_other_names(tmp_path):
    inputs = write_inputs(tmp_path)
    table = pd.read_csv(inputs["network"]).rename(columns={"Gene1": "reg", "Gene2": "target"})
    table.to_csv(inputs["network"], index=False)
    out = tmp_path / "data"
    out.mkdir()
    assert TASK.prepare(inputs, {"network_columns": ["reg", "target"]}, out)["edges"] == N_TARGETS
    with pytest.raises(InputDataError, match="Gene1"):
        TASK.prepare(inputs, {}, out)


def test_a_matrix_is_read_from_column_to_row(tmp_path):
    (tmp_path / "a.txt").write_text("0 1 0\n0 0 0\n1 0 1\n")
    (tmp_path / "tf.txt").write_text("A\nB\nC\n")
    (tmp_path / "x.txt").write_text("1\t0\t2\t1\n0\t3\t0\t1\n1\t1\t5\t1\n")
    edges = read_network(tmp_path / "a.txt", "matrix", names=tmp_path / "tf.txt")
    assert edges.to_numpy().tolist() == [["B", "A"], ["A", "C"], ["C", "C"]]
    out = tmp_path / "data"
    out.mkdir()
    inputs = {"expression": tmp_path / "x.txt", "network": tmp_path / "a.txt", "gene_names": tmp_path / "tf.txt"}
    options = {"expression_format": "unnamed_matrix", "network_format": "matrix", "value_kind": "nonnegative"}
    facts = TASK.prepare(inputs, {**options, "min_cells": 1}, out)
    assert (facts["cells"], facts["edges"], facts["edges_dropped"]["self_loops"]) == (4, 2, 1)
    _, problem = problem_of(out)
    assert problem.context.expression.toarray()[:, problem.outputs.index("C")].tolist() == [1, 1, 5, 1]
    out = tmp_path / "all"
    out.mkdir()
    assert TASK.prepare(inputs, {**options, "min_cells": 1, "judge_all_genes": True}, out)["genes_judged"] == 3
    (tmp_path / "tf.txt").write_text("A\nB\n")
    with pytest.raises(InputDataError, match="2 names"):
        TASK.prepare(inputs, {**options, "min_cells": 1}, out)


def test_gene_order_chooses_as_beeline_does(tmp_path):
    table = pd.DataFrame(
        {"VGAMpValue": [1e-9, 0.5, 1e-9, 1e-9, 1e-9, 0.003], "Variance": [1.0, 9.0, 2.0, 5.0, 3.0, 8.0]},
        index=["TF0", "TF1", "G0", "G1", "G2", "G3"],
    )
    table.to_csv(tmp_path / "order.csv")
    assert varying_genes(tmp_path / "order.csv", ["TF0", "TF1"], 2) == ["TF0", "G1", "G2"]
    assert varying_genes(tmp_path / "order.csv", ["TF0", "TF1"], None) == ["TF0", "G1", "G2", "G0"]
    out = tmp_path / "data"
    out.mkdir()
    inputs = write_inputs(tmp_path) | {"gene_order": tmp_path / "order.csv"}
    facts = TASK.prepare(inputs, {"max_genes": 500}, out)
    assert facts["genes_selected"] == 4 and facts["edges"] == 1  # TF0 -> G0
    assert problem_of(out)[1].outputs == ["G0", "TF0"]


def test_mouse_genes_are_refused_unless_the_card_says_so(tmp_path):
    inputs = write_inputs(tmp_path)
    names = {g: f"Gene{i}" for i, g in enumerate(GENES)}
    adata = anndata.read_h5ad(inputs["expression"])
    adata.var_names = [names[g] for g in GENES]
    adata.write_h5ad(inputs["expression"])
    network = pd.read_csv(inputs["network"])
    network.replace(names).to_csv(inputs["network"], index=False)
    inputs.pop("tfs")
    out = tmp_path / "data"
    out.mkdir()
    with pytest.raises(InputDataError, match="species: mouse"):
        TASK.prepare(inputs, {}, out)
    TASK.prepare(inputs, {"species": "mouse"}, out)
    _, problem = problem_of(out)
    genes = np.array(problem.outputs)
    features = Features("human", np.array([]), None, genes, np.ones((len(genes), 2)), np.ones(len(genes), dtype=bool))
    with pytest.raises(InputDataError, match="edge_scores"):
        TASK.solve(problem, features, 0)


@pytest.mark.parametrize("name", ["Gata6", "Nanog", "1700012B07Rik", "ENSMUSG00000000001", "Hbb-bs", "H2-K1", "T"])
@pytest.mark.parametrize("name_of_human", ["GATA6", "C1orf112", "HLA-A", "ENSG00000000003", "T", "LINC00115"])
def test_names_of_mouse_genes_are_told_apart_as_a_crowd(name, name_of_human):
    from sclong.tasks.grn_inference.networks import check_species

    mouse = [name, "Sox2", "Pou5f1", "Klf4", "Myc"]
    with pytest.raises(InputDataError, match="mice"):
        check_species(mouse, "human", "file")
    check_species([name_of_human, "SOX2", "POU5F1", "KLF4"], "human", "file")
    check_species(mouse, "mouse", "file")


def test_annotations_come_along_where_they_are_given(tmp_path, root):
    inputs = write_inputs(tmp_path)
    (tmp_path / "go.obo").write_text(
        "format-version: 1.2\nontology: go\n\n[Term]\nid: GO:0008150\nname: biological_process\n"
        "namespace: biological_process\n\n[Term]\nid: GO:0000001\nname: a\nnamespace: biological_process\n"
        "is_a: GO:0008150 ! biological_process\n"
    )
    row = "UniProtKB\tP{0}\t{0}\t\tGO:0000001\tPMID:1\tIDA\t\tP\t\t\tprotein\ttaxon:9606\t20200101\tUniProt\t\t\n"
    (tmp_path / "go.gaf").write_text("!gaf-version: 2.1\n" + "".join(row.format(g) for g in ("TF0", "G0", "G1")))
    out = tmp_path / "data"
    out.mkdir()
    facts = TASK.prepare(inputs | {"obo": tmp_path / "go.obo", "annotation": tmp_path / "go.gaf"}, {}, out)
    assert facts["annotated_genes"] == 3
    _, problem = problem_of(out)
    known = np.flatnonzero(problem.context.go_terms.getnnz(axis=1))
    assert {problem.outputs[i] for i in known} == {"TF0", "G0", "G1"}


MIRROR = pytest.mark.skipif(
    "SCLONG_MIRROR" not in os.environ, reason="SCLONG_MIRROR does not name a folder of real files"
)


@pytest.mark.mirror
@MIRROR
@pytest.mark.parametrize(
    ("name", "cells", "regulators", "genes", "edges"),
    [
        ("grn_scode_hesc", 758, 45, 100, 366),
        ("grn_scode_hesc_chip", 758, 17, 60, 214),
        ("grn_scode_hesc_nonspecific", 758, 22, 45, 85),
        ("grn_scode_hesc_string", 758, 31, 31, 130),
        ("grn_thp1_early", 960, 44, 45, 335),
        ("grn_scrapid_hepg2_smartseq2", 68, 94, 362, 5040),
    ],
)
def test_real_cards(tmp_path, root, name, cells, regulators, genes, edges):
    from sclong.config.cards import BenchmarkCard, load_cards

    spec = load_cards(root / "config" / "benchmarks", BenchmarkCard)[name].alternatives("small")[0]
    mirror = Path(os.environ["SCLONG_MIRROR"])
    inputs = {
        role: mirror / str(address).removeprefix("source:")
        for role, address in spec.inputs.items()
        if role not in ("obo", "annotation")
    }
    facts = TASK.prepare(inputs, spec.options, tmp_path)
    assert [facts[k] for k in ("cells", "regulators", "genes_judged", "edges")] == [cells, regulators, genes, edges]


@pytest.mark.mirror
@MIRROR
def test_real_public_hesc(tmp_path):
    folder = Path(os.environ["SCLONG_MIRROR"]) / "beeline_hesc_early"
    facts = TASK.prepare(
        {"expression": folder / "ExpressionData.csv", "network": folder / "refNetwork.csv"},
        {"expression_format": "csv", "transpose": True, "value_kind": "nonnegative", "max_genes": None},
        tmp_path,
    )
    assert (facts["cells"], facts["genes_judged"], facts["edges"]) == (758, 49, 366)
