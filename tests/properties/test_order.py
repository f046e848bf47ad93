"""Scores and heads find genes, cells, drugs and edges by name: no order changes a number, no other name is taken.

Each task is tried with the demo's data set of it: predictions, splits, the files of the data set and the features that
heads read are put in another order, and given names that are not theirs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from demo_sets import Prepared
from scipy import sparse

from sclong.benchmark.names import align, output_names
from sclong.benchmark.problem import Features, Predictions
from sclong.errors import InputDataError
from sclong.tasks.chemical_perturbation.deepce import vectors_of
from sclong.tasks.drug_combination.deepdds import deepdds_data
from sclong.tasks.genetic_perturbation.gears import embedded_controls

TASKS = (
    "batch_integration",
    "chemical_perturbation",
    "drug_combination",
    "drug_response",
    "gene_pairs",
    "genetic_perturbation",
    "grn_inference",
)
SEVERAL = {"batch_integration": 5, "gene_pairs": 2, "grn_inference": 2}
"""Tasks whose predictions may be several arrays side by side."""


def predicted(there: Prepared, arrays: int = 1) -> Predictions:
    """Predictions that look like the truth and noise, so that every metric has something to see."""
    folds: list[Predictions] = []
    for problem in there.task.problems(there.dataset, there.split, sees_truth=True):
        draw = np.random.default_rng(len(folds))
        truth = problem.targets[problem.rows("test")]
        values = np.concatenate([truth + draw.normal(size=truth.shape) for _ in range(arrays)], axis=1)
        ids = np.array(problem.test_samples)
        names = np.array(output_names(problem.outputs, values.shape[1]))
        folds.append(Predictions(np.full(len(ids), problem.fold), ids, values.astype(np.float32), names))
    fold, sample, values = (np.concatenate([getattr(f, n) for f in folds]) for n in ("fold", "sample", "values"))
    return Predictions(fold, sample, values, folds[0].outputs)


def permuted(predictions: Predictions, draw: np.random.Generator) -> Predictions:
    rows, columns = draw.permutation(len(predictions.sample)), draw.permutation(len(predictions.outputs))
    return Predictions(
        predictions.fold[rows],
        predictions.sample[rows],
        predictions.values[np.ix_(rows, columns)],
        predictions.outputs[columns],
    )


def scores(found: pd.DataFrame) -> pd.Series:
    return found.set_index(["scenario", "metric"])["value"].sort_index()


def same(found: pd.Series, expected: pd.Series, tolerance: float = 1e-9) -> None:
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_predictions_and_split_changes_no_score(prepared, task: str) -> None:
    there = prepared[task]
    for arrays in {1, SEVERAL.get(task, 1)}:
        predictions = predicted(there, arrays)
        expected = scores(there.task.score(there.dataset, there.split, predictions))

        for seed in range(2):
            draw, split = np.random.default_rng(seed), there.split.sample(frac=1, random_state=seed)
            same(scores(there.task.score(there.dataset, split, permuted(predictions, draw))), expected)


@pytest.mark.parametrize("task", TASKS)
def test_other_names_are_refused(prepared, task: str) -> None:
    there = prepared[task]
    right = predicted(there)
    strange = np.array([f"WRONG{i}" for i in range(len(right.outputs))])
    first = np.concatenate([["WRONG"], right.outputs[1:]])
    ids = np.concatenate([["WRONG"], right.sample[1:]])
    wrong = {
        "outputs": [replace(right, outputs=strange), replace(right, outputs=first)],
        "samples": [
            replace(right, sample=ids),
            Predictions(right.fold[1:], right.sample[1:], right.values[1:], right.outputs),
            replace(right, sample=np.concatenate([right.sample[:1], right.sample[:-1]])),
        ],
    }
    if len(right.outputs) > 1:
        fewer = replace(right, values=right.values[:, 1:], outputs=right.outputs[1:])
        twice = replace(right, outputs=np.concatenate([right.outputs[:1], right.outputs[:-1]]))
        wrong["outputs"] += [fewer, twice]
    if task in SEVERAL:
        both = predicted(there, 2)
        wrong["outputs"].append(replace(both, outputs=np.array([f"{i}:WRONG{i}" for i in range(len(both.outputs))])))
    for what, cases in wrong.items():
        for case in cases:
            with pytest.raises(InputDataError, match=what) as error:
                there.task.score(there.dataset, there.split, case)
            assert error.value.expected and "make the predictions again" in error.value.action
    split = there.split
    split.loc[split.index[split["part"] == "test"][0], "sample"] = "WRONG"
    with pytest.raises(InputDataError):
        there.task.score(there.dataset, split, right)
    with pytest.raises(InputDataError, match="'WRONG'") as error:
        list(there.task.problems(there.dataset, split)) if task != "grn_inference" else there.task.score(
            there.dataset, split, replace(right, sample=np.where(right.sample == right.sample[0], "WRONG", ids))
        )
    assert error.value.expected and error.value.action


# ------------------------------------------------------------ the files of a data set


def shuffle_table(name: str) -> Callable[[Path, np.random.Generator], None]:
    """Put the rows of a table in another order."""

    def shuffle(folder: Path, draw: np.random.Generator) -> None:
        table = pd.read_csv(folder / name, sep="\t", dtype=str, keep_default_na=False)
        table.iloc[draw.permutation(len(table))].to_csv(folder / name, sep="\t", index=False)

    return shuffle


def shuffle_cells(folder: Path, draw: np.random.Generator) -> None:
    adata = anndata.read_h5ad(folder / "expression.h5ad")
    rows, columns = draw.permutation(adata.n_obs), draw.permutation(adata.n_vars)
    adata[rows, columns].copy().write_h5ad(folder / "expression.h5ad")


def shuffle_signatures(folder: Path, draw: np.random.Generator) -> None:
    with np.load(folder / "signatures.npz") as arrays:
        rows, columns = draw.permutation(arrays["values"].shape[0]), draw.permutation(len(arrays["genes"]))
        values, genes = arrays["values"][np.ix_(rows, columns)], arrays["genes"][columns]
    np.savez(folder / "signatures.npz", values=values, genes=genes)
    table = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.iloc[rows].to_csv(folder / "samples.tsv", sep="\t", index=False)


def shuffle_profiles(folder: Path, draw: np.random.Generator) -> None:
    """Conditions and genes of profiles and gene sets; rankings hold places of genes, which move with them."""
    with np.load(folder / "profiles.npz") as arrays:
        profiles = dict(arrays)
    rows, columns = draw.permutation(len(profiles["mean"])), draw.permutation(len(profiles["genes"]))
    for name in ("mean", "half_a", "half_b"):
        profiles[name] = profiles[name][np.ix_(rows, columns)]
    for name in ("genes", "symbols", "control_mean"):
        profiles[name] = profiles[name][columns]
    np.savez(folder / "profiles.npz", **profiles)
    new_place = np.append(np.argsort(columns), -1)  # the last: -1 stays -1
    with np.load(folder / "gene_sets.npz") as arrays:
        sets = {k: v[rows] for k, v in arrays.items()}
    for name in ("order", "top_non_dropout", "top_non_zero"):
        sets[name] = new_place[sets[name]].astype(np.int32)
    for name in ("non_zero", "non_dropout"):
        sets[name] = sets[name][:, columns]
    np.savez(folder / "gene_sets.npz", **sets)
    table = pd.read_csv(folder / "conditions.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.iloc[rows].to_csv(folder / "conditions.tsv", sep="\t", index=False)


def shuffle_network(folder: Path, draw: np.random.Generator) -> None:
    shuffle_table("edges.tsv")(folder, draw)
    genes = pd.read_csv(folder / "genes.tsv", sep="\t", dtype=str, keep_default_na=False)
    columns = draw.permutation(len(genes))
    genes.iloc[columns].to_csv(folder / "genes.tsv", sep="\t", index=False)
    values = sparse.csr_matrix(sparse.load_npz(folder / "network_expression.npz"))
    sparse.save_npz(folder / "network_expression.npz", values[:, columns])


SHUFFLES: dict[str, tuple[Callable[[Path, np.random.Generator], None], ...]] = {
    "batch_integration": (shuffle_table("labels.tsv"), shuffle_cells),
    "chemical_perturbation": (shuffle_signatures,),
    "drug_combination": (shuffle_table("triples.tsv"), shuffle_cells),
    "drug_response": (shuffle_table("pairs.tsv"), shuffle_cells),
    "gene_pairs": (shuffle_table("pairs.tsv"),),
    "genetic_perturbation": (shuffle_profiles,),
    "grn_inference": (shuffle_network,),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_order_in_the_files_of_a_data_set_changes_no_score(prepared, tmp_path: Path, task: str) -> None:
    there = prepared[task]
    predictions = predicted(there)
    expected = scores(there.task.score(there.dataset, there.split, predictions))
    other = tmp_path / "shuffled"
    shutil.copytree(there.dataset, other)
    for shuffle in SHUFFLES[task]:
        shuffle(other, np.random.default_rng(1))
    # principal components of shuffled genes are the same to the solver's tolerance
    same(scores(there.task.score(other, there.split, predictions)), expected, 1e-4 if "batch" in task else 1e-9)


# ------------------------------------------------------------------- readers of features


def features_of(dataset: Path, contextual: bool = False) -> Features:
    """Vectors of the data set's cells and genes that say something: loadings of their expression."""
    adata = anndata.read_h5ad(dataset / "expression.h5ad")
    values = np.asarray(adata.to_df(), dtype=np.float32)
    draw = np.random.default_rng(0)
    cells = (values @ draw.normal(size=(values.shape[1], 6)) / 10).astype(np.float32)
    genes = (values.T @ draw.normal(size=(values.shape[0], 6)) / 10).astype(np.float32)
    return Features(
        model="toy",
        cells=adata.obs_names.to_numpy(dtype=str),
        cell_embedding=cells,
        genes=adata.var_names.to_numpy(dtype=str),
        gene_embedding=genes,
        gene_mapped=draw.random(len(genes)) < 0.95,
        contextual_embedding=np.asarray(cells[:, None] + genes[None], dtype=np.float16) if contextual else None,
    )


def shuffled_features(features: Features, draw: np.random.Generator) -> Features:
    cells, genes = draw.permutation(len(features.cells)), draw.permutation(len(features.genes))
    context = features.contextual_embedding
    return replace(
        features,
        cells=features.cells[cells],
        cell_embedding=features.cell_vectors()[cells],
        genes=features.genes[genes],
        gene_embedding=features.gene_vectors()[genes],
        gene_mapped=features.gene_mapped[genes],
        contextual_embedding=None if context is None else context[np.ix_(cells, genes)],
    )


def strangers(features: Features) -> Features:
    return replace(
        features,
        cells=np.array([f"WRONG{i}" for i in range(len(features.cells))]),
        genes=np.array([f"WRONG{i}" for i in range(len(features.genes))]),
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_features_changes_no_prediction_and_other_names_are_refused(prepared, task: str) -> None:
    there = prepared[task]
    problem = next(iter(there.task.problems(there.dataset, there.split)))
    features = features_of(there.dataset)
    expected = there.task.solve(problem, features, 0)
    for seed in (1, 2):
        found = there.task.solve(problem, shuffled_features(features, np.random.default_rng(seed)), 0)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(InputDataError) as error:
        there.task.solve(problem, strangers(features), 0)
    assert error.value.expected and error.value.action
    for names in ("cells", "genes")[task == "gene_pairs" :]:  # its cells are genes alone
        twice = getattr(features, names).copy()
        twice[1] = twice[0]
        if (names == "cells") == (task in ("batch_integration", "drug_combination", "drug_response")):
            with pytest.raises(InputDataError, match="appear twice"):
                there.task.solve(problem, replace(features, **{names: twice}), 0)


def test_gene_vectors_of_deepce_are_found_by_name(prepared) -> None:
    there = prepared["chemical_perturbation"]
    problem = next(iter(there.task.problems(there.dataset, there.split)))
    features = features_of(there.dataset)
    expected = vectors_of(problem.outputs, features)
    found = vectors_of(problem.outputs, shuffled_features(features, np.random.default_rng(3)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputDataError, match="none of the"):
        vectors_of(problem.outputs, strangers(features))


def test_control_cells_of_gears_are_found_by_name(prepared) -> None:
    there = prepared["genetic_perturbation"]
    problem = next(iter(there.task.problems(there.dataset, there.split)))
    names = features_of(there.dataset).cells
    order = np.random.default_rng(4).permutation(len(names))
    np.testing.assert_array_equal(embedded_controls(problem, names[order]), embedded_controls(problem, names)[order])
    with pytest.raises(InputDataError, match="WRONG"):
        embedded_controls(problem, np.array(["WRONG", *names[1:]]))


def test_cell_lines_of_deepdds_are_found_by_name(prepared) -> None:
    there = prepared["drug_combination"]
    problem = next(iter(there.task.problems(there.dataset, there.split)))
    features = features_of(there.dataset)
    other = shuffled_features(features, np.random.default_rng(5))
    one, two = (deepdds_data(problem, f.cells, f.cell_vectors(), "toy", sort_pairs=True) for f in (features, other))
    np.testing.assert_array_equal(one.lines[one.line], two.lines[two.line])


def test_names_are_found_in_any_order() -> None:
    assert align(["b", "a"], ["a", "b", "a"], "x", "do").tolist() == [1, 0, 1]
    assert align(["b"], ["a", "b"], "x", "do", missing=True).tolist() == [-1, 0]
    with pytest.raises(InputDataError, match="missing: 'c'; not expected: 'b'") as error:
        align(["a", "b"], ["a", "c"], "rows", "mend them", exactly=True)
    assert error.value.action == "mend them" and "'a', 'c'" in error.value.expected
    with pytest.raises(InputDataError, match="2 columns"):
        output_names(["a", "b", "c"], 2)
