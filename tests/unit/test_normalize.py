"""Values that the model reads."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from toy_training import ARCH, toy_corpus, toy_counts, toy_graph

from sclong.cells.normalize import (
    FEW,
    NORMALIZATIONS,
    check_counts,
    log1p_cp10k,
    looks_logged,
    normalize_cell,
    normalize_counts,
    to_model_values,
)
from sclong.checkpoint.folder import initialise, load_checkpoint, save_checkpoint
from sclong.embed.embedding import embed_adata
from sclong.errors import InputDataError
from sclong.nn.dual_encoder import DualEncoder

COUNTS = np.array([[1.0, 3.0, 0.0, 6.0], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_log1p_cp10k_is_the_formula(make) -> None:
    out = log1p_cp10k(make(COUNTS))
    expected = np.log1p([[1000.0, 3000.0, 0.0, 6000.0], [0.0] * 4, [10000.0, 0.0, 0.0, 0.0]])
    assert sp.issparse(out)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.toarray(), expected, rtol=1e-6)


def test_log1p_cp10k_leaves_its_input_alone() -> None:
    counts = sp.csr_matrix(COUNTS)
    log1p_cp10k(counts)
    np.testing.assert_array_equal(counts.toarray(), COUNTS)


def test_depth_does_not_matter() -> None:
    np.testing.assert_allclose(log1p_cp10k(COUNTS * 7).toarray(), log1p_cp10k(COUNTS).toarray(), rtol=1e-6)


def test_counts_pass() -> None:
    check_counts(COUNTS, "x")
    check_counts(sp.csr_matrix((3, 4)), "x")


def test_looks_logged_knows_both_bases_and_no_other_fractions() -> None:
    random = np.random.default_rng(0)
    logged = log1p_cp10k(random.poisson(np.geomspace(0.1, 50, 20)[:, None], size=(20, 50)))
    assert looks_logged(logged)
    assert looks_logged(logged / np.log(2))
    assert not looks_logged(random.gamma(1.0, size=(20, 50)) * np.arange(1, 21)[:, None] / 10)
    assert not looks_logged(logged * 100)


def test_kinds_of_values() -> None:
    np.testing.assert_array_equal(to_model_values(COUNTS, "counts").toarray(), log1p_cp10k(COUNTS).toarray())
    half = COUNTS / 2
    for kind in ("log1p_cp10k", "nonnegative"):
        out = to_model_values(half, kind)
        np.testing.assert_array_equal(out.toarray(), half)
        with pytest.raises(InputDataError, match="negative"):
            to_model_values(-half, kind)
    with pytest.raises(InputDataError, match="value kind 'tpm'"):
        to_model_values(COUNTS, "tpm")


def test_normalisations_by_hand() -> None:
    counts = np.array([[1, 0, 3], [0, 0, 0]])
    assert normalize_counts(counts, "cp10k").toarray().tolist() == [[2500, 0, 7500], [0, 0, 0]]
    logged = normalize_counts(counts, "log1p_cp10k").toarray()
    assert logged[0].tolist() == [np.float32(np.log(2501)), 0, np.float32(np.log(7501))]
    paper = normalize_counts(counts, "paper_log").toarray()
    assert paper[0, 2] == 10
    assert paper[0, 0] == np.float32(10 * np.log(1.0001) / np.log(1.0003))
    assert not paper[1].any()
    with pytest.raises(InputDataError, match="log1p_cp10k, cp10k, paper_log"):
        normalize_counts(counts, "log2")


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("highest", [1, FEW - 1, FEW, 300, 70_000, 2**31])
def test_the_fast_way_gives_the_bits_of_the_definition(name: str, highest: int) -> None:
    """Counts on both sides of the table, an empty cell, stored zeros, and values that are no whole numbers."""
    random = np.random.default_rng(highest)
    counts = np.minimum(random.zipf(1.4, size=(9, 40)), highest).astype(np.float32)
    counts *= random.random(counts.shape) < 0.6
    counts[4] = 0
    fractions = counts / np.float32(4)  # sums of quarters are exact in any order
    for values in (counts, fractions):
        expected = np.stack([normalize_cell(cell, name) for cell in values])
        columns = np.tile(np.arange(40), 9)
        with_zeros = sp.csr_matrix((values.ravel(), columns, np.arange(0, 361, 40)), shape=values.shape)
        for given in (values, sp.csr_matrix(values), with_zeros):
            np.testing.assert_array_equal(normalize_counts(given, name).toarray(), expected)
    assert expected.max() > 0


def test_the_default_is_to_the_bit_what_it_always_was() -> None:
    random = np.random.default_rng(3)
    counts = sp.random(200, 500, 0.2, "csr", random_state=3, dtype=np.float32)
    counts.data = np.minimum(random.zipf(1.6, counts.nnz), 5000).astype(np.float32)
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    expected = np.log1p(counts.data * np.repeat(1e4 / totals, np.diff(counts.indptr))).astype(np.float32)
    np.testing.assert_array_equal(log1p_cp10k(counts).data, expected)
    assert (counts.data >= FEW).any()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_values_that_were_normalised_otherwise_are_refused(name: str) -> None:
    values = normalize_counts(np.array([[1, 0, 3]]), name)
    assert (to_model_values(values, name, name) != values).nnz == 0
    assert (to_model_values(values, "nonnegative", name) != values).nnz == 0
    for other in set(NORMALIZATIONS) - {name}:
        with pytest.raises(InputDataError, match=f"already .{name}., for a model that was pretrained on {other}"):
            to_model_values(values, name, other)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalised_values_are_no_counts(name: str) -> None:
    counts = np.random.default_rng(0).poisson(np.geomspace(0.3, 30, 20)[:, None], size=(20, 50))
    said = {"cp10k": "all cells have the same total", "log1p_cp10k": "log-normalised", "paper_log": "not integers"}
    with pytest.raises(InputDataError, match=said[name]):
        to_model_values(normalize_counts(counts, name), "counts", name)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_checkpoint_embeds_with_the_normalisation_it_was_trained_on(tmp_path: Path, name: str) -> None:
    _, vocabulary, graph = toy_corpus(tmp_path)
    model = DualEncoder(ARCH, len(vocabulary), toy_graph(vocabulary))
    save_checkpoint(tmp_path / "model", model, ARCH, vocabulary, graph, training_log=None, card={}, normalization=name)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.normalization == json.loads((tmp_path / "model/config.json").read_text())["normalization"] == name
    assert f"normalised as {name} " in (tmp_path / "model/README.md").read_text()

    counts = sp.csr_matrix(toy_counts(4))
    cells = anndata.AnnData(counts, var=pd.DataFrame(index=vocabulary.table["ensembl_id"].astype(str).to_numpy()))
    from_counts = embed_adata(cells, loaded).cell_embedding
    with torch.inference_mode():
        values_BN = np.stack([normalize_cell(np.append(cell, 0), name) for cell in counts.toarray()])
        vectors_BND = loaded(values_BN).gene_embeddings_BND.numpy()
    by_hand = np.stack([vectors[values != 0].mean(0) for vectors, values in zip(vectors_BND, values_BN, strict=True)])
    np.testing.assert_allclose(from_counts, by_hand, rtol=1e-4, atol=1e-5)
    for other in NORMALIZATIONS:
        cells.X, cells.uns["value_kind"] = normalize_counts(counts, other), other
        if other == name:
            np.testing.assert_array_equal(embed_adata(cells, loaded).cell_embedding, from_counts)
        else:
            with pytest.raises(InputDataError, match="normalised already"):
                embed_adata(cells, loaded)


def test_an_older_checkpoint_that_does_not_say_it_reads_the_default(tmp_path: Path) -> None:
    _, vocabulary, graph = toy_corpus(tmp_path)
    initialise(tmp_path / "model", ARCH, vocabulary, graph, seed=0)
    config = json.loads((tmp_path / "model/config.json").read_text())
    del config["normalization"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    assert load_checkpoint(tmp_path / "model").normalization == "log1p_cp10k"
