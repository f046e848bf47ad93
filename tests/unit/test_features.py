from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from sclong.benchmark.adapter import build
from sclong.benchmark.features import read_features, write_features
from sclong.benchmark.model import Embedder
from sclong.config.cards import ModelCard, load_cards
from sclong.embed.result import Embedding
from sclong.errors import InputDataError

CELLS = ["NA", "007", "a cell", 'quo"te', "nul"]
GENES = ["nan", "NULL", "MARCH1", "1-Dec"]


def data() -> anndata.AnnData:
    return anndata.AnnData(np.ones((5, 4)), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))


def embedding(**change: object) -> Embedding:
    random = np.random.default_rng(0)
    parts = {
        "cell_embedding": random.normal(size=(5, 3)).astype(np.float32),
        "gene_embedding": random.normal(size=(4, 2)).astype(np.float32),
        "gene_mapped": np.array([True, False, True, True]),
        "facts": {"pooling": "mean", "alignment": {"mapped": 3}},
    }
    return Embedding(**(parts | change))


def test_comes_back_as_it_was_names_that_look_like_missing_values_too(tmp_path: Path) -> None:
    write_features(tmp_path / "x", "toy", embedding(), data())
    back = read_features(tmp_path / "x")
    assert back.model == "toy"
    assert back.cells.tolist() == CELLS and back.genes.tolist() == GENES
    assert np.array_equal(back.cell_embedding, embedding().cell_embedding)
    assert np.array_equal(back.gene_embedding, embedding().gene_embedding)
    assert back.gene_mapped.tolist() == [True, False, True, True] and back.gene_mapped.dtype == bool
    assert back.cell_embedding.dtype == np.float32


def test_what_a_model_lacks_is_none(tmp_path: Path) -> None:
    write_features(tmp_path / "x", "toy", embedding(), data())
    write_features(tmp_path / "x", "toy", embedding(gene_embedding=None), data())
    back = read_features(tmp_path / "x")
    assert back.gene_embedding is None and back.cell_embedding is not None


@pytest.mark.parametrize(
    "wrong",
    [{"cell_embedding": np.ones((4, 3))}, {"gene_embedding": np.full((4, 2), np.nan)}, {"cell_embedding": np.ones(5)}],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(InputDataError, match="embedding of model 'toy'"):
        write_features(tmp_path / "x", "toy", embedding(**wrong), data())
    assert not list(tmp_path.iterdir())


def test_folder_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match=r"metadata\.json"):
        read_features(tmp_path)


@pytest.mark.parametrize("name", ["sclong", "sclong_random", "pca"])
def test_cards_name_adapters_that_take_their_options(root: Path, name: str) -> None:
    card = load_cards(root / "config/models", ModelCard)[name]
    assert isinstance(build(card.recipe(), Embedder), Embedder)
    assert "cell_embedding" in card.provides and "gene_embedding" in card.provides
