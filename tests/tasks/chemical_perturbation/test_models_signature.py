"""DeepCE as a model: what its network is given of a problem and of features; its cards; the simulated world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData

from sclong.benchmark.adapter import build
from sclong.benchmark.controls import TrainMean
from sclong.benchmark.model import Embedder, Predictor, PredictorFromFeatures
from sclong.benchmark.problem import Features, Predictions, Problem
from sclong.config.cards import BenchmarkCard, ModelCard, load_cards
from sclong.errors import CardError, InputDataError
from sclong.plan.rows import meets
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation import deepce as signature_deepce
from sclong.tasks.chemical_perturbation.dataset import SignatureContext
from sclong.tasks.chemical_perturbation.deepce import Deepce, deepce_data, prepared, vectors_of
from sclong.tasks.chemical_perturbation.task import TASK
from sclong.world.simulation import simulate

GENES = ["G0", "G1", "G2", "G3"]
VECTORS = np.array([[1, 5], [3, 5], [100, 100], [5, 5]], dtype=np.float32)
CARDS = {
    "deepce": None,
    "deepce_sclong": "sclong",
    "deepce_sclong_static": "sclong_gene_table",
    "deepce_sclong_published": "sclong_gene_table",
    "deepce_sclong_random": "sclong_random",
    "deepce_gene2vec": "gene2vec",
    "deepce_random_genes": "random_gene_table",
    "deepce_pca": "pca",
}


def problem_of(gene_vectors: np.ndarray | None = None) -> Problem[SignatureContext]:
    rows = [
        ("train", "CCO", "A375", 10.0),
        ("train", "CCN", "PC3", 1.11),
        ("validation", "CCO", "PC3", 10.0),
        ("test", "c1ccccc1", "HELA", 10.0),
        ("test", "CCN", "A375", 3.33),
    ]
    samples = pd.DataFrame(rows, columns=["part", "smiles", "cell_id", "dose_um"], index=list("abcde"))
    targets = rng("targets").normal(size=(5, 4)).astype(np.float32)
    targets[3:] = np.nan
    return Problem("chemical_perturbation", "0", samples, targets, GENES, SignatureContext(gene_vectors=gene_vectors))


def features(genes: list[str], mapped: list[bool]) -> Features:
    return Features("m", np.array(["A375"]), None, np.array(genes), VECTORS[: len(genes)], np.array(mapped))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the head was given; it predicts zeros."""
    calls: list[Any] = []

    def head(data: Any, options: Any, seed: int) -> np.ndarray:
        calls.append((data, options, seed))
        return np.zeros((len(data.test), data.targets.shape[1]), np.float32)

    monkeypatch.setattr(signature_deepce, "fit_predict_deepce", head)
    return calls


def test_a_problem_becomes_the_networks_data() -> None:
    data = deepce_data(problem_of())
    assert data.graphs.n_molecules == 3 and data.vectors is None
    assert data.compound.tolist() == [1, 0, 1, 2, 0]  # CCN, CCO, c1ccccc1
    np.testing.assert_array_equal(data.line, [[1, 0], [0, 1], [0, 1], [0, 0], [1, 0]])  # HELA is not in training
    np.testing.assert_array_equal(data.dose, [[0, 1], [1, 0], [0, 1], [0, 1], [0, 0]])  # nor is 3.33
    assert (data.train.tolist(), data.validation.tolist(), data.test.tolist()) == ([0, 1], [2], [3, 4])
    assert data.line.dtype == data.dose.dtype == np.float32


def test_vectors_are_found_by_name_and_unknown_genes_have_none() -> None:
    found, known = vectors_of(GENES, features(["G3", "G1", "G0"], [True, True, False]))
    assert known.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(found, [[0, 0], [3, 5], [0, 0], [1, 5]])
    for nothing in (features(["X"], [True]), features(["G0"], [False])):
        with pytest.raises(InputDataError, match="a vector for none of the 4 genes"):
            vectors_of(GENES, nothing)


def test_vectors_are_standardised_over_known_genes_or_left_as_they_are() -> None:
    known = np.array([True, True, False, True])
    out = prepared(VECTORS, known, True)
    np.testing.assert_allclose(out[known].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(out[known].std(0), [1, 0], atol=1e-6)  # a constant dimension stays 0
    raw = prepared(VECTORS, known, False)
    np.testing.assert_array_equal(raw[known], VECTORS[known])
    assert not out[2].any() and not raw[2].any()


def test_which_vectors_the_network_gets(asked: list[Any]) -> None:
    Deepce(epochs=3).predict(problem_of(), 7)
    data, options, seed = asked.pop()
    assert data.vectors is None and options.epochs == 3 and seed == 7
    Deepce(standardise=False).predict(problem_of(VECTORS), 0)
    np.testing.assert_array_equal(asked.pop()[0].vectors, VECTORS)
    predicted = Deepce().predict_from(problem_of(VECTORS), features(GENES, [True] * 4), 0)
    np.testing.assert_allclose(asked.pop()[0].vectors.mean(0), 0, atol=1e-6)  # the features', not the data set's own
    assert predicted.shape == (2, 4)


def test_options_are_checked() -> None:
    with pytest.raises(CardError, match="write 'hidden'"):
        Deepce(hiden=4)
    with pytest.raises(CardError, match="epochs"):
        Deepce(epochs=0)


def test_an_invalid_molecule_is_named() -> None:
    problem = problem_of()
    for smiles, message in (("C1CC", "'C1CC' is not a molecule"), ("FS(F)(F)(F)(F)F", "S with 6 neighbours")):
        wrong = replace(problem, samples=problem.samples.assign(smiles=smiles))
        with pytest.raises(InputDataError, match=message.replace("(", r"\(").replace(")", r"\)")):
            Deepce(epochs=1).predict(wrong, 0)


@pytest.mark.parametrize("name", CARDS)
def test_cards(root: Path, name: str) -> None:
    cards = load_cards(root / "config/models", ModelCard)
    card = cards[name]
    assert card.features_of == CARDS[name] and card.provides == ["signature_prediction"]
    assert (card.protocol == "paper") == name.endswith("_published") and not card.selects_on_test
    assert card.features_of is None or card.features_of in cards
    assert meets(load_cards(root / "config/benchmarks", BenchmarkCard)["l1000"], card) == "native"
    kind = PredictorFromFeatures if card.features_of else Predictor
    published = build(card.for_preset("paper").recipe(), kind)
    assert isinstance(published, Deepce)
    sizes = published.options.model_dump(exclude={"device"})
    assert sizes == Deepce().options.model_dump(exclude={"device"}) and published.options.device == "cuda"
    assert published.standardise == (name not in ("deepce", "deepce_sclong_published"))
    assert build(card.for_preset("demo").recipe(), kind).options.batch_compounds == 4


def test_random_gene_vectors_are_as_wide_as_those_of_sclong(root: Path) -> None:
    """The demo's as the demo's, in the other presets as the published ones."""
    card = load_cards(root / "config/models", ModelCard)["random_gene_table"]
    genes = AnnData(np.zeros((1, 4), np.float32))
    for preset, architecture in (("demo", "tiny"), ("small", "1b"), ("paper", "1b")):
        width = yaml.safe_load((root / f"config/architectures/{architecture}.yaml").read_text())["base_dim"]
        found = build(card.for_preset(preset).recipe(), Embedder).embed(genes, checkpoint=None, seed=0, batch_size=1)
        assert found.gene_embedding.shape == (4, width)


@pytest.mark.slow
def test_settings_of_the_demo_beat_the_mean_signature(tmp_path: Path, root: Path) -> None:
    """On compounds of the simulated world that training does not hold, by one short training."""
    simulate(tmp_path / "world", only={"signatures.h5ad", "drugs.tsv", "cell_lines.h5ad", "genes.csv"})
    roles = {
        "signatures": "signatures.h5ad",
        "drugs": "drugs.tsv",
        "expression": "cell_lines.h5ad",
        "annotation": "genes.csv",
    }
    (tmp_path / "dataset").mkdir()
    TASK.prepare({role: tmp_path / "world" / file for role, file in roles.items()}, {}, tmp_path / "dataset")
    split = TASK.split(tmp_path / "dataset", "compound", {}, 1)
    (problem,) = TASK.problems(tmp_path / "dataset", split)
    deepce = build(load_cards(root / "config/models", ModelCard)["deepce"].for_preset("demo").recipe(), Predictor)
    scores = {}
    for name, model in (("mean", TrainMean()), ("deepce", deepce)):
        ids = np.array(problem.test_samples)
        predicted = Predictions(np.full(len(ids), "0"), ids, model.predict(problem, 0), np.array(problem.outputs))
        scores[name] = TASK.score(tmp_path / "dataset", split, predicted).set_index("metric")["value"]
    assert scores["deepce"]["pearson"] > scores["mean"]["pearson"] + 0.05
    assert scores["deepce"]["rmse"] < scores["mean"]["rmse"] - 0.03
