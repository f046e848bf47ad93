"""Models of drug response: group means, and DeepCDR from a problem or from an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.problem import Features, Problem
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.seeding import rng
from sclong.tasks.drug_response.controls import GroupMean
from sclong.tasks.drug_response.dataset import ResponseContext
from sclong.tasks.drug_response.deepcdr import DeepCDR
from sclong.tasks.drug_response.files import NamedGraphs

DRUGS = {"1": "CCO", "2": "c1ccccc1", "3": "CC(=O)O"}
LINES = [f"L{i}" for i in range(12)]
STATE = rng("state").normal(size=(len(LINES), 4)).astype(np.float32)
QUICK: dict[str, Any] = {
    "hidden": [8],
    "line_hidden": 8,
    "tower": 8,
    "fusion": 60,
    "kernel": 10,
    "batch_size": 8,
    "epochs": 2,
}


def problem(context: Mapping[str, Any] | None = None, hide: bool = True) -> Problem:
    rows = [(d, s, line, "lung" if i % 2 else "") for d, s in DRUGS.items() for i, line in enumerate(LINES)]
    samples = pd.DataFrame(rows, columns=["drug_id", "smiles", "cell_line", "tissue"])
    samples["part"] = np.resize(["train", "train", "validation", "test", "train"], len(rows))
    samples.index = samples["drug_id"] + "|" + samples["cell_line"]
    targets = rng("y").normal(size=(len(rows), 1)).astype(np.float32)
    if hide:
        targets[(samples["part"] == "test").to_numpy()] = np.nan
    expression = pd.DataFrame(STATE, index=LINES, columns=list("abcd"))
    own = ResponseContext(**{"expression": expression, **(context or {})})
    return Problem("drug_response", "0", samples, targets, ["ln_ic50"], own)


@pytest.mark.parametrize(("by", "column"), [("drug", "smiles"), ("line", "cell_line"), ("tissue", "tissue")])
def test_group_means_are_of_training_pairs(by: Any, column: str) -> None:
    given = problem()
    answer = GroupMean(by).predict(given, 0)
    train, test = given.rows("train"), given.rows("test")
    first = given.samples[column].iloc[test[0]]
    same = train[(given.samples[column].iloc[train] == first).to_numpy()]
    assert answer.shape == (len(test), 1) and answer[0, 0] == pytest.approx(given.targets[same].mean(), abs=1e-6)


def test_a_group_that_training_does_not_have_gets_the_overall_mean() -> None:
    given = problem()
    given.samples.loc[given.samples["drug_id"] == "3", "part"] = "test"
    answer = GroupMean("drug").predict(given, 0)[:, 0]
    held = (given.samples["drug_id"].iloc[given.rows("test")] == "3").to_numpy()
    assert np.allclose(answer[held], given.targets[given.rows("train")].mean(), atol=1e-6)
    with pytest.raises(CardError, match="one of drug, line, tissue"):
        GroupMean("cell")  # type: ignore[arg-type]


def test_options_and_omics_are_checked() -> None:
    with pytest.raises(CardError, match="'epochs'"):
        DeepCDR(epoch=3)
    for wrong in (["proteome"], []):
        with pytest.raises(CardError, match="expression, methylation, mutation"):
            DeepCDR(omics=wrong)
    with pytest.raises(InputDataError, match="the data set has no methylation"):
        DeepCDR(omics=["expression", "methylation"], **QUICK).predict(problem(), 0)


def test_published_selection_needs_a_card_that_says_so() -> None:
    model = DeepCDR(**QUICK, positions=100, select_on="test")
    with pytest.raises(CardError, match="selects_on_test: true"):
        model.predict(problem(), 0)
    assert np.isfinite(model.predict(problem(hide=False), 0)).all()


def test_rows_are_matched_by_name() -> None:
    model, given = DeepCDR(**QUICK), problem()
    plain = model.predict(given, 0)
    order = rng("other order").permutation(len(LINES))
    shuffled = problem({"expression": given.context.expression.iloc[order]})
    np.testing.assert_array_equal(plain, model.predict(shuffled, 0))
    genes = np.array(["a"])
    features = Features("toy", np.array(LINES)[order], STATE[order], genes, None, np.array([True]))
    np.testing.assert_array_equal(plain, model.predict_from(given, features, 0))
    other = Features("toy", np.array(LINES), STATE[order], genes, None, np.array([True]))
    assert (plain != model.predict_from(given, other, 0)).any()
    lacking = Features("short", np.array(LINES[:-1]), STATE[:-1], genes, None, np.array([True]))
    with pytest.raises(InputDataError, match="missing: 'L11'"):
        model.predict_from(given, lacking, 0)


def test_given_graphs_are_used_and_every_omics_counts() -> None:
    model, given = DeepCDR(**QUICK), problem()
    plain = model.predict(given, 0)
    names = list(DRUGS.values())[::-1]
    graphs = NamedGraphs(np.array(names), molecule_graphs(names, "deepcdr"))
    np.testing.assert_array_equal(plain, model.predict(problem({"graphs": graphs}), 0))
    wrong = NamedGraphs(np.array(names), molecule_graphs(["C", "N", "O"], "deepcdr"))
    assert (plain != model.predict(problem({"graphs": wrong}), 0)).any()
    with pytest.raises(InputDataError, match="no graph of the molecules 'c1ccccc1'"):
        model.predict(
            problem({"graphs": NamedGraphs(graphs.smiles[[0, 2]], graphs.graphs.select(np.array([0, 2])))}), 0
        )
    both, answers = DeepCDR(omics=["expression", "methylation"], **QUICK), []
    for seed in range(2):
        table = pd.DataFrame(rng("methylation", seed).random((12, 3)), index=LINES[::-1])
        answers.append(both.predict(problem({"methylation": table}), 0))
    assert (answers[0] != answers[1]).any()
