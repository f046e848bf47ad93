"""An imported release computes what the authors' code computed from it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sclong.checkpoint.authors import PUBLISHED_1B, read_hyperparameters
from sclong.checkpoint.folder import LoadedModel, load_checkpoint
from sclong.cli import main
from sclong.config.load import load_architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder

HERE = Path(__file__).parent
IO = np.load(HERE / "tiny_a_io.npz")
FILES = {"weights": "model.pth", "hyperparameters": "hyper.pkl", "genes": "genes.txt"}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    out = {}
    given = [text for key, name in FILES.items() for text in (f"--{key}", str(HERE / "tiny_a" / name))]
    for stabilizer in ("per_cell", "global"):
        folder = tmp_path_factory.mktemp("import") / stabilizer
        options = [] if stabilizer == "per_cell" else ["--stabilizer", stabilizer]
        assert main(["import-checkpoint", *given, "--output", str(folder), *options]) == 0
        out[stabilizer] = load_checkpoint(folder)
    return out


def difference(found: torch.Tensor, name: str) -> float:
    return float(np.abs(found.detach().numpy().squeeze() - IO[name].squeeze()).max())


@pytest.mark.parametrize("kind", ["x", "masked"])
def test_single_cells(imported: dict[str, LoadedModel], kind: str) -> None:
    model = imported["per_cell"].model
    values = torch.from_numpy(IO["x" if kind == "x" else "x_masked"])
    for cells in (values, None):  # one batch, and each cell alone: per_cell makes no difference between them
        outs = [model(values)] if cells is not None else [model(values[i : i + 1]) for i in range(len(values))]
        for field, name in [
            ("reconstruction_BN", "out"),
            ("merged_encodings_BND", "merged_encodings"),
            ("gene_embeddings_BND", "merged_decodings"),
        ]:
            together = torch.cat([getattr(out, field) for out in outs])
            assert difference(together, f"{kind}_single_{name}") <= 1e-5, name


@pytest.mark.parametrize("kind", ["x", "masked"])
def test_a_batch(imported: dict[str, LoadedModel], kind: str) -> None:
    out = imported["global"].model(torch.from_numpy(IO["x" if kind == "x" else "x_masked"]))
    assert difference(out.reconstruction_BN, f"{kind}_batch_out") <= 1e-5
    assert difference(out.gene_embeddings_BND, f"{kind}_batch_merged_decodings") <= 1e-5


def test_weights_random_features_and_graph_are_the_released_ones(imported: dict[str, LoadedModel]) -> None:
    loaded = imported["per_cell"]
    released = torch.load(HERE / "tiny_a/model.pth", weights_only=True)["model_state_dict"]
    state = loaded.model.state_dict()
    assert state.keys() == released.keys()
    assert released["pos_emb.emb.weight"].dtype == torch.float64
    assert all(torch.equal(state[name], released[name].to(state[name].dtype)) for name in state)
    assert any(name.endswith("projection_matrix") for name in state)
    assert difference(loaded.model.go_conv(), "go_branch") <= 1e-5
    assert loaded.vocabulary.ensembl_ids == (HERE / "tiny_a/genes.txt").read_text().split()
    assert (loaded.arch.name, loaded.arch.stabilizer, loaded.arch.tie_rule) == ("imported", "per_cell", "gene_order")


def test_the_published_hyperparameters_are_the_shipped_architecture(root: Path, tmp_path: Path) -> None:
    with (tmp_path / "1b.pkl").open("wb") as file:
        raw = {
            **PUBLISHED_1B,
            "mask_token_thres": -1,
            "g2v_position_emb": True,
            "G_go": torch.tensor([[0, 27873], [27873, 0]]),
            "G_go_weight": torch.tensor([0.5, 1.0]),
            "go_num_layers": 1,
            "device": "cuda",
            "go_use_gene2vec": True,
            "gene2vec_file": "/nowhere/gene2vec.npy",
        }
        pickle.dump(raw, file, protocol=pickle.HIGHEST_PROTOCOL)
    assert len(raw) == 21
    hyper = read_hyperparameters(tmp_path / "1b.pkl")
    arch = hyper.architecture("per_cell", "gene_order")
    shipped = load_architecture("1b", root / "config")
    assert arch == shipped.model_copy(update={"precision": "float32"})  # how it is computed, not what
    empty = GoGraph(np.zeros(27876, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with torch.device("meta"):
        model = DualEncoder(arch, hyper.n_genes, empty)
    assert len(model.state_dict()) == 670
    assert len(list(model.parameters())) == 621
    assert sum(p.numel() for p in model.parameters()) == 1_006_086_461
    assert sum(t.numel() for t in model.state_dict().values()) - 1_006_086_461 == 783_107
