from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from toy_training import ARCH, N_GENES, toy_corpus, toy_counts

from sclong.benchmark.features import read_features, write_features
from sclong.benchmark.pca import Pca
from sclong.benchmark.sclong import ScLong
from sclong.cells.normalize import log1p_cp10k
from sclong.checkpoint.folder import LoadedModel, initialise, load_checkpoint
from sclong.config.sections import Architecture
from sclong.embed.embedding import POOLINGS, Pooling, embed, embed_adata
from sclong.errors import CheckpointError, ConfigError, InputDataError
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder


@pytest.fixture(scope="module", params=["per_head", "per_cell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    _, vocabulary, graph = toy_corpus(folder)
    initialise(folder / "toy", Architecture(**{**ARCH.model_dump(), "stabilizer": request.param}), vocabulary, graph, 0)
    return folder / "toy"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_checkpoint(folder)


def cells(n_cells: int = 23, seed: int = 5) -> anndata.AnnData:
    """Vocabulary genes 30..1 in descending order, and two genes that no vocabulary has."""
    genes = np.arange(30, 0, -1)
    counts = np.concatenate([toy_counts(n_cells, seed)[:, genes], np.ones((n_cells, 2))], axis=1)
    names = [f"ENSG9{i:010d}" for i in genes] + ["ENSG99999999998", "ENSG99999999999"]
    adata = anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=names),
    )
    adata.uns["value_kind"] = "counts"
    return adata


def by_hand(adata: anndata.AnnData, loaded: LoadedModel) -> tuple[np.ndarray, np.ndarray]:
    """Model input (cells, N) and contextual vectors (cells, N, D), one cell at a time, dense."""
    values = np.zeros((adata.n_obs, N_GENES + 1))
    values[:, np.arange(30, 0, -1)] = adata.X[:, :30].toarray()
    values = np.log1p(1e4 * values / values.sum(1, keepdims=True))
    with torch.inference_mode():
        vectors = [loaded.model(torch.tensor(v[None], dtype=torch.float32)).gene_embeddings_BND[0] for v in values]
    return values, torch.stack(vectors).double().numpy()


def test_equals_the_formula_with_everything_held(loaded: LoadedModel) -> None:
    adata = cells()
    values, vectors = by_hand(adata, loaded)
    result = embed_adata(adata, loaded, batch_size=4)
    detected = values[:, :, None] != 0
    expected = (vectors * detected).sum(1) / detected.sum(1)
    np.testing.assert_allclose(result.cell_embedding, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.gene_embedding[:30], vectors.mean(0)[np.arange(30, 0, -1)], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        embed_adata(adata, loaded, pooling="mean").cell_embedding, vectors[:, :-1].mean(1), rtol=1e-4, atol=1e-5
    )
    assert result.cell_embedding.dtype == result.gene_embedding.dtype == np.float32
    assert np.ptp(result.cell_embedding, axis=0).max() > 1e-4, "cells differ, or the test has no power"


def test_genes_that_the_vocabulary_lacks(loaded: LoadedModel) -> None:
    result = embed_adata(cells(), loaded)
    assert result.gene_mapped.tolist() == [True] * 30 + [False] * 2
    np.testing.assert_allclose(result.gene_embedding[30:], [result.gene_embedding[:30].mean(0)] * 2, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_batch_size_changes_no_bit(loaded: LoadedModel, batch_size: int, pooling: Pooling) -> None:
    adata = cells()
    adata.X[3] *= 40  # a cell with much more counts must not change its neighbours
    one, other = (embed_adata(adata, loaded, batch_size=size, pooling=pooling) for size in (7, batch_size))
    assert np.array_equal(one.cell_embedding, other.cell_embedding)
    assert np.array_equal(one.gene_embedding, other.gene_embedding)


def test_order_of_cells_changes_no_bit_of_a_cell(loaded: LoadedModel) -> None:
    adata, order = cells(), np.random.default_rng(0).permutation(23)
    one, other = embed_adata(adata, loaded, batch_size=4), embed_adata(adata[order].copy(), loaded, batch_size=4)
    assert np.array_equal(one.cell_embedding[order], other.cell_embedding)
    np.testing.assert_allclose(one.gene_embedding, other.gene_embedding, rtol=0, atol=1e-6)  # sums in another order


def test_size_of_blocks_changes_no_bit(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    one = embed_adata(cells(), loaded)
    monkeypatch.setattr("sclong.cells.matrix.BLOCK_ENTRIES", 70)
    other = embed_adata(cells(), loaded)
    assert np.array_equal(one.cell_embedding, other.cell_embedding)
    assert np.array_equal(one.gene_embedding, other.gene_embedding)


def test_global_depends_on_the_batch_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = load_checkpoint(folder, stabilizer="global")
    for name, weight in loaded.model.named_parameters():
        if "to_k" in name:
            weight.data *= 4  # larger keys than those of an untrained model: its maxima are all alike
    adata = cells()
    with caplog.at_level("WARNING", logger="sclong"):
        one, other = (embed_adata(adata, loaded, batch_size=size) for size in (1, 4))
    assert np.abs(one.cell_embedding - other.cell_embedding).max() > 1e-4
    assert "depend on the batch size" in caplog.text
    assert np.array_equal(  # batches are those of the order of cells, however the file is cut into blocks
        other.cell_embedding[:4], embed_adata(adata[:4].copy(), loaded, batch_size=4).cell_embedding
    )


def test_reconstruction_profile_is_the_sum_of_all_channels(loaded: LoadedModel) -> None:
    adata = cells(5)
    values, vectors = by_hand(adata, loaded)
    output = loaded(values)
    expected = vectors.sum(-1) + output.reconstruction_BN.double().numpy()
    result = embed_adata(adata, loaded, pooling="reconstruction_profile")
    assert result.cell_embedding.shape == (5, 32) and result.cell_embedding.dtype == np.float32
    np.testing.assert_allclose(result.cell_embedding[:, :30], expected[:, np.arange(30, 0, -1)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result.cell_embedding[:, 30], expected.mean(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(result.cell_embedding[:, 30], result.cell_embedding[:, 31])


def test_counts_in_a_layer_or_in_raw(loaded: LoadedModel) -> None:
    adata = cells()
    expected = embed_adata(adata, loaded)
    adata.raw = adata
    adata.layers["counts"] = adata.X.copy()
    adata = adata[:, ::-1].copy()
    adata.X = adata.X.log1p()
    with pytest.raises(InputDataError, match="not integers"):
        embed_adata(adata, loaded, layer="X")
    assert embed_adata(adata, loaded).facts["values_from"] == "raw"
    for layer in ("raw", "counts"):
        result = embed_adata(adata, loaded, layer=layer)
        np.testing.assert_allclose(result.cell_embedding, expected.cell_embedding, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.gene_embedding, expected.gene_embedding[::-1], rtol=0, atol=1e-6)
        assert result.facts["values_from"] == {"counts": "layers['counts']"}.get(layer, layer)
    with pytest.raises(InputDataError, match="counts"):
        embed_adata(adata, loaded, layer="count")


def test_log_normalised_values_are_refused_as_such(loaded: LoadedModel) -> None:
    adata = cells()
    adata.X = log1p_cp10k(adata.X[:, :])
    with pytest.raises(InputDataError, match="looks log-normalised already"):
        embed_adata(adata[:, :30].copy(), loaded)
    with pytest.raises(InputDataError, match="reconstruction_profile"):
        embed_adata(cells(), loaded, pooling="reconstruct")  # type: ignore[arg-type]
    with pytest.raises(InputDataError, match="batch size 0"):
        embed_adata(cells(), loaded, batch_size=0)


# ---------------------------------------------------------------- the model, called


def test_a_loaded_model_can_be_called(loaded: LoadedModel) -> None:
    values = np.zeros((3, N_GENES + 1))
    values[:, 5:9] = [[1, 2, 3, 4], [4, 3, 2, 1], [0, -10, 1, 0]]
    output = loaded(values)
    assert output.reconstruction_BN.shape == (3, N_GENES + 1)
    assert output.gene_embeddings_BND.shape == output.merged_encodings_BND.shape == (3, N_GENES + 1, ARCH.base_dim)
    assert not output.gene_embeddings_BND.requires_grad
    direct = loaded.model(torch.tensor(values, dtype=torch.float32))
    np.testing.assert_allclose(output.reconstruction_BN, direct.reconstruction_BN.detach(), atol=1e-6)


def test_values_without_pad_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InputDataError, match=r"shape \(3, 40\)(.|\n)*\(cells, 41\).*PAD"):
        loaded(np.zeros((3, N_GENES)))
    with pytest.raises(InputDataError, match="last column is not 0"):
        loaded(np.ones((3, N_GENES + 1)))


def test_options_of_loading(folder: Path) -> None:
    half = load_checkpoint(folder, dtype="bfloat16")
    one, other = embed_adata(cells(), half), embed_adata(cells(), load_checkpoint(folder))
    assert one.facts["precision"] == "bfloat16" and other.facts["precision"] == "float32"
    assert one.cell_embedding.dtype == np.float32 and np.isfinite(one.cell_embedding).all()
    difference = np.abs(one.cell_embedding - other.cell_embedding).max()
    assert 0 < difference < 0.1 * np.abs(other.cell_embedding).max()
    assert all(p.dtype == torch.float32 for p in half.model.parameters())
    with pytest.raises(ConfigError, match="per_hed"):
        load_checkpoint(folder, stabilizer="per_hed")


def test_the_weights_are_mapped_and_nothing_is_left_without_memory(folder: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(folder)
    assert not any(t.is_meta for t in (*loaded.model.parameters(), *loaded.model.buffers()))
    assert torch.equal(
        loaded.model.go_conv.edges,
        DualEncoder(  # made from the graph, not stored with the weights
            loaded.arch, N_GENES, GoGraph.read(folder / "go_graph.npz")
        ).go_conv.edges,
    )
    if Path("/proc/self/maps").is_file():
        assert str((folder / "model.safetensors").resolve()) in Path("/proc/self/maps").read_text()
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        loaded.model.exp_to_out.weight += 1
    assert (folder / "model.safetensors").read_bytes() == before, "a change of the model never reaches the file"


def test_twice_is_bitwise_the_same_whatever_mode_the_model_is_in(folder: Path, loaded: LoadedModel) -> None:
    one = embed_adata(cells(), loaded)
    again = load_checkpoint(folder)
    again.model.train()
    torch.manual_seed(7)
    assert np.array_equal(one.cell_embedding, embed_adata(cells(), again).cell_embedding)


def test_backed_and_dense_files_give_the_same(loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    expected = embed_adata(adata, loaded, batch_size=4)
    adata.write_h5ad(tmp_path / "sparse.h5ad")
    dense = adata.copy()
    dense.X = dense.X.toarray()
    backed = anndata.read_h5ad(tmp_path / "sparse.h5ad", backed="r")
    for other in (dense, backed):
        result = embed_adata(other, loaded, batch_size=4)
        assert np.array_equal(result.cell_embedding, expected.cell_embedding)
        assert np.array_equal(result.gene_embedding, expected.gene_embedding)
    backed.file.close()


def test_normalised_values_are_taken_as_they_are(loaded: LoadedModel) -> None:
    adata = cells()
    adata = adata[:, :30].copy()
    normalised = adata.copy()
    normalised.X = (sparse.diags(1e4 / np.asarray(adata.X.sum(1)).ravel()) @ adata.X).log1p().tocsr().astype(np.float32)
    normalised.uns["value_kind"] = "log1p_cp10k"
    np.testing.assert_allclose(
        embed_adata(normalised, loaded).cell_embedding, embed_adata(adata, loaded).cell_embedding, atol=1e-5
    )


def test_cell_without_genes_of_the_vocabulary_is_named(loaded: LoadedModel) -> None:
    adata = cells()
    counts = adata.X.toarray()
    counts[4, :30] = 0
    adata.X = sparse.csr_matrix(counts)
    with pytest.raises(InputDataError, match=r"1 of 23 cells.*'cell4'"):
        embed_adata(adata, loaded)


def test_values_that_are_no_counts_are_found_before_the_first_forward_pass(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = cells()
    adata.X.data[-3] = 0.5
    monkeypatch.setattr(loaded.model, "forward", None)
    with pytest.raises(InputDataError, match="not integers"):
        embed_adata(adata, loaded, batch_size=1)


def test_no_cells_is_an_error(loaded: LoadedModel) -> None:
    with pytest.raises(InputDataError, match="without cells"):
        embed_adata(cells()[:0].copy(), loaded)


def test_embed_sets_what_it_says_and_survives_a_file(loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    assert embed(adata, loaded, "X_toy", batch_size=4, pooling="mean") is None
    adata.write_h5ad(tmp_path / "out.h5ad")
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert back.obsm["X_toy"].shape == (23, ARCH.base_dim) and back.varm["X_toy"].shape == (32, ARCH.base_dim)
    assert back.var["X_toy_mapped"].sum() == 30
    assert back.uns["X_toy"]["checkpoint"] == loaded.hash and back.uns["X_toy"]["pooling"] == "mean"
    assert np.array_equal(back.obsm["X_toy"], embed_adata(cells(), loaded, batch_size=4, pooling="mean").cell_embedding)


def test_sclong_is_an_embedder(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    result = ScLong(pooling="mean").embed(adata, checkpoint=folder, seed=3, batch_size=4)
    expected = embed_adata(adata, loaded, batch_size=4, pooling="mean")
    assert np.array_equal(result.cell_embedding, expected.cell_embedding)
    assert result.facts["checkpoint"] == loaded.hash and result.facts["alignment"]
    write_features(tmp_path / "features", "sclong", result, adata)
    assert np.array_equal(read_features(tmp_path / "features").gene_embedding, expected.gene_embedding)
    with pytest.raises(CheckpointError):
        ScLong().embed(adata, checkpoint=None, seed=0, batch_size=4)


# ---------------------------------------------------------------- PCA


def test_pca_is_the_singular_value_decomposition() -> None:
    adata = cells(60)
    result = Pca(n_components=5).embed(adata, checkpoint=None, seed=0, batch_size=1)
    counts = adata.X.toarray().astype(np.float64)
    values = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    u, s, vt = np.linalg.svd(values - values.mean(0), full_matrices=False)
    sign = np.sign((result.cell_embedding * u[:, :5]).sum(0))
    np.testing.assert_allclose(result.cell_embedding, u[:, :5] * s[:5] * sign, atol=1e-3)
    np.testing.assert_allclose(result.gene_embedding, vt[:5].T * s[:5] * sign, atol=1e-3)
    assert result.gene_mapped.all()


def test_pca_finds_the_two_types_and_is_limited_by_the_data() -> None:
    few = cells(6)
    result = Pca(n_components=50).embed(few, checkpoint=None, seed=0, batch_size=1)
    assert result.cell_embedding.shape == (6, 5) and result.gene_embedding.shape == (32, 5)
    again = Pca(n_components=50).embed(few, checkpoint=None, seed=0, batch_size=1)
    assert np.array_equal(result.cell_embedding, again.cell_embedding)
    with pytest.raises(InputDataError, match="1 cells"):
        Pca().embed(cells(1), checkpoint=None, seed=0, batch_size=1)


def test_pca_of_highly_variable_genes_marks_the_others() -> None:
    adata = cells(60)
    result = Pca(n_components=4, highly_variable_genes=10).embed(adata, checkpoint=None, seed=0, batch_size=1)
    assert result.gene_mapped.sum() == 10 and result.facts["genes"] == 10
    mean = result.gene_embedding[result.gene_mapped].mean(0)
    np.testing.assert_allclose(result.gene_embedding[~result.gene_mapped], np.tile(mean, (22, 1)), rtol=1e-5, atol=1e-6)
