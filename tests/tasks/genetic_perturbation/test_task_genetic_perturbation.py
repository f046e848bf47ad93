"""Genetic perturbations: conditions, differential expression, the published split, ceilings and floors, the head."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from sclong.benchmark.controls import Constant, TrainMean, Truth
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.config.cards import BenchmarkCard, load_cards
from sclong.errors import CardError, InputDataError
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.cells import ConditionCells
from sclong.tasks.genetic_perturbation.classical import Additive, LinearLatent
from sclong.tasks.genetic_perturbation.dataset import PerturbationContext, Profiles
from sclong.tasks.genetic_perturbation.gene_effects import perturbed_vectors
from sclong.tasks.genetic_perturbation.score import SCENARIOS, condition_scores
from sclong.tasks.genetic_perturbation.split import simulation_split
from sclong.tasks.genetic_perturbation.task import CONDITION_METRICS, INTERACTION_METRICS, TASK
from sclong.world.experiments import perturbation
from sclong.world.world import build_world

GENES = [f"G{i}" for i in range(60)]
PERTURBED = [*GENES[:15], "UNMEASURED"]
CELLS = 12
OPTIONS = {"value_kind": "log1p_cp10k", "max_control_cells": 20}


def effects() -> dict[str, np.ndarray]:
    """Change that each perturbed gene makes: a function of four hidden factors of the gene."""
    draw = rng("effects")
    factors = draw.normal(size=(4, len(GENES)))
    return {g: 0.4 * hidden_factors()[g] @ factors for g in PERTURBED}


def hidden_factors() -> dict[str, np.ndarray]:
    draw = rng("hidden")
    return {g: draw.normal(size=4) for g in PERTURBED}


def screen(path: Path, noise: float = 0.05) -> Path:
    """Write log-normalised cells whose doubles are exactly additive; labels in all the spellings there are."""
    draw, effect = rng("screen"), effects()
    base = 9 + draw.random(len(GENES))
    singles = [(f"{g}+ctrl" if i % 2 else f"ctrl+{g}", [g]) for i, g in enumerate(PERTURBED)]
    singles.append((f"{PERTURBED[0]}+ctrl", [PERTURBED[0]]))  # the other orientation of the first
    doubles = [(f"{b}+{a}", [a, b]) for a, b in list(combinations(PERTURBED, 2))[::3]]
    profiles, labels = [np.tile(base, (40, 1))], ["ctrl"] * 40
    for label, genes in singles + doubles:
        profiles.append(np.tile(base + sum(effect[g] for g in genes), (CELLS, 1)))
        labels += [label] * CELLS
    x = np.vstack(profiles)
    x = np.maximum(x + noise * draw.normal(size=x.shape), 0)
    x[np.array(labels) == "ctrl+G2", 40] = 0  # a dropout: expressed in control, never in this condition
    x = np.hstack([x, np.zeros((len(x), 1))])  # a gene that nobody expresses
    obs = pd.DataFrame({"condition": labels, "study": "a"}, index=[f"c{i}" for i in range(len(x))])
    adata = anndata.AnnData(
        sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=pd.DataFrame(index=[*GENES, "SILENT"])
    )
    adata = adata[draw.permutation(len(x))].copy()
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screen")
    raw = screen(folder / "raw.h5ad")
    (folder / "dataset").mkdir()
    facts = TASK.prepare({"expression": raw}, OPTIONS, folder / "dataset")
    assert facts["genes"] == 60 and facts["singles"] == 16 and facts["control_cells"] == 40
    assert facts["perturbed_genes_not_measured"] == ["UNMEASURED"]
    return folder / "dataset"


@pytest.fixture(scope="module")
def split(dataset: Path) -> pd.DataFrame:
    return TASK.split(dataset, "simulation", {}, 1)


def answer(problem: Problem, values: np.ndarray) -> Predictions:
    ids = np.array(problem.test_samples)
    return Predictions(np.full(len(ids), problem.fold), ids, np.asarray(values, np.float32), np.array(problem.outputs))


def scored(dataset: Path, split: pd.DataFrame, values: np.ndarray, problem: Problem) -> pd.DataFrame:
    table = TASK.score(dataset, split, answer(problem, values))
    return table.pivot(index="scenario", columns="metric", values="value")


# --------------------------------------------------------------------------------------------------- data


def test_profiles_are_means_of_cells(dataset: Path) -> None:
    raw = anndata.read_h5ad(dataset.parent / "raw.h5ad")
    profiles = Profiles.read(dataset)
    assert list(profiles.genes) == GENES
    x = raw.X.toarray()[:, :60]
    np.testing.assert_allclose(profiles.control_mean, x[raw.obs["condition"] == "ctrl"].mean(0), rtol=1e-5)
    table = profiles.conditions.set_index("sample")
    assert table.loc["G0", "cells"] == 2 * CELLS and table.loc["G1", "genes"] == "G1"  # both spellings of G0
    both = raw.obs["condition"].isin(["ctrl+G0", "G0+ctrl"]).to_numpy()
    row = list(table.index).index("G0")
    np.testing.assert_allclose(profiles.mean[row], x[both].mean(0), rtol=1e-5)
    double = table[table["label"] == "G4+G0"]
    assert list(double.index) == ["G0+G4"] and list(double["genes"]) == ["G0|G4"]


def test_ranked_genes_are_welch_without_dropouts(dataset: Path) -> None:
    raw = anndata.read_h5ad(dataset.parent / "raw.h5ad")
    x, condition = raw.X.toarray()[:, :60], raw.obs["condition"].to_numpy()
    score = np.abs(stats.ttest_ind(x[condition == "ctrl+G2"], x[condition == "ctrl"], equal_var=False).statistic)
    expected = [GENES[i] for i in np.argsort(-score) if i != 40][:20]
    table = pd.read_csv(dataset / "de_genes.tsv", sep="\t")
    assert list(table.loc[table["condition"] == "G2", "gene"]) == expected
    assert np.argmax(score) == 40  # the dropout would have been first


def test_expression_holds_control_cells_and_unmeasured_genes(dataset: Path) -> None:
    raw, cells = (anndata.read_h5ad(p) for p in (dataset.parent / "raw.h5ad", dataset / "expression.h5ad"))
    assert cells.shape == (20, 61) and cells.uns["value_kind"] == "log1p_cp10k"
    assert set(raw.obs.loc[cells.obs_names, "condition"]) == {"ctrl"}
    assert cells.var_names[-1] == "UNMEASURED" and cells[:, "UNMEASURED"].X.sum() == 0
    np.testing.assert_array_equal(cells[:, GENES].X.toarray(), raw[cells.obs_names, GENES].X.toarray())


def test_orientations_apart_as_published(tmp_path: Path) -> None:
    facts = TASK.prepare(
        {"expression": screen(tmp_path / "raw.h5ad")}, {**OPTIONS, "merge_orientations": False}, tmp_path
    )
    assert facts["singles"] == 17
    table = Profiles.read(tmp_path).conditions.set_index("sample")
    assert table.loc["ctrl+G0", "genes"] == table.loc["G0+ctrl", "genes"] == "G0"


def test_counts_are_normalised_and_kept_for_embedding(tmp_path: Path) -> None:
    draw = rng("counts")
    x = draw.poisson(3, size=(60, 30))
    obs = pd.DataFrame({"condition": np.repeat(["ctrl", "G1+ctrl", "G2"], 20)}, index=[str(i) for i in range(60)])
    adata = anndata.AnnData(sparse.csr_matrix(x, dtype=np.float32), obs=obs, var=pd.DataFrame(index=GENES[:30]))
    adata.write_h5ad(tmp_path / "raw.h5ad")
    TASK.prepare({"expression": tmp_path / "raw.h5ad"}, {"value_kind": "counts"}, tmp_path)
    logged = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    np.testing.assert_allclose(Profiles.read(tmp_path).control_mean, logged[:20].mean(0), rtol=1e-4)
    cells = anndata.read_h5ad(tmp_path / "expression.h5ad")
    assert cells.uns["value_kind"] == "counts"
    np.testing.assert_array_equal(cells.X.toarray(), x[:20])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"control": "non-targeting"}, InputDataError, "0 control cells"),
        ({"condition_column": "conditions"}, InputDataError, "write 'condition'"),
        ({"keep": {"studi": "a"}}, InputDataError, "write 'study'"),
        ({"condition_colum": "condition"}, CardError, "write 'condition_column'"),
    ],
)
def test_wrong_options_say_what_to_do(tmp_path: Path, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        TASK.prepare({"expression": screen(tmp_path / "raw.h5ad")}, {**OPTIONS, **options}, tmp_path)


def test_log_values_are_not_taken_for_counts_nor_z_scores_for_expression(tmp_path: Path) -> None:
    raw = screen(tmp_path / "raw.h5ad")
    with pytest.raises(InputDataError, match="not integers"):
        TASK.prepare({"expression": raw}, {**OPTIONS, "value_kind": "counts"}, tmp_path)
    adata = anndata.read_h5ad(raw)
    adata.X = adata.X.toarray() - 9
    adata.write_h5ad(raw)
    with pytest.raises(InputDataError, match="negative values"):
        TASK.prepare({"expression": raw}, OPTIONS, tmp_path)
    raw.write_bytes(raw.read_bytes()[:5000])
    with pytest.raises(InputDataError, match=r"raw\.h5ad"):
        TASK.prepare({"expression": raw}, OPTIONS, tmp_path)


# -------------------------------------------------------------------------------------------------- split


def test_split_equals_the_published_procedure_written_out() -> None:
    draw = rng("published")
    genes = [f"T{i}" for i in range(41)]
    pairs = [genes[a] + "+" + genes[b] for a, b in draw.permutation(list(combinations(range(41), 2)))[:90]]
    labels = [f"{g}+ctrl" for g in genes[:37]] + pairs
    for seed in (1, 2):
        np.random.seed(seed)
        train_genes = np.random.choice(np.unique(genes), int(41 * 0.75), replace=False)
        touching = [p for p in pairs if set(p.split("+")) & set(train_genes)]
        seen1 = [p for p in touching if len(set(p.split("+")) & set(train_genes)) == 1]
        rest = np.setdiff1d(touching, seen1)
        np.random.seed(seed)
        kept = np.random.choice(rest, int(len(rest) * 0.75), replace=False)
        expected = {
            "train": {f"{g}+ctrl" for g in train_genes} & set(labels) | set(kept),
            "seen_1_of_2": set(seen1),
            "seen_2_of_2": set(rest) - set(kept),
            "seen_0_of_2": set(pairs) - set(touching),
            "seen_0_of_1": {f"{g}+ctrl" for g in set(genes) - set(train_genes)} & set(labels),
        }
        parts = simulation_split(labels, [lab.removesuffix("+ctrl").split("+") for lab in labels], 0.75, 0.75, seed)
        assert {k: {lab for lab, p in zip(labels, parts, strict=True) if p == k} for k in set(parts)} == expected


def norman_conditions() -> tuple[list[str], list[list[str]]]:
    """Conditions of GEARS' Norman file, and the genes of each."""
    lines = Path(__file__).with_name("norman_conditions.txt").read_text().splitlines()
    labels = [line for line in lines if not line.startswith("#")]
    return labels, [sorted(set(label.split("+")) - {"ctrl"}) for label in labels]


def test_split_of_the_screen_has_the_published_sizes() -> None:
    """Seed 1 on the names of the real file; the order of the conditions decides nothing."""
    labels, genes = norman_conditions()
    pairs = [pair for pair in genes if len(pair) == 2]
    assert (len(labels), len(pairs), len({g for pair in genes for g in pair})) == (283, 131, 105)
    parts = simulation_split(labels, genes, 0.75, 0.75, 1)
    sizes = {"seen_0_of_2": 9, "seen_1_of_2": 52, "seen_2_of_2": 18, "seen_0_of_1": 37, "train": 167}
    assert Counter(parts) == sizes
    unseen = {pair[0] for pair, part in zip(genes, parts, strict=True) if part == "seen_0_of_1"}
    assert len(unseen) == 105 - int(105 * 0.75) == 27
    kept = [i for i, part in enumerate(parts) if part == "train"]
    inner = simulation_split([labels[i] for i in kept], [genes[i] for i in kept], 0.9, 0.9, 1)
    assert inner.count("train") == 137
    order = rng("order of conditions").permutation(len(labels))
    again = simulation_split([labels[i] for i in order], [genes[i] for i in order], 0.75, 0.75, 1)
    assert again == [parts[i] for i in order]
    others = [simulation_split(labels, genes, 0.75, 0.75, seed) for seed in (2, 3, 4, 5)]
    assert all(Counter(other) != sizes for other in others)


def test_no_unseen_gene_is_in_training(dataset: Path, split: pd.DataFrame) -> None:
    assert (split["fold"] == "0").all() and split["sample"].is_unique
    assert set(split["part"]) == {"train", "validation", "test"}
    genes = {s: set(s.split("+")) for s in split["sample"]}
    fitted = set().union(*(genes[s] for s in split.loc[split["part"] != "test", "sample"]))
    train = set().union(*(genes[s] for s in split.loc[split["part"] == "train", "sample"]))
    assert (split["scenario"] != "").equals(split["part"] == "test")
    assert set(split.loc[split["part"] == "test", "scenario"]) == set(SCENARIOS)
    for row in split[split["part"] == "test"].itertuples():
        seen = int(row.scenario.split("_")[1])
        assert len(genes[row.sample] & fitted) == seen, row
    only_validation = fitted - train  # validation holds genes that training does not: S(train, 0.9, 0.9)
    assert only_validation
    pd.testing.assert_frame_equal(split, TASK.split(dataset, "simulation", {}, 1))
    assert not split["part"].equals(TASK.split(dataset, "simulation", {}, 2)["part"])


def test_unknown_policy_is_refused(dataset: Path) -> None:
    with pytest.raises(CardError, match="split: simulation"):
        TASK.split(dataset, "simulatoin", {}, 1)


# ------------------------------------------------------------------------------------- problems and scores


def test_test_targets_are_hidden(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    test = problem.rows("test")
    assert np.isnan(problem.targets[test]).all() and np.isfinite(np.delete(problem.targets, test, axis=0)).all()
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    assert np.isfinite(open_problem.targets).all()


def test_context_speaks_of_test_conditions_to_a_ceiling_only(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    test = set(problem.test_samples)
    for key in ("de", "non_zero"):
        assert set(getattr(problem.context, key)) == set(problem.samples.index) - test
        assert set(getattr(open_problem.context, key)) == set(problem.samples.index)
    de = problem.context.de["G2"]
    assert 40 in de and len(de) == 20 and (np.diff(de) > 0).all()  # the whole ranking: dropouts too
    assert 40 not in problem.context.non_zero["G2"] and len(problem.context.non_zero["G2"]) == 59
    sample = problem.test_samples[0]
    with pytest.raises(InputDataError, match="test sample"):
        problem.context.cells.of(sample)
    assert open_problem.context.cells.of(sample).shape == (CELLS, 60)
    assert problem.context.cells.control().shape == (20, 60)
    assert problem.context.half_a is None and problem.context.half_b is None
    np.testing.assert_allclose(
        (open_problem.context.half_a + open_problem.context.half_b) / 2, open_problem.targets, rtol=1e-4
    )  # every condition has an even number of cells


def test_ceiling_and_floors(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    best = scored(dataset, split, Truth().predict(open_problem, 0), problem)
    floor = scored(dataset, split, Constant().predict(problem, 0), problem)
    mean = scored(dataset, split, TrainMean().predict(problem, 0), problem)
    assert list(best.index) == sorted([*SCENARIOS, "doubles"])
    best, floor, mean = (t.loc[list(SCENARIOS), list(CONDITION_METRICS)] for t in (best, floor, mean))
    for metric, direction in CONDITION_METRICS.items():
        np.testing.assert_allclose(best[metric], 1 if direction == "max" else 0, atol=1e-9)
        if direction == "min":
            assert (floor[metric] > 0.05).all() and (mean[metric] > 0.01).all()
        elif metric.startswith(("pearson_delta", "direction")):
            np.testing.assert_array_equal(floor[metric], 0)  # no change correlates with nothing
        elif metric.startswith("pearson_around"):
            np.testing.assert_array_equal(mean[metric], 0)
        else:
            assert (mean[metric] < 1).all()
    np.testing.assert_array_equal(floor["discrimination_cosine_delta_all_genes"], 0.5)


def test_scores_of_conditions_average_to_those_of_the_table(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    answers = answer(problem, TrainMean().predict(problem, 0))
    each, table = condition_scores(dataset, split, answers), TASK.score(dataset, split, answers)
    assert list(each["sample"]) == problem.test_samples and not each.isna().any(axis=None)
    means = each.groupby("scenario")[list(CONDITION_METRICS)].mean()
    for row in table[table["unit"] == "conditions"].itertuples():
        assert row.value == pytest.approx(means.loc[row.scenario, row.metric])
    assert each["discrimination_l1_all_genes"].mean() == pytest.approx(0.5)  # one answer to everything


def test_scores_of_each_condition_average_to_those_of_a_scenario(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    given = answer(problem, TrainMean().predict(problem, 0))
    units = TASK.unit_scores(dataset, split, given)
    assert list(units.columns) == ["scenario", "unit", "metric", "value"]
    assert set(units["unit"]) == set(problem.test_samples) and set(units["metric"]) == set(CONDITION_METRICS)
    assert not units.duplicated(["unit", "metric"]).any() and units["value"].notna().all()
    table = TASK.score(dataset, split, given)
    table = table[table["unit"] == "conditions"].set_index(["scenario", "metric"])
    means = units.groupby(["scenario", "metric"])["value"].agg(["mean", "size"]).loc[table.index]
    np.testing.assert_allclose(means["mean"], table["value"])
    assert list(means["size"]) == list(table["n"])


def test_interactions_of_additive_doubles(dataset: Path, split: pd.DataFrame) -> None:
    """Every double adds up: the truth scores 1, and additive answers have no spread to correlate."""
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    best = TASK.score(dataset, split, answer(problem, open_problem.targets[problem.rows("test")]))
    best = best[best["scenario"] == "doubles"].set_index("metric")
    doubles = sum("+" in s for s in problem.test_samples)
    assert (best["n"] == doubles).all() and (best["unit"] == "doubles").all()
    expected = [m for m in INTERACTION_METRICS if doubles >= 40 or not m.endswith("precision_at_10")]
    assert list(best.index) == expected
    np.testing.assert_allclose(best["value"], 1)
    profiles = Profiles.read(dataset)
    change = dict(zip(profiles.conditions["sample"], profiles.mean - profiles.control_mean, strict=True))
    zero = np.zeros_like(profiles.control_mean)
    sums = [np.sum([change.get(g, zero) for g in s.split("+")], axis=0) for s in problem.test_samples]
    table = TASK.score(dataset, split, answer(problem, np.array(sums) + profiles.control_mean))
    value = table.set_index("metric")["value"]
    assert value["gi_ols50_magnitude_pearson"] == 0  # sqrt(2) for every pair
    assert table["value"].notna().all()


def test_too_few_doubles_have_no_interaction_scores(dataset: Path, split: pd.DataFrame) -> None:
    doubles = split["sample"].str.contains("+", regex=False) & (split["part"] == "test")
    few = split[~doubles | (doubles.cumsum() < 5)]
    (problem,) = TASK.problems(dataset, few)
    table = TASK.score(dataset, few, answer(problem, TrainMean().predict(problem, 0)))
    assert "doubles" not in set(table["scenario"])


def test_scores_by_hand_and_in_any_order(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    rows = problem.rows("test")
    values = open_problem.targets[rows] + rng("error").normal(size=(len(rows), 60)).astype(np.float32)
    table = TASK.score(dataset, split, answer(problem, values)).set_index(["scenario", "metric"])
    members = (problem.samples["scenario"].iloc[rows] == "seen_0_of_1").to_numpy()
    expected = ((values - open_problem.targets[rows]) ** 2)[members].mean()
    assert table.loc[("seen_0_of_1", "mse_all_genes"), "value"] == pytest.approx(expected, rel=1e-5)
    assert table.loc[("seen_0_of_1", "mse_all_genes"), "n"] == members.sum()
    backwards = answer(problem, values)
    backwards = Predictions(backwards.fold, backwards.sample[::-1], backwards.values[::-1], backwards.outputs)
    pd.testing.assert_frame_equal(TASK.score(dataset, split, backwards), table.reset_index())


# ------------------------------------------------------------------------------------------------- models


def test_additive_is_exact_on_additive_data(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    values = Additive().predict(problem, 0)
    scores = scored(dataset, split, values, problem)
    singles = {s for s in problem.samples.index[problem.rows("train")] if "+" not in s}
    singles -= {"G2"}  # its planted dropout is not additive
    known = [i for i, s in enumerate(problem.test_samples) if set(s.split("+")) <= singles]
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    truth = open_problem.targets[problem.rows("test")]
    assert len(known) >= 2
    assert np.abs(values[known] - truth[known]).mean() < 0.05  # cell noise only
    assert np.abs(values - truth).mean() > 5 * np.abs(values[known] - truth[known]).mean()
    assert scores.loc["seen_2_of_2", "pearson_delta_all_genes"] > scores.loc["seen_0_of_1", "pearson_delta_all_genes"]


def test_additive_unseen_gene_counts_with_the_mean_single_change() -> None:
    samples = pd.DataFrame(
        {"part": ["train", "train", "test", "test"], "scenario": "", "genes": ["A", "B", "A|C", "A|B"]},
        index=["A", "B", "A+C", "A+B"],
    )
    targets = np.array([[1, 2], [1, 6], [np.nan, np.nan], [np.nan, np.nan]], dtype=np.float32)
    problem = Problem(
        "genetic_perturbation", "0", samples, targets, ["x", "y"], context_of(["x", "y"], np.array([1.0, 1.0]))
    )
    np.testing.assert_allclose(Additive().predict(problem, 0), [[1, 1 + 1 + 3], [1, 1 + 1 + 5]])


def context_of(genes: list[str], control_mean: np.ndarray) -> PerturbationContext:
    """Return a context of which models may use the names of genes and the control profile."""
    return PerturbationContext(
        annotated_genes=genes,
        control_mean=control_mean,
        gene_names=genes,
        perturbed_ids={},
        de={},
        non_zero={},
        cells=ConditionCells(Path("cells.h5ad"), []),
        expression=Path("expression.h5ad"),
    )


def test_linear_latent_recovers_a_bilinear_world() -> None:
    """Responses linear in the perturbed gene's co-expression vector are predicted; others fall to the mean."""
    draw = rng("bilinear")
    n, rank = 40, 3
    loading = draw.normal(size=(n, rank))
    mixing = draw.normal(size=(rank, rank))
    y = loading @ mixing @ loading.T  # y[:, p]: response of all genes to perturbing gene p
    names = [f"G{i}" for i in range(n)]
    samples = pd.DataFrame({"part": ["train"] * 30 + ["test"] * 10, "scenario": "", "genes": names}, index=names)
    samples.loc["G39", "genes"] = "ABSENT"
    problem = Problem(
        "genetic_perturbation", "0", samples, y.T.astype(np.float32), names, context_of(names, np.zeros(n))
    )
    values = LinearLatent(dimensions=rank, ridge=1e-6).predict(problem, 0)
    residual = ((values[:9] - y.T[30:39]) ** 2).mean() / y.T[30:39].var()
    assert residual < 0.1
    np.testing.assert_allclose(values[9], y.T[:30].mean(0), atol=1e-4)


def features_of(vectors: dict[str, np.ndarray], unknown: str = "") -> Features:
    genes = [*GENES, "UNMEASURED"]
    draw = rng("other genes")
    table = np.array([vectors[g] if g in vectors else draw.normal(size=4) for g in genes], dtype=np.float32)
    return Features("m", np.array([]), None, np.array(genes), table, np.array(genes) != unknown)


def test_perturbed_vectors(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    features = features_of(hidden_factors(), unknown="G3")
    vectors, perturbed = perturbed_vectors(problem, features)
    genes = sorted(PERTURBED)
    assert vectors.shape == (16, 4) and perturbed.shape == (len(problem.samples), 16)
    row = list(problem.samples.index).index("G0+G4")
    assert [genes[i] for i in np.flatnonzero(perturbed[row])] == ["G0", "G4"]
    known = [i for i, g in enumerate(genes) if g != "G3"]
    np.testing.assert_allclose(vectors[genes.index("G3")], vectors[known].mean(0))
    first = np.array([hidden_factors()[g] for g in genes])[known]
    slope = np.linalg.lstsq(np.c_[first, np.ones(15)], vectors[known], rcond=None)
    assert slope[1].max() < 1e-6  # the vectors, up to scale and shift


def test_head_profits_from_informative_vectors_only(dataset: Path, split: pd.DataFrame) -> None:
    (problem,) = TASK.problems(dataset, split)
    draw = rng("useless")
    informed = TASK.solve(problem, features_of(hidden_factors()), 0)
    useless = TASK.solve(problem, features_of({g: draw.normal(size=4) for g in PERTURBED}), 0)
    good, bad, floor = (
        scored(dataset, split, v, problem)["mse_all_genes"]
        for v in (informed, useless, TrainMean().predict(problem, 0))
    )
    for unseen in ("seen_0_of_1", "seen_0_of_2", "seen_1_of_2"):  # genes that only their vectors tell of
        assert good[unseen] < 0.5 * bad[unseen] and good[unseen] < 0.5 * floor[unseen]
    assert bad["seen_2_of_2"] < 0.5 * floor["seen_2_of_2"]  # genes seen in training are remembered


# ------------------------------------------------------------------------------------- the simulated world


@pytest.fixture(scope="module")
def world_screen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The simulated screen, prepared, and its answer key: the kind of interaction of every double."""
    folder = tmp_path_factory.mktemp("world")
    files = perturbation(build_world(0))
    files["perturbation.h5ad"].write_h5ad(folder / "raw.h5ad")
    (folder / "dataset").mkdir()
    TASK.prepare({"expression": folder / "raw.h5ad"}, {"control": "ctrl"}, folder / "dataset")
    key = files["answer_key/interactions.tsv"]
    key.index = pd.Index(["+".join(sorted(pair)) for pair in zip(key["tf1"], key["tf2"], strict=True)])
    deltas = files["answer_key/perturbation_deltas.tsv"].set_index("condition")
    deltas.index = pd.Index(["+".join(sorted(set(c.split("+")) - {"ctrl"})) for c in deltas.index])
    return folder / "dataset", key.join(deltas)


def test_interactions_of_the_world_are_seen_by_who_knows_them(world_screen: tuple[Path, pd.DataFrame]) -> None:
    """All singles are shown, doubles asked: sums are right for additive pairs, the answer key for the others."""
    dataset, key = world_screen
    key = pd.concat([key[key["kind"] == "additive"].head(10), key[key["kind"] != "additive"]])
    profiles = Profiles.read(dataset)
    parts = [("0", s, "train", "") for s in profiles.conditions["sample"] if "+" not in s]
    parts += [("0", s, "test", "seen_2_of_2") for s in key.index]
    split = pd.DataFrame(parts, columns=["fold", "sample", "part", "scenario"])
    (problem,) = TASK.problems(dataset, split)
    (open_problem,) = TASK.problems(dataset, split, sees_truth=True)
    rows, tests = problem.rows("test"), problem.test_samples
    planted = np.maximum(profiles.control_mean + key.loc[tests, list(profiles.genes)].to_numpy(dtype=np.float64), 0)
    values = {
        "train_mean": TrainMean().predict(problem, 0),
        "additive": Additive().predict(problem, 0),
        "key": planted,  # changes of mean log expression, interactions included
        "half": open_problem.context.half_a[rows],
        "truth": open_problem.targets[rows],
    }
    each = {name: condition_scores(dataset, split, answer(problem, v)) for name, v in values.items()}
    adds = (key.loc[tests, "kind"] == "additive").to_numpy()

    def error(name: str, pairs: np.ndarray) -> float:
        return float(each[name]["mse_top20_de_non_dropout"][pairs].mean())

    assert error("additive", adds) < 0.8 * error("key", adds) < 0.1 * error("train_mean", adds)
    assert error("key", ~adds) < 0.5 * error("additive", ~adds)
    for pairs in (adds, ~adds):
        others = [error(name, pairs) for name in ("train_mean", "additive", "key")]
        assert error("truth", pairs) == 0 < error("half", pairs) < min(others)

    scores = {name: TASK.score(dataset, split, answer(problem, values[name])) for name in ("additive", "key")}
    table = pd.DataFrame({name: t.set_index("metric")["value"] for name, t in scores.items()})
    assert table.loc["gi_ols50_magnitude_pearson", "additive"] == 0 and table.notna().all(axis=None)
    assert table.loc["gi_ols50_magnitude_pearson", "key"] > 0.9
    for kind in ("synergy", "suppression"):
        found = table.loc[f"gi_ols50_{kind}_overlap"]
        assert found["key"] > 0.5 > 0.3 > found["additive"]  # chance: 6 of 25
    assert table.loc["gi_gears_similarity_pearson", "key"] > table.loc["gi_gears_similarity_pearson", "additive"]


@pytest.mark.mirror
def test_public_slice_of_the_screen(mirror: Path, root: Path, tmp_path: Path) -> None:
    spec = load_cards(root / "config" / "benchmarks", BenchmarkCard)["norman"].alternatives("small")[0]
    raw = mirror / "norman_perturbench_devel" / "devel.h5ad"
    facts = TASK.prepare({"expression": raw}, spec.options, tmp_path)
    assert (facts["cells"], facts["genes"], facts["singles"], facts["conditions"]) == (3375, 250, 18, 33)
    assert "TMSB4X" not in facts["perturbed_genes_not_measured"] and len(facts["perturbed_genes_not_measured"]) == 30
    split = TASK.split(tmp_path, spec.split, spec.split_options, 1)
    (problem,) = TASK.problems(tmp_path, split)
    additive, mean = (scored(tmp_path, split, m.predict(problem, 0), problem) for m in (Additive(), TrainMean()))
    for metric in ("pearson_delta_top20_de_non_dropout", "discrimination_cosine_delta_all_genes"):
        assert additive.loc["seen_2_of_2", metric] > 0.8 > mean.loc["seen_2_of_2", metric]
    assert (mean["pearson_around_train_mean_all_genes"] == 0).all()
    assert "doubles" not in mean.index  # of its nine test doubles few have both singles
