from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

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
