"""Drug combinations: reading, published and drawn folds without leaks, pairs without order, floors and ceilings."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.controls import Shuffled, TrainMean, Truth
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.benchmark.split import check_split
from sclong.drugs.classical import LinearFingerprint, RandomForest
from sclong.drugs.features import pair_fingerprints
from sclong.errors import CardError, InputDataError
from sclong.seeding import rng
from sclong.tasks.drug_combination.score import scores_of
from sclong.tasks.drug_combination.task import TASK

SCAFFOLDS = ["c1ccccc1{}", "c1ccncc1{}", "C1CCCCC1{}"]
GROUPS = ["O", "N", "Cl", "C#N"]
DRUGS = [SCAFFOLDS[i % 3].format(GROUPS[i // 3]) for i in range(12)]
PHENOL_TWICE = ("c1ccccc1O", "Oc1ccccc1")  # the first drug, written in two ways
LINES = ["SW480", "A375", "HT29", "MCF7", "PC3", "T47D", "22RV1", "RT4"]
STATE = rng("state of synergy lines").permutation(np.linspace(-1.5, 1.5, len(LINES)))
EFFECT = [-1.5, -0.5, 0.5, 1.5]  # of the substituents
DRAWN = ["random", "leave_combination_out", "leave_drug_out", "leave_tissue_out"]
TISSUES = ["colon", "skin", "colon", "breast", "prostate", "breast", "prostate", "skin"]


def triples_table() -> pd.DataFrame:
    """Synergy by the substituents of both drugs and the state of the line; both orders of a pair occur."""
    draw = rng("toy triples")
    rows = []
    for i, j in combinations(range(12), 2):
        for k in draw.permutation(len(LINES))[:5]:
            first, second = (i, j) if draw.random() < 0.5 else (j, i)
            score = 0.5 * (EFFECT[i // 3] + EFFECT[j // 3]) + 1.5 * STATE[k] + 0.3 * draw.normal()
            rows.append((DRUGS[first], DRUGS[second], LINES[k], int(score > 0)))
    table = pd.DataFrame(rows, columns=["drug1", "drug2", "cell", "label"])
    twin = table["drug1"].eq(PHENOL_TWICE[0]) & (np.arange(len(table)) % 2 == 0)
    table.loc[twin, "drug1"] = PHENOL_TWICE[1]
    return table


def write_inputs(folder: Path) -> dict[str, Path]:
    table = triples_table()
    table.loc[len(table)] = [DRUGS[0], DRUGS[1], "SW48", 1]  # no expression: SW480 does not stand in for it
    table.to_csv(folder / "triples.tsv", sep="\t", index=False)
    genes = np.exp(np.outer(STATE, rng("genes of synergy lines").normal(size=20)))
    lines = anndata.AnnData(genes.astype(np.float32), obs=pd.DataFrame({"tissue": TISSUES}, index=LINES))
    lines.var_names = [f"G{i}" for i in range(20)]
    lines.write_h5ad(folder / "lines.h5ad")
    return {"triples": folder / "triples.tsv", "expression": folder / "lines.h5ad"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("combination"))


@pytest.fixture(scope="module")
def dataset(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    TASK.prepare(inputs, {}, folder)
    return folder


def score_answers(
    dataset: Path, split: pd.DataFrame, answers: list[tuple[Problem, np.ndarray]]
) -> dict[str, float | int]:
    folds = np.concatenate([np.full(len(p.test_samples), p.fold) for p, _ in answers])
    ids = np.concatenate([p.test_samples for p, _ in answers])
    values = np.concatenate([v for _, v in answers]).astype(np.float32)
    table = TASK.score(dataset, split, Predictions(folds, ids, values, np.array(["synergy"])))
    assert set(table["unit"]) == {"triples"} and table["scenario"].nunique() == 1
    return {**table.set_index("metric")["value"], "n": table["n"].iloc[0]}


def both_drugs(samples: pd.DataFrame) -> set[str]:
    return {*samples["drug1"], *samples["drug2"]}


def combinations_of(samples: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in zip(samples["drug1"], samples["drug2"], strict=True)}


# --------------------------------------------------------------------------------------------------- data


def test_prepare_matches_lines_by_their_whole_name(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts = TASK.prepare(inputs, {}, tmp_path)
    assert (facts["triples_in"], facts["triples"]) == (331, 330)
    assert (facts["lines"], facts["lines_without_expression"], facts["triples_without_expression"]) == (8, 1, 1)
    assert facts["names_of_lines_without_expression"] == ["SW48"]
    assert (facts["salts"], facts["names_of_salts"], facts["salts_equal_to_another_drug"]) == (0, [], [])
    assert (facts["repeated_triples"], facts["triples_with_both_labels"]) == (0, 0)
    triples = pd.read_csv(tmp_path / "triples.tsv", sep="\t")
    assert "SW48" not in set(triples["cell"]) and "SW480" in set(triples["cell"])
    assert len(both_drugs(triples)) == 12  # one molecule has one name, however it was written
    assert triples["combination"].nunique() == 66
    assert dict(zip(triples["cell"], triples["tissue"], strict=True)) == dict(zip(LINES, TISSUES, strict=True))
    lines = anndata.read_h5ad(tmp_path / "expression.h5ad")
    assert lines.uns["value_kind"] == "nonnegative" and bool(lines.uns["contextual"])


def test_repeated_triples_are_counted_whichever_drug_stands_first(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = triples_table()
    first = table.iloc[0]
    turned = {"drug1": first["drug2"], "drug2": first["drug1"], "cell": first["cell"], "label": 1 - first["label"]}
    more = pd.DataFrame([turned, table.iloc[7].to_dict()])
    pd.concat([table, more]).to_csv(tmp_path / "twice.tsv", sep="\t", index=False)
    facts = TASK.prepare({**inputs, "triples": tmp_path / "twice.tsv"}, {}, tmp_path)
    assert (facts["triples"], facts["repeated_triples"], facts["triples_with_both_labels"]) == (332, 2, 1)
    triples = pd.read_csv(tmp_path / "triples.tsv", sep="\t")
    for policy in ("random", "leave_combination_out"):  # what was measured twice is on one side
        for _, rows in TASK.split(tmp_path, policy, {}, 1).groupby("fold"):
            part = rows.set_index("sample")["part"]
            assert part["t00000"] == part["t00330"] and part["t00007"] == part["t00331"]
    assert triples["label"].iloc[[0, 330]].tolist() == [first["label"], 1 - first["label"]]


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("sample", "t00001", "duplicated samples 't00001'"), ("label", 2, "labels '0', '1', '2'")],
)
def test_prepared_triples_with_a_fault_are_refused(
    dataset: Path, tmp_path: Path, column: str, value: str | int, found: str
) -> None:
    triples = pd.read_csv(dataset / "triples.tsv", sep="\t")
    triples.loc[0, column] = value
    triples.to_csv(tmp_path / "triples.tsv", sep="\t", index=False)
    with pytest.raises(InputDataError, match=found):
        TASK.split(tmp_path, "random", {}, 1)


def test_drugs_by_name_need_a_structure(inputs: dict[str, Path], tmp_path: Path) -> None:
    names = {smiles: f"drug {i}" for i, smiles in enumerate([*DRUGS, PHENOL_TWICE[1]])}
    table = triples_table()
    named = table.assign(drug1=table["drug1"].map(names), drug2=table["drug2"].map(names))
    named.to_csv(tmp_path / "named.tsv", sep="\t", index=False)
    drugs = pd.DataFrame({"name": names.values(), "smile": names.keys()})
    drugs.to_csv(tmp_path / "drugs.csv", index=False)
    by_name = {**inputs, "triples": tmp_path / "named.tsv", "drugs": tmp_path / "drugs.csv"}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    TASK.prepare(by_name, {}, tmp_path / "a")
    table.to_csv(tmp_path / "smiles.tsv", sep="\t", index=False)
    TASK.prepare({**inputs, "triples": tmp_path / "smiles.tsv"}, {}, tmp_path / "b")
    assert (tmp_path / "a/triples.tsv").read_text() == (tmp_path / "b/triples.tsv").read_text()
    drugs[drugs["name"] != "drug 3"].to_csv(tmp_path / "drugs.csv", index=False)
    with pytest.raises(InputDataError, match="1 drugs are not in the table of drugs: 'drug 3'"):
        TASK.prepare(by_name, {}, tmp_path / "a")


def test_what_is_wrong_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    for column, value, message in [
        ("drug2", "c1cccc", "not a molecule: 'c1cccc'"),
        ("label", 2, "labels '2'"),
        ("label", None, "labels 'nan'"),
    ]:
        table = triples_table().astype({"label": object})
        table.loc[5, column] = value
        table.to_csv(tmp_path / "wrong.tsv", sep="\t", index=False)
        with pytest.raises(InputDataError, match=message):
            TASK.prepare({**inputs, "triples": tmp_path / "wrong.tsv"}, {}, tmp_path)
    with pytest.raises(CardError, match="expression_formats"):
        TASK.prepare(inputs, {"expression_formats": "h5ad"}, tmp_path)
    with pytest.raises(CardError, match="leave_drug_out"):
        TASK.split(tmp_path, "leave_drugs_out", {}, 1)


# -------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("policy", DRAWN)
def test_drawn_folds_do_not_leak(dataset: Path, policy: str) -> None:
    split = TASK.split(dataset, policy, {}, 1)
    check_split(split, needs_validation=True)
    assert list(split["fold"].unique()) == ["0", "1", "2", *(["3"] if policy == "leave_tissue_out" else [])]
    tested: set[str] = set()
    for problem in TASK.problems(dataset, split):
        train, validation, test = (problem.samples.iloc[problem.rows(p)] for p in ("train", "validation", "test"))
        assert len(train) > 100 and len(validation) and len(test)
        if policy == "leave_combination_out":
            parts = [combinations_of(x) for x in (train, validation, test)]
            assert sum(map(len, parts)) == len(set().union(*parts)) == 66
        elif policy == "random":
            parts = [set(x["cell"] + x["drug1"] + x["drug2"]) for x in (train, validation, test)]
            assert sum(map(len, parts)) == len(set().union(*parts)) == 330
            assert combinations_of(test) & combinations_of(train)
        elif policy == "leave_tissue_out":
            tissues = [{TISSUES[LINES.index(c)] for c in x["cell"]} for x in (train, validation, test)]
            assert len(tissues[2]) == 1 and not tissues[2] & (tissues[0] | tissues[1])
            lines = [set(x["cell"]) for x in (train, validation)]
            assert len(lines[1]) == 1 and not lines[0] & lines[1]  # few tissues: the validation part are lines
        else:
            held = both_drugs(test) - both_drugs(pd.concat([train, validation]))
            assert held and all(pair & held for pair in combinations_of(test))
            held_in_validation = both_drugs(validation) - both_drugs(train)
            assert held_in_validation and all(pair & held_in_validation for pair in combinations_of(validation))
        tested |= set(problem.test_samples)
    assert len(tested) == 330  # every triple is tested in some fold


def test_splits_follow_their_seed_and_options(dataset: Path) -> None:
    for policy in DRAWN:
        one, again, other = (TASK.split(dataset, policy, {}, seed) for seed in (1, 1, 2))
        pd.testing.assert_frame_equal(one, again)
        assert (one["part"] != other["part"]).any()  # where tissues are left out: another validation part
        first = TASK.split(dataset, policy, {"max_folds": 1}, 1)
        pd.testing.assert_frame_equal(first, one[one["fold"] == "0"].reset_index(drop=True))
    assert TASK.split(dataset, "leave_combination_out", {"folds": 5}, 1)["fold"].nunique() == 5
    with pytest.raises(InputDataError, match="no independent set"):
        TASK.split(dataset, "independent", {}, 1)


def test_tissues_must_be_known(inputs: dict[str, Path], tmp_path: Path) -> None:
    lines = anndata.read_h5ad(inputs["expression"])
    del lines.obs["tissue"]
    lines.write_h5ad(tmp_path / "lines.h5ad")
    TASK.prepare({**inputs, "expression": tmp_path / "lines.h5ad"}, {}, tmp_path)
    with pytest.raises(InputDataError, match="the lines have 0 tissues"):
        TASK.split(tmp_path, "leave_tissue_out", {}, 1)


def write_folds(folder: Path, table: pd.DataFrame) -> list[Path]:
    """Two published test folds, by combination."""
    pairs = ["+".join(sorted(p)) for p in zip(table["drug1"], table["drug2"], strict=True)]
    group = pd.factorize(pd.Series(pairs))[0] % 2
    paths = [folder / f"fold{k}.csv" for k in (0, 1)]
    for k, path in enumerate(paths):
        table[group == k].to_csv(path, index=False)
    return paths


def test_published_folds_are_used_as_they_are(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = pd.read_csv(inputs["triples"], sep="\t")
    folds = write_folds(tmp_path, table)  # they also have the triple of the line without expression
    (tmp_path / "out").mkdir()
    facts = TASK.prepare({**inputs, "leave_combination_out": folds}, {}, tmp_path / "out")  # type: ignore[dict-item]
    assert facts["leave_combination_out_folds"] == 2
    known = set(pd.read_csv(tmp_path / "out/triples.tsv", sep="\t")["sample"])
    assert set(pd.read_csv(tmp_path / "out/leave_combination_out.tsv", sep="\t")["sample"]) == known
    split = TASK.split(tmp_path / "out", "leave_combination_out", {}, 1)
    kept = table[table["cell"] != "SW48"].reset_index(drop=True)
    for k, problem in enumerate(TASK.problems(tmp_path / "out", split)):
        published = pd.read_csv(folds[k])
        published = published[published["cell"] != "SW48"]
        expected = kept.merge(published, on=["drug1", "drug2", "cell"])
        assert len(problem.test_samples) == len(expected) == len(published)
        assert sorted(problem.samples.loc[problem.test_samples, "cell"]) == sorted(expected["cell"])
    drawn = TASK.split(tmp_path / "out", "leave_drug_out", {}, 1)  # no published ones of this kind
    assert drawn["fold"].nunique() == 3


def test_folds_of_other_data_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = triples_table().iloc[:10].assign(cell="K562")
    table.to_csv(tmp_path / "fold.csv", index=False)
    with pytest.raises(InputDataError, match="10 triples that the data does not have"):
        TASK.prepare({**inputs, "leave_drug_out": [tmp_path / "fold.csv"]}, {}, tmp_path)  # type: ignore[dict-item]


def test_an_independent_set_is_the_test(inputs: dict[str, Path], tmp_path: Path) -> None:
    other = pd.DataFrame({"drug1": ["CCO", "CCN"], "drug2": ["CCC", "CCO"], "cell": ["NEW", "ABSENT"], "label": [1, 0]})
    other.to_csv(tmp_path / "other.csv", index=False)
    tpm = pd.DataFrame(
        np.full((2, 21), np.e - 1), index=["NEW", "SW480"], columns=[*(f"G{i}" for i in range(20)), "more"]
    )
    tpm["G3"] = np.nan
    tpm.to_csv(tmp_path / "tpm.csv.gz")
    more = {"independent": tmp_path / "other.csv", "independent_expression": tmp_path / "tpm.csv.gz"}
    (tmp_path / "out").mkdir()
    facts = TASK.prepare({**inputs, **more}, {}, tmp_path / "out")
    assert (facts["triples"], facts["lines"], facts["genes"]) == (331, 9, 19)
    lines = anndata.read_h5ad(tmp_path / "out/expression.h5ad").to_df()
    np.testing.assert_allclose(lines.loc["NEW"], 1.0, rtol=1e-6)  # log(1 + TPM)
    original = anndata.read_h5ad(inputs["expression"]).to_df()
    np.testing.assert_array_equal(lines.loc["SW480"], original.loc["SW480", lines.columns])
    (problem,) = TASK.problems(tmp_path / "out", TASK.split(tmp_path / "out", "independent", {}, 1))
    test = problem.samples.loc[problem.test_samples]
    assert test[["drug1", "drug2", "cell", "scenario"]].to_numpy().tolist() == [["CCO", "CCC", "NEW", "independent"]]
    assert len(problem.rows("validation")) > 0
    for value in (-0.5, np.inf, "high"):
        tpm.astype(object).replace({"more": {np.e - 1: value}}).to_csv(tmp_path / "tpm.csv.gz")
        with pytest.raises(InputDataError, match=f"line 'NEW', 'more': {value}"):
            TASK.prepare({**inputs, **more}, {}, tmp_path / "out")


def test_a_salt_is_another_drug_and_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = triples_table()
    salt = f"{DRUGS[1]}.Cl"
    table.loc[table["drug1"] == DRUGS[1], "drug1"] = salt
    table.to_csv(tmp_path / "salts.tsv", sep="\t", index=False)
    facts = TASK.prepare({**inputs, "triples": tmp_path / "salts.tsv"}, {}, tmp_path)
    assert (facts["salts"], facts["names_of_salts"], facts["salts_equal_to_another_drug"]) == (1, [salt], [salt])
    assert len(both_drugs(pd.read_csv(tmp_path / "triples.tsv", sep="\t"))) == 13


# ------------------------------------------------------------------------------------- floors, ceilings, models


def test_models_do_not_see_the_test_nor_the_order_of_a_pair(dataset: Path) -> None:
    split = TASK.split(dataset, "leave_combination_out", {}, 1)
    problem = next(TASK.problems(dataset, split))
    hidden = np.isnan(problem.targets[:, 0])
    assert hidden[problem.rows("test")].all() and hidden.sum() == len(problem.rows("test"))
    assert not {"label", "combination"} & set(problem.samples)
    swapped = problem.samples.rename(columns={"drug1": "drug2", "drug2": "drug1"})
    other = Problem(problem.task, problem.fold, swapped, problem.targets, problem.outputs, problem.context)
    bits = pair_fingerprints(problem.samples)
    assert bits.shape == (330, 1024)
    np.testing.assert_array_equal(bits, pair_fingerprints(other.samples))
    assert len(np.unique(bits, axis=0)) == 66  # and different combinations are told apart


@pytest.mark.parametrize("policy", DRAWN)
def test_floors_and_ceilings(dataset: Path, policy: str) -> None:
    split = TASK.split(dataset, policy, {}, 1)
    open_problems = list(TASK.problems(dataset, split, sees_truth=True))
    truth = score_answers(dataset, split, [(p, Truth().predict(p, 0)) for p in open_problems])
    n = sum(len(p.test_samples) for p in open_problems)
    assert truth == {"auroc": 1.0, "aupr": 1.0, "balanced_accuracy": 1.0, "kappa": 1.0, "n": n}
    problems = list(TASK.problems(dataset, split))
    rate = np.mean([p.targets[p.rows("test")].mean() for p in open_problems])
    floor = score_answers(dataset, split, [(p, TrainMean().predict(p, 0)) for p in problems])
    assert (floor["auroc"], floor["balanced_accuracy"], floor["kappa"], floor["n"]) == (0.5, 0.5, 0.0, n)
    assert floor["aupr"] == pytest.approx(rate, abs=1e-6)
    chance = [score_answers(dataset, split, [(p, Shuffled().predict(p, s)) for p in problems]) for s in range(20)]
    assert np.mean([c["auroc"] for c in chance]) == pytest.approx(0.5, abs=0.05)


def test_calls_are_what_is_above_a_half() -> None:
    truth, answer = np.array([1, 1, 1, 0, 0]), np.array([0.9, 0.6, 0.5, 0.4, 0.8], dtype=np.float32)
    found = scores_of(truth, answer)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    observed, expected = 3 / 5, (3 / 5) * (3 / 5) + (2 / 5) * (2 / 5)
    assert found["kappa"] == pytest.approx((observed - expected) / (1 - expected))
    alone = scores_of(truth[:3], answer[:3])
    assert np.isnan(alone["balanced_accuracy"]) and np.isnan(alone["kappa"]) and np.isnan(alone["auroc"])


def test_the_value_is_the_mean_over_folds_and_undefined_folds_are_left_out(dataset: Path) -> None:
    split = TASK.split(dataset, "leave_combination_out", {}, 1)
    problems = list(TASK.problems(dataset, split, sees_truth=True))
    answers = [(p, p.targets[p.rows("test")] * sign) for p, sign in zip(problems, (1, 1, -1), strict=True)]
    assert score_answers(dataset, split, answers)["auroc"] == pytest.approx(2 / 3)
    labels = pd.read_csv(dataset / "triples.tsv", sep="\t").set_index("sample")["label"]
    negative = (split["fold"] == "2") & (split["part"] == "test") & (labels[split["sample"]] == 1).to_numpy()
    one_class = split[~negative]
    answers = [(p, p.targets[p.rows("test")]) for p in TASK.problems(dataset, one_class, sees_truth=True)]
    assert score_answers(dataset, one_class, answers)["auroc"] == 1.0


@pytest.mark.parametrize("model", [LinearFingerprint(), RandomForest(n_estimators=30)])
def test_classical_models_learn_and_repeat(dataset: Path, model: LinearFingerprint | RandomForest) -> None:
    split = TASK.split(dataset, "leave_combination_out", {"max_folds": 1}, 1)
    (problem,) = TASK.problems(dataset, split)
    answer = model.predict(problem, 0)
    assert answer.dtype == np.float32 and 0 <= answer.min() <= answer.max() <= 1
    np.testing.assert_array_equal(answer, model.predict(problem, 0))
    assert score_answers(dataset, split, [(problem, answer)])["auroc"] > 0.75


def test_the_head_uses_the_embedding_of_the_right_line(dataset: Path) -> None:
    split = TASK.split(dataset, "leave_combination_out", {"max_folds": 1}, 1)
    problems = list(TASK.problems(dataset, split))
    order = rng("other order of lines").permutation(len(LINES))
    names, vectors = np.array(LINES)[order], np.repeat(STATE[order, None], 64, axis=1).astype(np.float32)

    def score(vectors: np.ndarray) -> float:
        features = Features("toy", names, vectors, np.array(["G0"]), None, np.array([True]))
        return score_answers(dataset, split, [(p, TASK.solve(p, features, 0)) for p in problems])["auroc"]

    informed = score(vectors)
    assert informed == score(vectors)  # the same seed, the same answer
    assert informed > score(np.zeros_like(vectors)) + 0.1  # drugs alone
    short = Features("toy", names[names != "SW480"], vectors[names != "SW480"], np.array(["G0"]), None, np.array([1]))
    with pytest.raises(InputDataError, match="cell lines: 7 names; missing: 'SW480'"):
        TASK.solve(problems[0], short, 0)


# ------------------------------------------------------------------------------------------------- real data


TISSUE_SIZES = {"breast": 1587, "colon": 2360, "lung": 3248, "melanoma": 2384, "ovarian": 1967, "prostate": 869}


@pytest.mark.mirror
def test_published_tables_and_folds_of_deepdds(mirror: Path, tmp_path: Path) -> None:
    inputs = {
        "triples": mirror / "deepdds/new_labels_0_10.csv",
        "expression": mirror / "deepdds/new_cell_features_954.csv",
        "leave_combination_out": [mirror / f"deepdds_leave_comb/c{k}{k}.csv" for k in range(5)],
        "leave_drug_out": [mirror / f"deepdds_leave_drug/d{k}{k}.csv" for k in range(5)],
        "leave_tissue_out": [mirror / f"deepdds_leave_tissue/{t}.csv" for t in TISSUE_SIZES],
    }
    facts = TASK.prepare(inputs, {"expression_format": "deepdds_tpm"}, tmp_path)  # type: ignore[arg-type]
    assert (facts["triples"], facts["lines"], facts["genes"], facts["repeated_triples"]) == (12_415, 31, 954, 185)
    assert (facts["triples_with_both_labels"], facts["salts"]) == (26, 0)
    sizes = {
        "leave_combination_out": [2540, 2502, 2527, 2436, 2410],
        "leave_drug_out": [4603, 4068, 4965, 4560, 4403],
        "leave_tissue_out": list(TISSUE_SIZES.values()),
    }
    for policy, expected in sizes.items():
        split = TASK.split(tmp_path, policy, {}, 1)
        problems = list(TASK.problems(tmp_path, split))
        assert [len(p.test_samples) for p in problems] == expected
        for problem in problems:
            rest, test = (
                problem.samples[problem.samples["part"].isin(parts)] for parts in (["train", "validation"], ["test"])
            )
            if policy == "leave_combination_out":
                assert not combinations_of(rest) & combinations_of(test)
            elif policy == "leave_tissue_out":
                assert not set(rest["cell"]) & set(test["cell"])
            else:
                held = both_drugs(test) - both_drugs(rest)
                assert len(held) in (7, 8) and all(pair & held for pair in combinations_of(test))


@pytest.mark.mirror
def test_the_independent_set_loses_the_lines_without_expression(mirror: Path, tmp_path: Path) -> None:
    tpm = "deepdds_independent_tpm/independent_cell_features_954_TPM_reconstructed.csv.gz"
    inputs = {
        "triples": mirror / "deepdds/new_labels_0_10.csv",
        "expression": mirror / "deepdds/new_cell_features_954.csv",
        "independent": mirror / "deepdds/independent_input.csv",
        "independent_expression": mirror / tpm,
    }
    facts = TASK.prepare(inputs, {"expression_format": "deepdds_tpm"}, tmp_path)
    assert (facts["triples_in"], facts["triples_without_expression"], facts["triples"]) == (13_083, 46, 13_037)
    assert (facts["lines"], facts["lines_without_expression"], facts["genes"]) == (53, 2, 941)
    assert facts["names_of_lines_without_expression"] == ["22RV1", "HCC1806"] and facts["salts"] == 0
    (problem,) = TASK.problems(tmp_path, TASK.split(tmp_path, "independent", {}, 1))
    assert len(problem.test_samples) == 622
    test = problem.samples.loc[problem.test_samples]
    assert not set(test["cell"]) & set(problem.samples["cell"].iloc[problem.rows("train")])
