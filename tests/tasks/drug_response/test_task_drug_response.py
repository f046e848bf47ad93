"""Drug response: reading both layouts, splits without leaks, floors and ceilings, models and the head."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.controls import Constant, Shuffled, TrainMean, Truth
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.drugs.classical import LinearFingerprint, RandomForest, line_components
from sclong.drugs.ids import pubchem_smiles
from sclong.drugs.lines import line_rows
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.runlog import LOGGER
from sclong.seeding import rng
from sclong.tasks.drug_response.controls import AdditiveMean
from sclong.tasks.drug_response.dataset import ResponseContext
from sclong.tasks.drug_response.files import (
    NamedGraphs,
    check_unit,
    read_deepcdr_graphs,
    read_deepcdr_layout,
)
from sclong.tasks.drug_response.published_parts import read_published_parts
from sclong.tasks.drug_response.splits import units_of
from sclong.tasks.drug_response.task import TASK

SCAFFOLDS = ["c1ccccc1{}", "c1ccncc1{}", "C1CCCCC1{}", "c1ccc2[nH]ccc2c1{}"]
GROUPS = ["O", "N", "Cl", "C(=O)O", "C#N", "S(N)(=O)=O"]
DRUGS = {f"{i + 1}": SCAFFOLDS[i % 4].format(GROUPS[i // 4]) for i in range(24)}
TWIN = ("99", "Oc1ccccc1")  # drug "1" once more: another id, the same molecule written in another way
TISSUES = ["lung", "skin", "bone", "liver"]
LINES = ["SW48", "SW480", *(f"L{i}" for i in range(18))]
POLICIES = ["random_pairs", "leave_drug_out", "leave_cell_out", "leave_tissue_out"]
STATE = rng("state of lines").normal(size=(len(LINES), 3))  # what expression shows of a line
NO_LINES = ResponseContext(expression=pd.DataFrame())


def response() -> np.ndarray:
    """Potency of the drug, resistance of the line, and an interaction that needs both; (drugs, lines)."""
    draw = rng("toy response")
    scaffold, group = draw.normal(size=(4, 4)), draw.normal(size=(6, 4))
    drug = np.array([scaffold[i % 4] + group[i // 4] for i in range(24)])
    potency, interaction = 2 * drug[:, :1], drug[:, 1:] @ STATE.T
    return potency + draw.normal(0, 0.5, len(LINES)) + interaction


def write_inputs(folder: Path) -> dict[str, Path]:
    values = response()
    rows = [(d, LINES[j], TISSUES[j % 4], values[i, j]) for i, d in enumerate(DRUGS) for j in range(len(LINES))]
    rows += [(TWIN[0], LINES[j], TISSUES[j % 4], values[0, j] + 0.1) for j in range(len(LINES))]
    rows += [("1", "not_sequenced", "lung", 1.0)]
    pairs = pd.DataFrame(rows, columns=["drug_id", "cell_line", "tissue", "ln_ic50"])
    pairs.loc[3, "ln_ic50"] = np.nan
    pairs.to_csv(folder / "responses.tsv", sep="\t", index=False)
    drugs = pd.DataFrame([*DRUGS.items(), TWIN], columns=["drug_id", "smiles"])
    drugs.to_csv(folder / "drugs.tsv", sep="\t", index=False)
    genes = np.exp(STATE @ rng("genes").normal(size=(3, 30)))
    lines = anndata.AnnData(genes.astype(np.float32), obs=pd.DataFrame(index=LINES))
    lines.var_names = [f"G{i}" for i in range(30)]
    lines.write_h5ad(folder / "lines.h5ad")
    return {
        "responses": folder / "responses.tsv",
        "drugs": folder / "drugs.tsv",
        "expression": folder / "lines.h5ad",
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("response"))


@pytest.fixture(scope="module")
def dataset(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    TASK.prepare(inputs, {}, folder)
    return folder


def problem_of(dataset: Path, policy: str, *, sees_truth: bool = False, seed: int = 1) -> tuple[pd.DataFrame, Problem]:
    fraction = {"leave_cell_out": 0.3, "random_pairs": 0.2}.get(policy, 0.1)  # enough lines within each drug
    options = {"test_fraction": fraction}
    split = TASK.split(dataset, policy, options, seed)
    (problem,) = TASK.problems(dataset, split, sees_truth=sees_truth)
    return split, problem


def scored(dataset: Path, split: pd.DataFrame, problem: Problem, values: np.ndarray) -> pd.Series:
    ids = np.array(problem.test_samples)
    answer = Predictions(np.full(len(ids), problem.fold), ids, values.astype(np.float32), np.array(problem.outputs))
    table = TASK.score(dataset, split, answer)
    assert set(table["metric"]) == set(TASK.metrics) and set(table["n"]) == {len(ids)}
    assert set(table["unit"]) == {"pairs"}
    return table.set_index("metric")["value"]


# --------------------------------------------------------------------------------------------------- data


def test_prepare_keeps_and_counts(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts = TASK.prepare(inputs, {}, tmp_path)
    assert (facts["twins"], facts["repeated_pairs_in_conflict"]) == (2 * 20 - 2, 0)  # one twin has no value
    assert 0 < facts["largest_difference_of_twins"] < 0.11
    assert facts["pairs_in"] == 25 * 20 + 1 - 1  # one without a value
    assert facts["pairs"] == facts["pairs_in"] - 1  # the line without expression
    assert (facts["lines"], facts["lines_without_expression"]) == (20, 1)
    assert facts["names_of_lines_without_expression"] == ["not_sequenced"]
    assert facts["names_of_drugs_without_structure"] == facts["names_of_salts"] == []
    assert (facts["drugs"], facts["structures"]) == (25, 24)
    pairs = pd.read_csv(tmp_path / "pairs.tsv", sep="\t", dtype=str)
    assert pairs["sample"].tolist()[:2] == ["1|SW48", "1|SW480"] and pairs["sample"].is_unique
    assert anndata.read_h5ad(tmp_path / "expression.h5ad").uns["value_kind"] == "nonnegative"


def test_the_cap_is_seeded(inputs: dict[str, Path], tmp_path: Path) -> None:
    tables = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert TASK.prepare(inputs, {"max_pairs": 60}, tmp_path / name)["pairs"] == 60
        tables.append((tmp_path / name / "pairs.tsv").read_text())
    assert tables[0] == tables[1]


def rewritten(inputs: dict[str, Path], role: str, folder: Path, **columns: object) -> dict[str, Path]:
    """Inputs with the first row of a table changed."""
    table = pd.read_csv(inputs[role], sep="\t", dtype=str)
    for column, value in columns.items():
        table.loc[0, column] = value
    table.to_csv(folder / f"{role}.tsv", sep="\t", index=False)
    return {**inputs, role: folder / f"{role}.tsv"}


def test_a_pair_measured_twice_is_averaged(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    changed = rewritten(inputs, "responses", tmp_path, cell_line="SW480", tissue="", ln_ic50="100")
    (tmp_path / "out").mkdir()
    facts = TASK.prepare(changed, {}, tmp_path / "out")
    assert (facts["repeated_pairs_averaged"], facts["repeated_pairs_in_conflict"]) == (1, 1)
    assert facts["largest_conflict"] == pytest.approx(abs(100 - response()[0, 1]), abs=1e-3)
    pairs = pd.read_csv(tmp_path / "out/pairs.tsv", sep="\t", dtype={"drug_id": str}).set_index("sample")
    assert pairs.loc["1|SW480", "ln_ic50"] == pytest.approx((100 + response()[0, 1]) / 2)
    assert "more than tenfold apart: '1|SW480'" in caplog.text


def test_a_prepared_pair_that_appears_twice_is_refused(dataset: Path, tmp_path: Path) -> None:
    header, first, *others = (dataset / "pairs.tsv").read_text().splitlines()
    (tmp_path / "pairs.tsv").write_text("\n".join([header, first, first, *others]) + "\n")
    with pytest.raises(InputDataError, match=r"duplicated samples '1\|SW48'"):
        TASK.split(tmp_path, "random_pairs", {}, 1)


def test_lines_named_like_numbers_stay_text(inputs: dict[str, Path], tmp_path: Path) -> None:
    number = {name: str(600 + i) for i, name in enumerate([*LINES, "not_sequenced"])}
    table = pd.read_csv(inputs["responses"], sep="\t", dtype=str)
    table.assign(cell_line=table["cell_line"].map(number)).to_csv(tmp_path / "r.tsv", sep="\t", index=False)
    lines = anndata.read_h5ad(inputs["expression"])
    lines.obs_names = [number[n] for n in lines.obs_names]
    lines.write_h5ad(tmp_path / "lines.h5ad")
    (tmp_path / "out").mkdir()
    changed = {**inputs, "responses": tmp_path / "r.tsv", "expression": tmp_path / "lines.h5ad"}
    assert TASK.prepare(changed, {}, tmp_path / "out")["lines"] == 20


def test_what_is_wrong_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    for role, columns, message in [
        ("drugs", {"smiles": "c1cccc"}, "not a molecule: '1: c1cccc'"),
        ("drugs", {"drug_id": "x"}, "drugs '1' are not in"),
        ("responses", {"ln_ic50": "high"}, "ln_ic50 'high'"),
        ("responses", {"ln_ic50": "inf"}, "ln_ic50 'inf'"),
        ("responses", {"cell_line": ""}, "row 2 has no drug_id or no cell_line"),
        ("responses", {"drug_id": ""}, "row 2 has no drug_id or no cell_line"),
    ]:
        with pytest.raises(InputDataError, match=message):
            TASK.prepare(rewritten(inputs, role, tmp_path, **columns), {}, tmp_path)
    twice = pd.concat([pd.read_csv(inputs["drugs"], sep="\t"), pd.DataFrame([{"drug_id": 2, "smiles": "CCO"}])])
    twice.to_csv(tmp_path / "twice.tsv", sep="\t", index=False)
    with pytest.raises(InputDataError, match="drug '2' has the structures"):
        TASK.prepare({**inputs, "drugs": tmp_path / "twice.tsv"}, {}, tmp_path)
    with pytest.raises(InputDataError, match="line 'SW480' has the tissues"):
        TASK.prepare(rewritten(inputs, "responses", tmp_path, cell_line="SW480"), {}, tmp_path)
    for role, column, message in (("responses", "ln_ic50", "no response"), ("drugs", "smiles", "no structure of")):
        pd.read_csv(inputs[role], sep="\t", dtype=str).assign(**{column: ""}).to_csv(
            tmp_path / "e", sep="\t", index=False
        )
        with pytest.raises(InputDataError, match=message):
            TASK.prepare({**inputs, role: tmp_path / "e"}, {}, tmp_path)
    with pytest.raises(CardError, match="max_pair"):
        TASK.prepare(inputs, {"max_pair": 60}, tmp_path)


LN_UM = rng("a screen").normal(2.5, 2.7, 2000)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.exp(LN_UM), "without a logarithm .uM"),
        (1000 * np.exp(LN_UM), "without a logarithm .nM"),
        (LN_UM + np.log(1000), "ln of nanomolar"),
        (LN_UM - np.log(1e6), "ln of molar"),
        (LN_UM / np.log(10), "log10 .of uM"),
        (6 - LN_UM / np.log(10), "log10 .of nM or M, or pIC50"),
    ],
)
def test_a_suspected_unit_is_an_error_that_says_what_was_found(values: np.ndarray, found: str) -> None:
    with pytest.raises(InputDataError, match=found) as error:
        check_unit(values, Path("responses.tsv"))
    assert f"{np.quantile(values, 0.5):.3g}" in error.value.found and "check_unit: false" in error.value.action
    if (values < 0).any():
        assert check_unit(values[:499], Path("responses.tsv")) == "not judged: 499 pairs"
    assert check_unit(LN_UM, Path("responses.tsv")).startswith("ln(uM): the 1 %")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.minimum(np.exp(LN_UM), 8), r"without a logarithm \(uM, none above the highest tested\)"),
        (np.minimum(np.exp(LN_UM), 10)[:60], r"without a logarithm \(uM, none above the highest tested\)"),
        (np.clip(6 - LN_UM / np.log(10), 3, 9)[:60], r"log10 \(of nM or M, or pIC50\)"),
    ],
)
def test_a_screen_without_a_negative_value_is_not_ln_uM(values: np.ndarray, found: str) -> None:
    with pytest.raises(InputDataError, match=f"and no negative value, which looks like .*{found}"):
        check_unit(values, Path("responses.tsv"))
    assert check_unit(values[:49], Path("responses.tsv")) == "not judged: 49 pairs"


def test_a_narrow_panel_is_said_and_not_refused() -> None:
    panel = rng("one class of drugs").normal(2, 1.1, 3000)
    assert check_unit(panel, Path("responses.tsv")).startswith("ln(uM), narrow")
    with pytest.raises(InputDataError, match=r"log10 \(of uM\)"):
        check_unit(panel / np.log(10), Path("responses.tsv"))


def test_the_unit_is_checked_unless_the_card_says_otherwise(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = pd.read_csv(inputs["responses"], sep="\t")
    table["ln_ic50"] = np.exp(table["ln_ic50"])
    table.to_csv(tmp_path / "raw.tsv", sep="\t", index=False)
    (tmp_path / "out").mkdir()
    changed = {**inputs, "responses": tmp_path / "raw.tsv"}
    with pytest.raises(InputDataError, match="natural logarithm"):
        TASK.prepare(changed, {}, tmp_path / "out")
    facts = TASK.prepare(changed, {"check_unit": False}, tmp_path / "out")
    assert facts["pairs"] and facts["unit"] == "not checked"


# -------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("policy", POLICIES)
def test_splits_do_not_leak(dataset: Path, policy: str) -> None:
    split, problem = problem_of(dataset, policy)
    samples = problem.samples
    assert set(split["part"]) == {"train", "validation", "test"}
    assert set(split["scenario"]) == {policy, ""} and (split["scenario"] == policy).eq(split["part"] == "test").all()
    unit = {"random_pairs": samples["smiles"] + samples["cell_line"], "leave_drug_out": samples["smiles"]}
    held = unit.get(policy, samples["tissue" if policy == "leave_tissue_out" else "cell_line"])
    assert held.groupby(samples["part"]).agg(set).pipe(lambda s: sum(map(len, s))) == held.nunique()
    twins = samples[samples["drug_id"].isin([TWIN[0], "1"])]  # one molecule under two ids: never on both sides
    assert (twins.groupby("cell_line")["part"].nunique() == 1).all()


def test_a_salt_and_its_base_are_never_on_both_sides(inputs: dict[str, Path], tmp_path: Path) -> None:
    drugs = pd.read_csv(inputs["drugs"], sep="\t", dtype=str)
    drugs.loc[drugs["drug_id"] == TWIN[0], "smiles"] += ".Cl"
    drugs.to_csv(tmp_path / "drugs.tsv", sep="\t", index=False)
    (tmp_path / "out").mkdir()
    facts = TASK.prepare({**inputs, "drugs": tmp_path / "drugs.tsv"}, {}, tmp_path / "out")
    assert (facts["structures"], facts["salts_equal_to_another_drug"]) == (25, [TWIN[0]])
    pairs = pd.read_csv(tmp_path / "out/pairs.tsv", sep="\t", dtype=str)
    both = pairs[pairs["drug_id"].isin(["1", TWIN[0]])]
    for seed in range(20):
        for policy, unit in (("leave_drug_out", []), ("random_pairs", ["cell_line"])):
            split = TASK.split(tmp_path / "out", policy, {}, seed).merge(both, on="sample")
            assert (split.groupby(["fold", *unit])["part"].nunique() == 1).all()


def test_without_such_pairs_salts_change_no_split(dataset: Path) -> None:
    pairs = pd.read_csv(dataset / "pairs.tsv", sep="\t", dtype=str)
    pairs.loc[pairs["drug_id"] == "2", "smiles"] += ".Cl"
    assert units_of(pairs, "leave_drug_out").tolist() == pairs["smiles"].tolist()


def test_random_pairs_are_drawn_within_tissues(dataset: Path) -> None:
    _, problem = problem_of(dataset, "random_pairs")
    shares = problem.samples.groupby("tissue")["part"].value_counts(normalize=True).unstack()
    assert list(shares.index) == sorted(TISSUES)
    np.testing.assert_allclose(shares[["test", "validation", "train"]], [[0.2, 0.1, 0.7]] * 4, atol=0.02)


def test_splits_follow_their_seed_only(dataset: Path) -> None:
    for policy in POLICIES:
        one, again, other = (TASK.split(dataset, policy, {}, seed) for seed in (1, 1, 2))
        pd.testing.assert_frame_equal(one, again)
        assert (one["part"] != other["part"]).any()
    with pytest.raises(CardError, match="leave_drug_out"):
        TASK.split(dataset, "leave_drugs_out", {}, 1)


def test_lines_without_a_tissue_are_left_out_where_tissues_are_held_out(dataset: Path, tmp_path: Path) -> None:
    pairs = pd.read_csv(dataset / "pairs.tsv", sep="\t", dtype={"drug_id": str})
    unknown = pairs["cell_line"].isin(LINES[:4])
    pairs.assign(tissue=pairs["tissue"].where(~unknown, "")).to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    split = TASK.split(tmp_path, "leave_tissue_out", {}, 1)
    assert len(split) == (~unknown).sum() and not set(split["sample"]) & set(pairs.loc[unknown, "sample"])
    pairs.assign(tissue=np.where(unknown, "a", "b")).to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    with pytest.raises(InputDataError, match="2 tissues"):
        TASK.split(tmp_path, "leave_tissue_out", {}, 1)


def test_models_do_not_see_the_test(dataset: Path) -> None:
    _, problem = problem_of(dataset, "random_pairs")
    hidden = np.isnan(problem.targets[:, 0])
    assert hidden[problem.rows("test")].all() and hidden.sum() == len(problem.rows("test"))
    assert "ln_ic50" not in problem.samples
    _, open_problem = problem_of(dataset, "random_pairs", sees_truth=True)
    assert not np.isnan(open_problem.targets).any()


# ------------------------------------------------------------------------------------- floors, ceilings, models


@pytest.mark.parametrize("policy", POLICIES)
def test_floors_and_ceilings(dataset: Path, policy: str) -> None:
    split, problem = problem_of(dataset, policy, sees_truth=True)
    truth = scored(dataset, split, problem, Truth().predict(problem, 0))
    np.testing.assert_allclose(truth[["pearson", "spearman", "rmse", "pearson_per_drug"]], [1, 1, 0, 1], atol=1e-6)
    split, problem = problem_of(dataset, policy)
    for model in (Constant(), TrainMean()):
        floor = scored(dataset, split, problem, model.predict(problem, 0))
        assert (floor[["pearson", "spearman", "pearson_per_drug"]] == 0).all() and floor["rmse"] > 0.5
    chance = [scored(dataset, split, problem, Shuffled().predict(problem, s)) for s in range(20)]
    assert abs(np.mean([c["pearson"] for c in chance])) < 0.15


def additive_problem(effect: np.ndarray, rows: np.ndarray, noise: float = 0.0) -> tuple[Problem, np.ndarray]:
    """Pairs (drug, line), training first, whose targets are 1.5 + effect of the drug + effect of the line + noise."""
    smiles, lines = np.array(list(DRUGS.values()))[rows[:, 0]], np.array(LINES)[rows[:, 1]]
    samples = pd.DataFrame({"smiles": smiles, "cell_line": lines, "part": ["train"] * (len(rows) - 9) + ["test"] * 9})
    y = 1.5 + effect[rows[:, 0], 0] + effect[rows[:, 1], 1] + rng("noise", 1).normal(0, noise, len(rows))
    return Problem(TASK.name, "0", samples, y[:, None].astype(np.float32), ["ln_ic50"], NO_LINES), y


def test_the_additive_control_finds_planted_effects_in_a_table_with_gaps() -> None:
    draw = rng("gaps")
    grid = np.array([(i, j) for i in range(12) for j in range(12)])
    rows = grid[draw.permutation(len(grid))[:70]]
    effect = draw.normal(size=(12, 2))
    problem, y = additive_problem(effect, rows)
    np.testing.assert_allclose(AdditiveMean().predict(problem, 0)[:, 0], y[-9:], atol=1e-5)
    # with noise: what is left of the training pairs is zero on average within each drug and each line
    problem, y = additive_problem(effect, rows, noise=1.0)
    train, y = problem.samples[:-9], y[:-9]

    def answers(**columns: str) -> np.ndarray:
        samples = pd.concat([train, train.assign(part="test", **columns).rename(index="{}, asked".format)])
        asked = Problem(TASK.name, "0", samples, np.tile(y, 2)[:, None].astype(np.float32), ["ln_ic50"], NO_LINES)
        return AdditiveMean().predict(asked, 0)[:, 0]

    left = pd.Series(y - answers())
    for column in ("smiles", "cell_line"):
        np.testing.assert_allclose(left.groupby(train[column].to_numpy()).sum(), 0, atol=1e-4)
    assert left.abs().max() > 0.5
    # what training does not have counts with the overall mean
    np.testing.assert_allclose(answers(smiles="C", cell_line="elsewhere"), y.mean(), atol=1e-5)
    for unknown in ({"smiles": "C"}, {"cell_line": "elsewhere"}):
        assert answers(**unknown).mean() == pytest.approx(y.mean(), abs=1e-5) and np.ptp(answers(**unknown)) > 1


def test_the_additive_control_of_a_full_table_is_drug_mean_plus_line_mean() -> None:
    full = np.array([(i, j) for i in range(5) for j in range(6)])
    asked = np.array([(0, 0), (1, 3), (4, 5), (2, 2), (9, 1), (9, 4), (3, 9), (0, 9), (9, 9)])  # 9: not in training
    problem, y = additive_problem(rng("full").normal(size=(12, 2)), np.concatenate([full, asked]), noise=1.0)
    table = pd.DataFrame(full, columns=["drug", "line"]).assign(y=y[:-9])
    drug, line = (table.groupby(c)["y"].mean().reindex(range(10)).fillna(table["y"].mean()) for c in ("drug", "line"))
    expected = drug[asked[:, 0]].to_numpy() + line[asked[:, 1]].to_numpy() - table["y"].mean()
    np.testing.assert_allclose(AdditiveMean().predict(problem, 0)[:, 0], expected, atol=1e-5)


def test_the_additive_control_knows_potency_and_no_interaction(dataset: Path) -> None:
    split, problem = problem_of(dataset, "random_pairs")
    scores = scored(dataset, split, problem, AdditiveMean().predict(problem, 0))
    assert scores["pearson"] > scores["pearson_per_drug"] + 0.2
    split, problem = problem_of(dataset, "leave_drug_out")  # a drug never seen: what is left is the line
    of_line = pd.Series(AdditiveMean().predict(problem, 0)[:, 0]).groupby(
        problem.samples.iloc[problem.rows("test")]["cell_line"].to_numpy()
    )
    assert of_line.nunique().max() == 1


def test_components_of_expression_are_fitted_on_training_lines_only(dataset: Path) -> None:
    _, problem = problem_of(dataset, "leave_cell_out")
    before = line_components(problem, 5)
    train, test = problem.rows("train"), problem.rows("test")
    held = problem.samples["cell_line"].iloc[test].unique()
    problem.context.expression.loc[held] *= 10
    after = line_components(problem, 5)
    np.testing.assert_array_equal(before[train], after[train])
    assert (before[test] != after[test]).any()


@pytest.mark.parametrize("model", [LinearFingerprint(), RandomForest(n_estimators=20)])
def test_classical_models_learn_and_repeat(
    dataset: Path, model: LinearFingerprint | RandomForest, request: pytest.FixtureRequest
) -> None:
    split, problem = problem_of(dataset, "leave_cell_out")
    answer = model.predict(problem, 0)
    assert answer.dtype == np.float32 and answer.shape == (len(problem.test_samples), 1)
    np.testing.assert_array_equal(answer, model.predict(problem, 0))
    assert scored(dataset, split, problem, answer)["pearson"] > 0.5


def test_the_head_uses_the_embedding_of_the_right_line(dataset: Path) -> None:
    split, problem = problem_of(dataset, "random_pairs")
    order = rng("other order").permutation(len(LINES))
    names = np.array(LINES)[order]
    vectors = STATE[order].astype(np.float32)
    known = Features("known", names, vectors, np.array(["G0"]), None, np.array([True]))
    answer = TASK.solve(problem, known, 0)
    np.testing.assert_array_equal(answer, TASK.solve(problem, known, 0))
    informed = scored(dataset, split, problem, answer)
    blind = scored(
        dataset,
        split,
        problem,
        TASK.solve(
            problem, Features("blind", names, np.zeros_like(vectors), np.array(["G0"]), None, np.array([True])), 0
        ),
    )
    assert informed["pearson_per_drug"] > blind["pearson_per_drug"] + 0.2
    lacking = Features("short", names[names != "SW48"], vectors[names != "SW48"], known.genes, None, known.gene_mapped)
    with pytest.raises(InputDataError, match="missing: 'SW48'"):  # SW480 does not stand in for it
        TASK.solve(problem, lacking, 0)


def test_lines_are_found_by_their_whole_name() -> None:
    cells = np.array(["SW480", "SW48", "RT4", "T4"])
    rows = line_rows(cells, np.array(["SW48", "T4", "SW480", "SW48"]), "toy", np.arange(4.0)[:, None])
    assert rows[:, 0].tolist() == [1, 3, 0, 1]


# --------------------------------------------------------------------------------------------- DeepCDR's files


def write_deepcdr(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.txt" for name in ("responses", "drug_list", "drugs", "annotation")}
    paths["responses"].write_text(
        '"","ACH-1","ACH-2","ACH-3"\n"GDSC:1",1.5,NA,0.5\n"GDSC:2",2.5,3.5,4\n"GDSC:7",1,1,1\n"GDSC:8",1.6,2,2\n'
    )
    paths["drug_list"].write_text(
        "drug_id,Name,Synonyms,Targets,Target pathway,PubCHEM,Sample Size,Count\n"
        '1,A,"a, b",T,P,3385,1,1\n2,B,,T,P,5208,1,1\n7,C,,T,P,none,1,1\n8,A again,,T,P,3385,1,1\n'
    )
    paths["drugs"].write_text("3385\tCCO\n5208\tCCN\n")
    paths["annotation"].write_text("CCLE_ID\tdepMapID\ttcga_code\nX\tACH-1\tLUAD\nY\tACH-2\tNA\nZ\tACH-3\tSKCM\n")
    np.savez(folder / "x.npz", X=np.array([[-1.0, 0.5], [0.5, 2]]), lines=["A", "B"], genes=["TP53", "EGFR"])
    (folder / "map.tsv").write_text("depmap_id\tdeepdr_line\nACH-1\tA\nACH-2\tB\nACH-3\t\n")
    return {**paths, "expression": folder / "x.npz", "lines": folder / "map.tsv"}


def test_deepcdr_layout(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    (tmp_path / "out").mkdir()
    facts = TASK.prepare(inputs, {"layout": "deepcdr"}, tmp_path / "out")
    assert (facts["pairs_in"], facts["pairs_without_structure"]) == (11, 3)
    assert facts["names_of_drugs_without_structure"] == ["7"]
    assert (facts["lines"], facts["names_of_lines_without_expression"]) == (2, ["ACH-3"])
    pairs = pd.read_csv(tmp_path / "out/pairs.tsv", sep="\t", keep_default_na=False, dtype=str).set_index("sample")
    assert sorted(pairs.index) == ["1|ACH-1", "2|ACH-1", "2|ACH-2", "8|ACH-1", "8|ACH-2"]
    assert pairs.loc["8|ACH-1", "smiles"] == "CCO" and pairs.loc["2|ACH-2", "tissue"] == ""
    adata = anndata.read_h5ad(tmp_path / "out/expression.h5ad")
    np.testing.assert_allclose(adata.to_df().loc["ACH-1"], [0.0, 1.5])  # x - min(x) of the line


def test_an_id_with_two_answers_is_an_error(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    for role, more in (("drug_list", "1,A,,T,P,5208,1,1\n"), ("drugs", "3385\tCCC\n")):
        text = inputs[role].read_text()
        inputs[role].write_text(text + more)
        with pytest.raises(InputDataError, match="with two answers"):
            read_deepcdr_layout(inputs)
        inputs[role].write_text(text)
    assert read_deepcdr_layout(inputs)["smiles"].notna().sum() == 9


def test_ids_need_no_prefix(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    expected = read_deepcdr_layout(inputs)
    inputs["responses"].write_text(inputs["responses"].read_text().replace("GDSC:", ""))
    pd.testing.assert_frame_equal(read_deepcdr_layout(inputs), expected)


@pytest.mark.parametrize(
    ("role", "old", "new", "message"),
    [
        ("responses", "GDSC:", "GDSC:1.0", r"responses\.txt: none of the 4 names of drug_id \('1\.01'"),
        ("responses", ",", ";", "0 names after the first in the first row"),
        ("responses", '"ACH-2"', '"ACH-1"', r"responses\.txt: columns 'ACH-1' appear twice"),
        ("responses", "ACH-", "ACH_", r"none of the 3 names of cell_line .*annotation\.txt"),
        ("drug_list", ",3385,", ",3385.0,", r"drug_list\.txt: none of the 1 names of pubchem \('5208'\).*drugs\.txt"),
        ("drug_list", ",T,P,", ",T,P,CID", "no PubChem id"),
        ("drugs", "\t", ",", "one column, which begins '3385,CCO'"),
        ("drugs", "3385\tCCO\n5208\tCCN", "CCO\t3385\nCCN\t5208", "none of the 2 names of pubchem"),
    ],
)
def test_an_ordinary_mistake_in_deepcdrs_files_is_said(
    role: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    inputs = write_deepcdr(tmp_path)
    if "5208" in message:
        inputs["drugs"].write_text("3385\tCCO\n")
    inputs[role].write_text(inputs[role].read_text().replace(old, new))
    with pytest.raises(InputDataError, match=message):
        read_deepcdr_layout(inputs)


def test_transposed_responses_are_said(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    pd.read_csv(inputs["responses"], index_col=0).T.to_csv(inputs["responses"])
    with pytest.raises(InputDataError, match="none of the 3 names of drug_id") as error:
        read_deepcdr_layout(inputs)
    assert "drugs are the rows of responses" in error.value.action


def test_inputs_that_a_layout_needs_or_does_not_read_are_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    deepcdr = write_deepcdr(tmp_path)
    for given, layout, roles in (
        (deepcdr, "deepcdr", ("drug_list", "drugs", "annotation", "expression", "responses", "lines")),
        (inputs, "table", ("drugs", "expression", "responses")),
    ):
        for role in roles:
            lacking = {name: path for name, path in given.items() if name != role}
            with pytest.raises(CardError, match=f"layout {layout}: no input '{role}'"):
                TASK.prepare(lacking, {"layout": layout}, tmp_path)
    with pytest.raises(CardError, match="layout table: inputs 'graphs'"):
        TASK.prepare({**inputs, "graphs": tmp_path / "g.zip"}, {}, tmp_path)


def test_a_table_of_other_lines_is_said(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    (tmp_path / "m.csv").write_text(",M1\nMCF7,0.5\n")
    with pytest.raises(InputDataError, match=r"none of the 3 cell lines .* is in .*m\.csv"):
        TASK.prepare({**inputs, "methylation": tmp_path / "m.csv"}, {"layout": "deepcdr"}, tmp_path)


def test_published_tables_of_lines_are_read_as_csv(tmp_path: Path) -> None:
    """Expression, methylation and mutations, lines x features, whatever the other formats are."""
    inputs = write_deepcdr(tmp_path)
    del inputs["lines"]
    (tmp_path / "expression.csv").write_text(",TP53,EGFR\nACH-1,0,1.5\nACH-2,2,3\n")
    (tmp_path / "mutation.csv").write_text(",TP53.7578406,KRAS.25398284\nACH-1,0,1\nACH-2,1,0\nACH-3,0,0\n")
    with gzip.open(tmp_path / "methylation.csv.gz", "wt") as file:
        file.write(",M1\nACH-1,0.5\nACH-2,0.25\n")
    files = {"expression": "expression.csv", "mutation": "mutation.csv", "methylation": "methylation.csv.gz"}
    (tmp_path / "out").mkdir()
    facts = TASK.prepare(
        {**inputs, **{k: tmp_path / v for k, v in files.items()}}, {"layout": "deepcdr"}, tmp_path / "out"
    )
    assert (facts["lines"], facts["genes"], facts["mutation_features"], facts["methylation_features"]) == (2, 2, 2, 1)
    assert facts["names_of_lines_without_methylation"] == ["ACH-3"] and not facts["lines_without_mutation"]
    split = pd.DataFrame({"fold": "0", "sample": ["2|ACH-2", "2|ACH-1"], "part": ["train", "test"], "scenario": ""})
    (problem,) = TASK.problems(tmp_path / "out", split)
    assert problem.context.mutation.loc["ACH-2"].tolist() == [1, 0]
    assert problem.context.expression.loc["ACH-1"].tolist() == [0, 1.5]


def write_graphs(path: Path, graphs: dict[str, tuple[np.ndarray, list[list[int]]]]) -> None:
    """An archive as hickle 3 wrote it: a list of features and lists of neighbours; an empty list is an empty group."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, (features, neighbours) in graphs.items():
            buffer = io.BytesIO()
            with h5py.File(buffer, "w") as file:
                file["data_0/data_0"] = features
                for i, of_atom in enumerate(neighbours):
                    if of_atom:
                        file[f"data_0/data_1/data_{i}"] = np.array(of_atom)
                    else:
                        file.create_group(f"data_0/data_1/data_{i}")
            archive.writestr(f"drug_graph_feat/{name}.hkl", buffer.getvalue())


def test_published_graphs(tmp_path: Path) -> None:
    features = np.arange(3 * 75.0).reshape(3, 75)
    write_graphs(tmp_path / "g.zip", {"3385": (features, [[], [2], [1]]), "9": (features, [[1], [0], []])})
    graphs = read_deepcdr_graphs(tmp_path / "g.zip", {"3385": "OCC.Cl"})
    graphs.write(tmp_path / "graphs.npz")
    (found,) = [NamedGraphs.read(tmp_path / "graphs.npz").of(["CCO.Cl"])]
    np.testing.assert_allclose(found.atoms, features)
    assert found.bonds.tolist() == [[1, 2], [2, 1]] and found.molecule.tolist() == [0, 0, 0]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("3385.hkl", b"no HDF5")
    with pytest.raises(InputDataError, match=r"3385\.hkl"):
        read_deepcdr_graphs(tmp_path / "bad.zip", {"3385": "CCO"})
    write_graphs(tmp_path / "wide.zip", {"3385": (features, [[], [2], [1]]), "9": (features[:, :70], [[], [], []])})
    for name, message in (("wide.zip", r"9\.hkl: atom features .*\(3, 70\)"), ("no.zip", "No such file")):
        with pytest.raises(InputDataError, match=message):
            read_deepcdr_graphs(tmp_path / name, {"3385": "CCO", "9": "CCN"})
    with pytest.raises(InputDataError, match="graphs of '3385', '9', of none of the drugs '5208'"):
        read_deepcdr_graphs(tmp_path / "g.zip", {"5208": "CCN"})
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(InputDataError, match="not a zip file"):
        read_deepcdr_graphs(tmp_path / "text.zip", {"3385": "CCO"})


def test_methylation_and_graphs_reach_the_models(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    (tmp_path / "methylation.csv").write_text(",M1,M2\nACH-2,0.1,0.2\nACH-3,0.3,0.4\n")
    feature = np.ones((1, 75))
    write_graphs(tmp_path / "g.zip", {"3385": (feature, [[]]), "5208": (2 * feature, [[]])})
    (tmp_path / "out").mkdir()
    facts = TASK.prepare(
        {**inputs, "methylation": tmp_path / "methylation.csv", "graphs": tmp_path / "g.zip"},
        {"layout": "deepcdr"},
        tmp_path / "out",
    )
    assert (facts["lines"], facts["lines_without_methylation"], facts["graphs_read"]) == (1, 1, 2)
    split = pd.DataFrame({"fold": "0", "sample": ["2|ACH-2", "8|ACH-2"], "part": ["train", "test"], "scenario": ""})
    (problem,) = TASK.problems(tmp_path / "out", split)
    assert problem.context.methylation.loc["ACH-2"].tolist() == pytest.approx([0.1, 0.2])
    assert problem.context.graphs.of(["CCN", "CCO"]).atoms[:, 0].tolist() == [2, 1]


def test_published_parts_are_used_without_their_leaks(dataset: Path, tmp_path: Path) -> None:
    pairs = pd.read_csv(dataset / "pairs.tsv", sep="\t", dtype={"drug_id": str})
    pubchem = pairs["smiles"].map({s: str(100 + i) for i, s in enumerate(pairs["smiles"].unique())})
    table = pairs.assign(pubchem=pubchem)
    table["part"] = np.where(np.arange(len(table)) % 10 == 0, "test", "train")
    files = []
    for part in ("train", "test"):
        rows = table[table["part"] == part].rename(
            columns={"cell_line": "cellline", "pubchem": "drug", "ln_ic50": "ic50"}
        )
        files.append(tmp_path / f"{part}.csv")
        rows[["cellline", "drug", "ic50", "tissue"]].iloc[::-1].to_csv(files[-1], index=False)
    found, lost = read_published_parts(files, table.drop(columns="part"))
    assert lost == {"train": 0, "test": 0}
    assert found.set_index("sample")["part"].to_dict() == table.set_index("sample")["part"].to_dict()
    pairs.to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    found.assign(policy="random_pairs").to_csv(tmp_path / "published_parts.tsv", sep="\t", index=False)
    split = TASK.split(tmp_path, "random_pairs", {}, 1).merge(table, on="sample", suffixes=("", "_published"))
    test = table[table["part"] == "test"]
    assert set(split.loc[split["part"] == "test", "sample"]) == set(test["sample"])
    unit = split["smiles"] + split["cell_line"]
    assert unit.groupby(split["part"]).agg(set).map(len).sum() == unit.nunique()
    twins = table["smiles"].isin(table.loc[table["drug_id"] == TWIN[0], "smiles"])
    assert 0 < len(table) - len(split) <= twins.sum() and (split["part"] == "validation").mean() > 0.05
    assert len(TASK.split(tmp_path, "leave_cell_out", {}, 1)) == len(table)  # drawn: no file says how
    with pytest.raises(InputDataError, match="in two parts"):
        read_published_parts([files[0], files[0]], table.drop(columns="part"))
    with pytest.raises(InputDataError, match="1 files of a split"):
        read_published_parts(files[:1], table)


def test_published_parts_that_are_not_found_are_an_error(tmp_path: Path) -> None:
    inputs = write_deepcdr(tmp_path)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"

    def prepare(rows: list[str], test_rows: str = "ACH-1,5208,2.5", **options: object) -> dict[str, object]:
        train.write_text("cellline,drug,ic50\n" + "".join(f"{row}\n" for row in rows))
        test.write_text(f"cellline,drug,ic50\n{test_rows}\n")
        (tmp_path / "out").mkdir(exist_ok=True)
        return TASK.prepare(
            {**inputs, "random_pairs": [train, test]}, {"layout": "deepcdr", **options}, tmp_path / "out"
        )

    facts = prepare(["ACH-1,3385,1.5", "ACH-2,5208,3.5", "ACH-3,3385,0.5", "ACH-9,3385,1"])
    assert facts["published_random_pairs"] == {"train": 2, "test": 1}  # of ACH-3 there is no expression
    assert facts["published_random_pairs_rows_not_measured"] == {"train": 1, "test": 0}
    for rows, reason in (
        (["ACH-1,3385.0,1.5", "ACH-2,5208.0,3.5"], r"0 of 2 rows .*2 have a drug .*'3385\.0'"),
        (["A,3385,1.5", "B,5208,3.5", "ACH-2,5208,3.5"], "1 of 3 rows .*2 have a line .*'A', 'B'"),
        (["ACH-1,3385,0.6514", "ACH-2,5208,1.52"], r"0 of 2 rows .*2 have another value .*'0\.6514'"),
        ([], "0 of 0 rows .*the file is empty"),
    ):
        with pytest.raises(InputDataError, match=rf"train\.csv: {reason}") as error:
            prepare(rows)
        assert "it is then drawn" in error.value.action
    with pytest.raises(InputDataError, match=r"random_pairs: of 5 pairs .* none is in the part 'test'"):
        prepare(["ACH-1,3385,1.5"], "ACH-3,3385,0.5")


def test_scores_by_drug_average_to_the_score(dataset: Path) -> None:
    split, problem = problem_of(dataset, "leave_cell_out")
    ids = np.array(problem.test_samples)
    values = AdditiveMean().predict(problem, 0) + rng("noise").normal(size=(len(ids), 1)).astype(np.float32)
    answer = Predictions(np.full(len(ids), "0"), ids, values, np.array(problem.outputs))
    units = TASK.unit_scores(dataset, split, answer)
    by_drug = units[units["metric"] == "pearson_per_drug"]
    assert len(by_drug) == 25 and by_drug["unit"].is_unique and by_drug["unit"].str.startswith("drug ").all()
    score = TASK.score(dataset, split, answer).set_index("metric")["value"]
    assert by_drug["value"].mean() == pytest.approx(score["pearson_per_drug"])
    assert set(units["metric"]) == set(TASK.metrics)


@pytest.mark.mirror
def test_the_published_pairs_are_found(mirror: Path) -> None:
    folder = mirror / "deepcdr"
    pairs = read_deepcdr_layout(
        {
            "responses": folder / "GDSC_IC50.csv",
            "drug_list": folder / "1.Drug_listMon Jun 24 09_00_55 2019.csv",
            "drugs": folder / "223drugs_pubchem_smiles.txt",
            "annotation": folder / "Cell_lines_annotations_20181226.txt",
        }
    ).dropna(subset=["ln_ic50", "smiles"])
    lines = pd.read_csv(mirror / "gdsc_omics/deepcdr561_line_map.tsv.gz", sep="\t")["depmap_id"]
    pairs = pairs[pairs["cell_line"].isin(lines)]
    assert len(pairs) == 107_446 and pairs["smiles"].nunique() == 223 and pairs["cell_line"].nunique() == 561


@pytest.mark.mirror
def test_the_published_graphs_are_those_of_the_molecules(mirror: Path) -> None:
    smiles = pubchem_smiles(mirror / "deepcdr/223drugs_pubchem_smiles.txt")
    published = read_deepcdr_graphs(mirror / "deepcdr/drug_graph_feat.zip", smiles)
    assert published.graphs.n_molecules == 223 and published.graphs.atoms.shape[1] == 75
    ours = molecule_graphs(published.smiles.tolist(), "deepcdr")
    assert np.bincount(ours.molecule).tolist() == np.bincount(published.graphs.molecule).tolist()
    assert ours.bonds.shape == published.graphs.bonds.shape
    same = 0
    for i in range(223):  # the order of atoms differs
        a, b = (sorted(map(tuple, g.atoms[g.molecule == i].tolist())) for g in (ours, published.graphs))
        same += a == b
    assert same > 200, same
