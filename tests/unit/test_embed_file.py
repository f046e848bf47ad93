"""From file to file: layouts, what stays in the copy, contextual stores, and what is left when something fails."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse
from toy_training import ARCH, N_GENES, toy_corpus, toy_counts

from sclong.cells import contextual, embedded_copy, matrix
from sclong.cells.matrix import spans
from sclong.cells.reader import open_reader
from sclong.checkpoint.folder import LoadedModel, initialise, load_checkpoint
from sclong.cli import main
from sclong.embed.embedding import POOLINGS, embed, embed_adata, embed_file
from sclong.errors import InputDataError

N_CELLS = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    _, vocabulary, graph = toy_corpus(folder)
    initialise(folder / "toy", ARCH, vocabulary, graph, 0)
    return folder / "toy"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_checkpoint(folder)


def cells() -> anndata.AnnData:
    """Counts of 30 known genes and 2 unknown ones, and something in every part of an AnnData."""
    counts = np.concatenate([toy_counts(N_CELLS, 5)[:, 30:0:-1], np.ones((N_CELLS, 2))], axis=1)
    names = [f"ENSG9{i:010d}" for i in range(30, 0, -1)] + ["ENSG99999999998", "ENSG99999999999"]
    adata = anndata.AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(
            {"type": pd.Categorical(["a", "b"][i % 2] for i in range(N_CELLS))},
            index=[f"cell{i}" for i in range(N_CELLS)],
        ),
        var=pd.DataFrame({"length": np.arange(32)}, index=names),
        obsm={"X_pca": np.ones((N_CELLS, 2))},
        uns={"note": "kept"},
    )
    adata.layers["twice"] = adata.X * 2
    return adata


@pytest.fixture
def source(tmp_path: Path) -> Path:
    cells().write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


LAYOUTS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": lambda x: x.toarray()}


@pytest.mark.parametrize("entries", [1, 100, 10**6])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_are_the_matrix(
    source: Path, layout: str, entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(matrix, "BLOCK_ENTRIES_BY_COLUMN", 3 * entries)
    adata = cells()
    expected = adata.X.toarray()
    adata.X = LAYOUTS[layout](adata.X)
    adata.write_h5ad(tmp_path / "other.h5ad")
    with open_reader(tmp_path / "other.h5ad") as file:
        for multiple in (1, 4):
            blocks = list(file.blocks(multiple))
            assert all(b.shape[0] % multiple == 0 and b.dtype == np.float32 for b in blocks[:-1])
            assert np.array_equal(sparse.vstack(blocks).toarray(), expected)
            assert (len(blocks) > 1) == (entries <= 100)
        assert file.cell_names(np.array([1, 22])) == ["cell1", "cell22"]


def test_spans_hold_as_many_entries_as_fit() -> None:
    indptr = np.array([0, 3, 3, 10, 11, 12, 13, 14])
    assert list(spans(indptr, 5, 1)) == [(0, 2), (2, 3), (3, 7)]
    assert list(spans(indptr, 5, 2)) == [(0, 2), (2, 4), (4, 7)]
    assert list(spans(indptr, 100, 4)) == [(0, 7)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_gets_what_embed_sets(loaded: LoadedModel, layout: str, pooling, tmp_path: Path) -> None:
    adata = cells()
    adata.X = LAYOUTS[layout](adata.X)
    adata.write_h5ad(tmp_path / "in.h5ad", compression="gzip")
    embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out.h5ad", pooling=pooling, batch_size=3)
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    embed(adata, loaded, pooling=pooling, batch_size=3)
    assert np.array_equal(back.obsm["X_sclong"], adata.obsm["X_sclong"])
    assert back.obsm["X_sclong"].dtype == np.float32
    assert np.array_equal(back.varm["X_sclong"], adata.varm["X_sclong"])
    assert back.var["X_sclong_mapped"].tolist() == [True] * 30 + [False] * 2
    assert dict(back.uns["X_sclong"]) == adata.uns["X_sclong"]
    assert back.uns["X_sclong"]["checkpoint"] == loaded.hash


def test_the_rest_of_the_file_stays_and_a_second_run_replaces(
    loaded: LoadedModel, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    embed_file(source, loaded, out, pooling="mean")
    embed_file(out, loaded, tmp_path / "again.h5ad")
    for path in (out, tmp_path / "again.h5ad"):
        adata, back = cells(), anndata.read_h5ad(path)
        assert (back.X != adata.X).nnz == 0 and (back.layers["twice"] != adata.layers["twice"]).nnz == 0
        pd.testing.assert_frame_equal(back.obs, adata.obs)
        assert back.var.columns.tolist() == ["length", "X_sclong_mapped"] and back.uns["note"] == "kept"
        assert set(back.obsm) == {"X_pca", "X_sclong"}
    assert back.uns["X_sclong"]["pooling"] == "nonzero_mean"
    assert np.array_equal(back.obsm["X_sclong"], embed_adata(cells(), loaded).cell_embedding)
    with h5py.File(source) as file:
        assert "X_sclong" not in file["obsm"], "the input stays as it is"
    assert out.stat().st_size < source.stat().st_size + 100_000, "space that was reserved and not needed is given back"


def test_gene_names_are_found_in_a_column(loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    adata.var["gene_ids"] = adata.var_names
    adata.var_names = [f"NAME{i}" for i in range(32)]
    adata.write_h5ad(tmp_path / "in.h5ad")
    embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out.h5ad")
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert np.array_equal(back.obsm["X_sclong"], embed_adata(cells(), loaded).cell_embedding)
    assert back.uns["X_sclong"]["genes_from"] == "gene_ids"
    assert back.var_names[0] == "NAME0" and back.var.columns.tolist() == ["length", "gene_ids", "X_sclong_mapped"]
    with pytest.raises(InputDataError, match="gene_column: gene_ids"):
        embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out2.h5ad", gene_column="gene_id")


def test_counts_are_found_in_raw_and_genes_are_those_of_var(loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    adata.raw = adata
    adata = adata[:, 10:].copy()
    adata.X = adata.X.log1p()
    del adata.layers["twice"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out.h5ad")
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = embed_adata(cells(), loaded)
    assert np.array_equal(back.obsm["X_sclong"], expected.cell_embedding)
    assert np.array_equal(back.varm["X_sclong"][:20], expected.gene_embedding[10:30])
    assert back.uns["X_sclong"]["values_from"] == "raw"
    with pytest.raises(InputDataError, match="not integers"):
        embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out2.h5ad", layer="X")
    with pytest.raises(InputDataError, match=r"'row'(.|\n)*write layer: raw"):
        embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out2.h5ad", layer="row")
    assert left(tmp_path) == ["in.h5ad", "out.h5ad"]


# ---------------------------------------------------------------- contextual embeddings


@pytest.mark.parametrize("batch_size", [1, 8])
def test_contextual_embeddings(
    loaded: LoadedModel, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(contextual, "CHUNK_BYTES", 5 * 4 * N_GENES * ARCH.base_dim)
    monkeypatch.setattr(contextual, "NAMES_PER_CHUNK", 10)
    embed_file(source, loaded, tmp_path / "out.h5ad", contextual=tmp_path / "out.zarr", batch_size=batch_size)
    store = zarr.open_group(tmp_path / "out.zarr", mode="r")
    vectors = store["embedding"]
    assert vectors.shape == (N_CELLS, N_GENES, ARCH.base_dim) and vectors.dtype == np.float32
    assert vectors.chunks == (5, N_GENES, ARCH.base_dim)
    assert vectors.metadata.dimension_names == ("cell", "gene", "dimension")
    assert store["cell"][:].tolist() == [f"cell{i}" for i in range(N_CELLS)]
    assert store["gene"][:].tolist() == loaded.vocabulary.ensembl_ids and store["symbol"][3] == "TOY3"
    assert store.attrs["sclong"]["checkpoint"] == loaded.hash
    back = anndata.read_h5ad(tmp_path / "out.h5ad")
    mean = vectors[:].astype(np.float64).mean(0)
    np.testing.assert_allclose(back.varm["X_sclong"][:30], mean[30:0:-1], atol=1e-6)
    values = np.zeros((1, N_GENES + 1))
    counts = cells().X[20, :30].toarray()
    values[:, 30:0:-1] = np.log1p(1e4 * counts / counts.sum())
    np.testing.assert_allclose(vectors[20], loaded(values).gene_embeddings_BND[0, :-1], atol=1e-5)


def test_contextual_embeddings_of_some_genes(loaded: LoadedModel, source: Path, tmp_path: Path) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_text("TOY7\nENSG90000000002\n\nTOY7\nENSG90000000030.5\n")
    whole, some = tmp_path / "whole.zarr", tmp_path / "some.zarr"
    embed_file(source, loaded, tmp_path / "out.h5ad", contextual=whole)
    embed_file(source, loaded, tmp_path / "out.h5ad", contextual=some, genes=listed)
    store = zarr.open_group(some, mode="r")
    assert store["symbol"][:].tolist() == ["TOY7", "TOY2", "TOY30"]
    assert np.array_equal(store["embedding"][:], zarr.open_group(whole, mode="r")["embedding"][:][:, [7, 2, 30]])
    listed.write_text("TOY7\nNOGENE\n")
    with pytest.raises(InputDataError, match="'NOGENE'"):
        embed_file(source, loaded, tmp_path / "out.h5ad", contextual=some, genes=listed)


# ---------------------------------------------------------------- when something fails


@pytest.fixture
def outputs(loaded: LoadedModel, source: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Outputs of an earlier run."""
    out, store = tmp_path / "out.h5ad", tmp_path / "out.zarr"
    embed_file(source, loaded, out, contextual=store, pooling="mean")
    return out, store


def state(out: Path, store: Path) -> tuple[bytes, list[bytes]]:
    return out.read_bytes(), [p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_what_was_there(
    loaded: LoadedModel, source: Path, outputs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, kind
) -> None:
    before, names = state(*outputs), left(source.parent)
    calls: list[int] = []

    def fail(self: object, vectors: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 15:
            raise kind

    monkeypatch.setattr(contextual.ContextualStore, "write", fail)
    with pytest.raises(kind):
        embed_file(source, loaded, outputs[0], contextual=outputs[1])
    assert state(*outputs) == before and left(source.parent) == names


@pytest.mark.parametrize("where", ["h5ad", "zarr", "flush"])
def test_a_full_disk_leaves_what_was_there(
    loaded: LoadedModel, source: Path, outputs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before, names = state(*outputs), left(source.parent)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    target = {
        "h5ad": (embedded_copy.EmbeddedCopy, "add"),
        "zarr": (contextual.ContextualStore, "write"),
        "flush": (contextual.ContextualStore, "flush"),
    }[where]
    monkeypatch.setattr(*target, full)
    with pytest.raises(InputDataError, match=r"No space left on device(.|\n)*free space"):
        embed_file(source, loaded, outputs[0], contextual=outputs[1])
    assert left(source.parent) == names
    assert state(*outputs) == before


@contextmanager
def files_no_longer_than(n_bytes: int) -> Iterator[None]:
    """Make the system refuse longer files, as a full disk does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be reserved on this system")
@pytest.mark.parametrize("more", [-1000, 100, 1200, 10**6])
def test_a_file_system_that_refuses(loaded: LoadedModel, source: Path, tmp_path: Path, more: int) -> None:
    names = left(tmp_path)
    with files_no_longer_than(source.stat().st_size + more), pytest.raises(InputDataError, match="cannot be written"):
        embed_file(source, loaded, tmp_path / "out.h5ad")
    assert left(tmp_path) == names


def test_too_little_space_is_said_before_the_first_cell(
    loaded: LoadedModel, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    monkeypatch.setattr(loaded.model, "forward", None)
    with pytest.raises(InputDataError, match=r"out\.h5ad takes about .* GB are free"):
        embed_file(source, loaded, tmp_path / "out.h5ad")
    with pytest.raises(InputDataError, match=r"out\.zarr takes about .* GB are free"):
        embed_file(source, loaded, tmp_path / "out.h5ad", contextual=tmp_path / "out.zarr")
    assert left(tmp_path) == ["in.h5ad"]


def test_outputs_that_cannot_be(loaded: LoadedModel, source: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    (tmp_path / "link.h5ad").symlink_to(source)
    names = left(tmp_path)
    for output in (source, tmp_path / "precious" / ".." / "in.h5ad", tmp_path / "link.h5ad"):
        with pytest.raises(InputDataError, match="named twice"):
            embed_file(source, loaded, output)
    with pytest.raises(InputDataError, match="named twice"):
        embed_file(source, loaded, tmp_path / "out", contextual=tmp_path / "out")
    with pytest.raises(InputDataError, match="mkdir -p"):
        embed_file(source, loaded, tmp_path / "missing" / "out.h5ad")
    with pytest.raises(InputDataError, match="is no store"):
        embed_file(source, loaded, tmp_path / "out.h5ad", contextual=tmp_path / "precious")
    assert left(tmp_path) == names and (tmp_path / "precious" / "thesis.txt").is_file()


def test_inputs_that_cannot_be_read(loaded: LoadedModel, source: Path, tmp_path: Path) -> None:
    cut, foreign, empty = tmp_path / "cut.h5ad", tmp_path / "foreign.h5ad", tmp_path / "empty.h5ad"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with h5py.File(foreign, "w") as file:
        file["matrix"] = [1]
    cells()[:0].copy().write_h5ad(empty)
    names = left(tmp_path)
    for path, said in (
        (cut, "cannot be read"),
        (foreign, "without obs and var"),
        (empty, "0 cells"),
        (tmp_path / "none.h5ad", "no such file"),
        (Path(__file__), "not an HDF5 file"),
    ):
        with pytest.raises(InputDataError, match=said):
            embed_file(path, loaded, tmp_path / "out.h5ad")
    assert left(tmp_path) == names


def test_a_cell_without_genes_is_named(loaded: LoadedModel, tmp_path: Path) -> None:
    adata = cells()
    counts = adata.X.toarray()
    counts[4, :30] = 0
    adata.X = sparse.csr_matrix(counts)
    del adata.layers["twice"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(InputDataError, match=r"1 of 23 cells.*'cell4'"):
        embed_file(tmp_path / "in.h5ad", loaded, tmp_path / "out.h5ad")
    assert left(tmp_path) == ["in.h5ad"]


def test_the_command(folder: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, store = tmp_path / "out.h5ad", tmp_path / "out.zarr"
    line = ["embed", str(source), "--checkpoint", str(folder), "--output", str(out)]
    more = [
        "--contextual",
        str(store),
        "--stabilizer",
        "global",
        "--batch-size",
        "4",
        "--dtype",
        "bfloat16",
        "--pooling",
        "reconstruction_profile",
        "--key-added",
        "X_toy",
    ]
    assert main([*line, *more]) == 0
    facts = anndata.read_h5ad(out).uns["X_toy"]
    assert (facts["stabilizer"], facts["precision"], facts["batch_size"]) == ("global", "bfloat16", 4)
    assert "depend on the batch size" in capsys.readouterr().err
    assert zarr.open_group(store, mode="r")["embedding"].shape == (N_CELLS, N_GENES, ARCH.base_dim)
    assert main([*line[:-1], str(source)]) == 1
    assert "named twice" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line, "--pooling", "median"])
    assert "reconstruction_profile" in capsys.readouterr().err
