"""Drug signatures: reading, the split by compound, metrics, ceilings and floors, models and the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.controls import Constant, TrainMean, Truth
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.benchmark.regression import mse, pearson, precision_at_k, spearman
from sclong.errors import CardError, InputDataError
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.classical import LineMean, NearestCompound, RidgeFingerprint, tanimoto
from sclong.tasks.chemical_perturbation.dataset import SignatureContext, Signatures
from sclong.tasks.chemical_perturbation.description import describe
from sclong.tasks.chemical_perturbation.score import precision_k
from sclong.tasks.chemical_perturbation.solve import gene_basis
from sclong.tasks.chemical_perturbation.task import TASK

GENES = [f"L{i}" for i in range(80)]
LINES = ["A375", "MCF7", "PC3"]
DOSES = [1.11, 10.0]
SCAFFOLDS = ["c1ccccc1{}", "c1ccncc1{}", "C1CCCCC1{}", "c1ccc2[nH]ccc2c1{}"]
GROUPS = ["O", "N", "Cl", "C(=O)O", "C#N", "S(N)(=O)=O"]
DRUGS = {f"BRD-{i:02d}": SCAFFOLDS[i % 4].format(GROUPS[i // 4]) for i in range(24)}
GENE_FACTORS = rng("gene factors").normal(size=(len(GENES), 3))


def signature(drug: int, line: int, dose: float) -> np.ndarray:
    """Scaffold and substituent each move genes along few directions; the dose scales."""
    draw = rng("effects of drugs")
    scaffold, group, context = (draw.normal(size=(k, 3)) for k in (4, 6, 3))
    weights = 2 * scaffold[drug % 4] + group[drug // 4] + 0.5 * context[line]
    return (0.5 + np.log10(dose)) * GENE_FACTORS @ weights


def write_inputs(folder: Path) -> dict[str, Path]:
    draw = rng("noise of signatures")
    rows = [(d, c, u) for d in range(24) for c in range(3) for u in DOSES]
    x = np.array([signature(*row) for row in rows]) + 0.3 * draw.normal(size=(len(rows), len(GENES)))
    obs = pd.DataFrame(
        {
            "pert_id": [list(DRUGS)[d] for d, _, _ in rows],
            "cell_id": [LINES[c] for _, c, _ in rows],
            "dose_um": [u for _, _, u in rows],
        },
        index=[f"sig{i}" for i in range(len(rows))],
    )
    anndata.AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(folder / "signatures.h5ad")
    pd.DataFrame({"drug_id": DRUGS.keys(), "smiles": DRUGS.values()}).to_csv(
        folder / "drugs.tsv", sep="\t", index=False
    )
    lines = anndata.AnnData(
        draw.random((3, 80)).astype(np.float32), obs=pd.DataFrame(index=LINES), var=pd.DataFrame(index=GENES)
    )
    lines.write_h5ad(folder / "lines.h5ad")
    return {
        "signatures": folder / "signatures.h5ad",
        "drugs": folder / "drugs.tsv",
        "expression": folder / "lines.h5ad",
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("l1000")
    (folder / "dataset").mkdir()
    facts = TASK.prepare(write_inputs(folder), {}, folder / "dataset")
    assert facts["compounds"] == 24 and facts["signatures"] == 144 and facts["genes_with_expression"] == 80
    return folder / "dataset"


@pytest.fixture(scope="module")
def split(dataset: Path) -> pd.DataFrame:
    return TASK.split(dataset, "compound", {}, 1)


def predictions_of(problem: Problem, values: np.ndarray) -> Predictions:
    ids = np.array(problem.test_samples)
    return Predictions(np.full(len(ids), problem.fold), ids, np.asarray(values, np.float32), np.array(problem.outputs))


def scored(dataset: Path, split: pd.DataFrame, values: np.ndarray, problem: Problem) -> pd.Series:
    return TASK.score(dataset, split, predictions_of(problem, values)).set_index("metric")["value"]


# --------------------------------------------------------------------------------------------------- data


def test_dataset_holds_what_was_read(dataset: Path) -> None:
    raw = anndata.read_h5ad(dataset.parent / "signatures.h5ad")
    signatures = Signatures.read(dataset)
    np.testing.assert_array_equal(signatures.values, raw.X)
    assert list(signatures.samples["smiles"]) == [DRUGS[p] for p in raw.obs["pert_id"]]
    assert anndata.read_h5ad(dataset / "expression.h5ad").uns["value_kind"] == "nonnegative"


def test_z_scores_are_no_expression(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    with pytest.raises(InputDataError, match="a non-negative number for every line"):
        TASK.prepare({**inputs, "expression": inputs["signatures"]}, {}, tmp_path)


# -------------------------------------------------------------------------------------------------- split


def test_a_compound_is_in_one_part(dataset: Path, split: pd.DataFrame) -> None:
    samples = Signatures.read(dataset).samples.set_index("sample")
    parts = split.assign(compound=samples.loc[split["sample"], "smiles"].to_numpy()).groupby("compound")["part"]
    assert (parts.nunique() == 1).all()
    assert parts.first().value_counts().to_dict() == {"train": 14, "validation": 5, "test": 5}
    pd.testing.assert_frame_equal(split, TASK.split(dataset, "compound", {}, 1))
    assert not split["part"].equals(TASK.split(dataset, "compound", {}, 2)["part"])


def test_one_molecule_written_in_two_ways_is_in_one_part(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    drugs = pd.read_csv(inputs["drugs"], sep="\t")
    drugs.loc[[1, 2], "smiles"] = ["Oc1ccccc1", "c1cccc(O)c1.Cl"]  # the first compound otherwise, and as a salt
    drugs.to_csv(inputs["drugs"], sep="\t", index=False)
    facts = TASK.prepare(inputs, {}, tmp_path)
    assert (facts["compounds"], facts["structures"]) == (24, 22)
    samples = Signatures.read(tmp_path).samples.set_index("sample")
    assert (samples["structure"][samples["pert_id"].isin(["BRD-00", "BRD-01", "BRD-02"])] == "Oc1ccccc1").all()
    for seed in range(5):
        split = TASK.split(tmp_path, "compound", {}, seed)
        assert split.groupby(samples.loc[split["sample"], "structure"].to_numpy())["part"].nunique().max() == 1


def test_splits_that_cannot_be(dataset: Path) -> None:
    with pytest.raises(InputDataError, match="no published parts"):
        TASK.split(dataset, "published", {}, 1)
    with pytest.raises(CardError, match="write 'test_fraction'"):
        TASK.split(dataset, "compound", {"test_fractoin": 0.1}, 1)
    with pytest.raises(InputDataError, match="none left for training"):
        TASK.split(dataset, "compound", {"test_fraction": 0.9, "validation_fraction": 0.5}, 1)


# ------------------------------------------------------------------------------------------ scores, models


def test_ceiling_and_floors(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    assert np.isnan(problem.targets[problem.rows("test")]).all()
    best = scored(dataset, split, Truth().predict(open_problem, 0), problem)
    floor = scored(dataset, split, Constant().predict(problem, 0), problem)
    assert set(best.index) == {"rmse", "pearson", "spearman", "pos_precision_at_20", "neg_precision_at_20"}
    for metric, value in best.items():
        assert value == pytest.approx(0 if metric == "rmse" else 1, abs=1e-6)
    assert floor["pearson"] == floor["spearman"] == 0 and floor["rmse"] > 1
    assert 0.1 < floor["pos_precision_at_20"] < 0.4  # chance: 20 of 80


def test_models_beat_the_training_mean(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    mean = scored(dataset, split, TrainMean().predict(problem, 0), problem)
    for model in (RidgeFingerprint(), NearestCompound()):
        assert scored(dataset, split, model.predict(problem, 0), problem)["pearson"] > mean["pearson"] + 0.1


def test_nearest_compound_prefers_line_then_dose() -> None:
    rows = [
        ("train", "CCO", "A375", 1.0),
        ("train", "CCO", "A375", 10.0),
        ("train", "CCO", "MCF7", 10.0),
        ("train", "c1ccccc1", "PC3", 10.0),
        ("test", "CCO", "A375", 8.0),
        ("test", "CCO", "PC3", 10.0),
    ]
    samples = pd.DataFrame(rows, columns=["part", "smiles", "cell_id", "dose_um"], index=list("abcdef"))
    targets = np.array([[1], [2], [4], [9], [np.nan], [np.nan]], dtype=np.float32)
    problem = Problem("chemical_perturbation", "0", samples, targets, ["g"], SignatureContext())
    np.testing.assert_array_equal(NearestCompound().predict(problem, 0), [[2], [3]])  # mean of two lines at 10 um
    np.testing.assert_array_equal(LineMean().predict(problem, 0), [[1.5], [9]])
    elsewhere = samples.assign(cell_id=[*samples["cell_id"][:5], "HELA"])
    np.testing.assert_array_equal(LineMean().predict(replace(problem, samples=elsewhere), 0), [[1.5], [4]])
    np.testing.assert_allclose(tanimoto(np.array([[1, 1, 0]]), np.array([[1, 0, 1], [0, 0, 0]])), [[1 / 3, 0]])


def test_description_of_a_signature(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    x = describe(problem)
    assert x.shape == (144, 512 + 3 + 1)
    np.testing.assert_array_equal(x[:, 512:515].sum(1), 1)
    np.testing.assert_allclose(10 ** x[:, -1], problem.samples["dose_um"])


def features_of(vectors: np.ndarray, unknown: int = 0) -> Features:
    mapped = np.arange(80) >= unknown
    table = vectors.astype(np.float32).copy()
    table[~mapped] = table[mapped].mean(0)
    return Features("m", np.array(LINES), None, np.array(GENES), table, mapped)


def test_gene_basis_is_orthonormal_and_zero_for_unknown_genes() -> None:
    basis = gene_basis(GENES, features_of(GENE_FACTORS, unknown=5))
    assert basis.shape == (80, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(basis[:5], 0, atol=1e-9)
    with pytest.raises(InputDataError, match="knows none of the 1 genes"):
        gene_basis(["ELSEWHERE"], features_of(GENE_FACTORS))


def test_head_profits_from_gene_vectors(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    good = TASK.solve(problem, features_of(GENE_FACTORS), 0)
    useless = TASK.solve(problem, features_of(rng("useless").normal(size=(80, 3))), 0)
    score_good, score_useless, score_mean = (
        scored(dataset, split, v, problem)["pearson"] for v in (good, useless, TrainMean().predict(problem, 0))
    )
    assert score_good > score_useless + 0.1 and score_good > score_mean + 0.2


def test_scores_by_compound_agree_with_those_of_all(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    values = RidgeFingerprint().predict(problem, 0)
    units = TASK.unit_scores(dataset, split, predictions_of(problem, values)).pivot(
        index="unit", columns="metric", values="value"
    )
    total = scored(dataset, split, values, problem)
    assert len(units) == 5 and set(units.columns) == set(total.index)
    for metric in total.index:  # as many signatures of each compound
        mean = np.sqrt((units["rmse"] ** 2).mean()) if metric == "rmse" else units[metric].mean()
        assert mean == pytest.approx(total[metric])


def test_precision_is_of_100_genes_where_there_are_978() -> None:
    assert precision_k(978) == 100 and precision_k(499) == 20


@pytest.mark.mirror
def test_metrics_on_real_signatures(mirror: Path) -> None:
    """Signatures of one drug in a line, measured again, agree more than those of different drugs."""
    folder = mirror / "cmapr_signatures"
    columns = pd.read_csv(folder / "cmapR_ds_cols.tsv.gz", sep="\t", dtype=str, encoding="latin-1")
    values = pd.read_csv(folder / "cmapR_ds_mat.tsv.gz", sep="\t", index_col=0).to_numpy().T
    key = columns[["pert_id", "cell_id", "pert_itime", "pert_idose"]].agg("|".join, axis=1)
    again = [rows.to_numpy()[:2] for _, rows in columns.groupby(key).groups.items() if len(rows) > 1]
    first, second = (values[[pair[i] for pair in again]] for i in (0, 1))
    other = np.roll(second, 1, axis=0)
    k = precision_k(978)
    for metric in (pearson, spearman, lambda a, b: precision_at_k(a, b, k), lambda a, b: -mse(a, b)):
        assert metric(first, second).mean() > metric(first, other).mean()
    assert (precision_at_k(first, first, k) == 1).all() and (precision_at_k(first, -first, k) == 0).all()
    np.testing.assert_array_equal(precision_at_k(first, second, k, lowest=True), precision_at_k(-first, -second, k))
