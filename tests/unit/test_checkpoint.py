from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from sclong.checkpoint import shipped
from sclong.checkpoint.compact import compact
from sclong.checkpoint.folder import FILES, initialise, load_checkpoint
from sclong.config.load import load_architecture
from sclong.errors import CheckpointError, DeviceError, VocabularyMismatchError
from sclong.genes.go_graph import GoGraph
from sclong.genes.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoint")
    table = pd.DataFrame({"index": range(20), "ensembl_id": [f"ENSG{i:011d}" for i in range(20)]})
    table = table.assign(symbol=[f"G{i}" for i in range(20)], biotype="protein_coding", aliases="", entrez_id="")
    vocabulary = Vocabulary(table, {})
    indptr = np.append(np.arange(21), 20)
    graph = GoGraph(indptr, np.arange(20), np.ones(20, np.float32), {"vocabulary_hash": vocabulary.hash})
    graph.write(out / "go_graph.npz")
    arch = load_architecture("tiny", Path(__file__).resolve().parents[2] / "config")
    initialise(out / "model", arch, vocabulary, out / "go_graph.npz", seed=0)
    return out / "model"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def test_round_trip(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert not loaded.model.training and len(loaded.hash) == 16
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(t, saved[n]) for n, t in loaded.model.state_dict().items())
    assert loaded.config["normalization"] == "log1p_cp10k"
    assert "20 genes" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


def test_a_truncated_file_is_an_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="undamaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "go_graph.npz"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_file_is_named(folder: Path, name: str, share: float) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": {"name": "half"}}, "top_genes"),
        ({"architecture": None}, "config.json"),
        ({"normalization": "zscore"}, "'zscore'"),
    ],
)
def test_a_wrong_configuration_is_an_error(folder: Path, change: dict, said: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder)


def test_the_same_seed_gives_the_same_weights(original: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(original)
    again = [tmp_path / f"seed{seed}" for seed in (0, 1)]
    for seed, out in enumerate(again):
        initialise(out, loaded.arch, loaded.vocabulary, original / "go_graph.npz", seed=seed)
    same, other = (load_checkpoint(out).hash for out in again)
    assert same == loaded.hash != other


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    state["stranger"] = state.pop("mask_emb.weight")
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"mask_emb\.weight.*stranger"):
        load_checkpoint(folder)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    state["mask_emb.weight"] = torch.zeros(2, 3)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"'mask_emb\.weight' has shape \(2, 3\)"):
        load_checkpoint(folder)


def test_an_edited_vocabulary_and_a_foreign_one_are_errors(folder: Path) -> None:
    path = folder / "vocabulary.tsv"
    text = path.read_text()
    path.write_text(text.replace("ENSG00000000003", "ENSG00000099999"))
    with pytest.raises(VocabularyMismatchError):
        load_checkpoint(folder)
    path.write_text(text)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocabulary_hash": "0" * 16}))
    with pytest.raises(VocabularyMismatchError, match="belongs to vocabulary"):
        load_checkpoint(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: the error cannot happen")
def test_a_gpu_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(DeviceError, match="use device cpu"):
        load_checkpoint(folder, device="cuda")


def test_a_compact_checkpoint_has_float16_weights_and_nearly_the_same_outputs(folder: Path, tmp_path: Path) -> None:
    compact(folder, tmp_path / "small")
    assert {t.dtype for t in load_file(tmp_path / "small" / "model.safetensors").values() if t.is_floating_point()} == {
        torch.float16
    }
    whole, small = load_checkpoint(folder), load_checkpoint(tmp_path / "small")
    assert {p.dtype for p in small.model.parameters()} == {torch.float32}
    values = torch.cat([torch.rand(3, 20, generator=torch.Generator().manual_seed(1)), torch.zeros(3, 1)], 1)
    expected, found = whole(values).gene_embeddings_BND, small(values).gene_embeddings_BND
    assert 0 < (found - expected).norm() / expected.norm() < 2e-3
    assert small.config["stored"] == {"dtype": "float16", "of": whole.hash}


def test_weights_that_do_not_fit_float16_are_refused(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({**state, "exp_to_out.bias": state["exp_to_out.bias"] + 1e5}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"exp_to_out\.bias"):
        compact(folder, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_checkpoint_that_comes_with_the_package_has_a_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "PLACES", (tmp_path / "nowhere", folder.parent))
    assert shipped.shipped() == {"model": folder}
    assert load_checkpoint("model").hash == load_checkpoint(folder).hash
    with pytest.raises(CheckpointError, match="or one of 'model'"):
        load_checkpoint("modle")
