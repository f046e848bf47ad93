"""The model equals the published one: a tiny checkpoint with outputs and gradients that the authors' code computed.

Weights are random numbers; names, shapes and arithmetic are those of the release.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sclong.config.sections import Architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder, Output, top_positions

HERE = Path(__file__).parent
IO = np.load(HERE / "tiny_a_io.npz")


def tiny_a(stabilizer: str, kernels: str = "fast") -> DualEncoder:
    shape = json.loads((HERE / "tiny_a_architecture.json").read_text())
    arch = Architecture(**shape, stabilizer=stabilizer, kernels=kernels)
    graph = np.load(HERE / "tiny_a_graph.npz")
    model = DualEncoder(arch, 60, GoGraph(graph["indptr"], graph["indices"], graph["weights"]))
    weights = {name: torch.from_numpy(array) for name, array in np.load(HERE / "tiny_a_weights.npz").items()}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def difference(found: torch.Tensor, name: str) -> float:
    return float(np.abs(found.detach().numpy().squeeze() - IO[name].squeeze()).max())


@pytest.mark.parametrize("kernels", ["fast", "oracle"])
@pytest.mark.parametrize("kind", ["x", "masked"])
def test_single_cells_per_cell(kind: str, kernels: str) -> None:
    values = torch.from_numpy(IO["x" if kind == "x" else "x_masked"])
    model = tiny_a("per_cell", kernels)
    cells = [model(values[i : i + 1]) for i in range(3)]
    together = Output(*(torch.cat(parts) for parts in zip(*cells, strict=True)))
    assert difference(together.reconstruction_BN, f"{kind}_single_out") <= 1e-5
    assert difference(together.merged_encodings_BND, f"{kind}_single_merged_encodings") <= 1e-5
    assert difference(together.gene_embeddings_BND, f"{kind}_single_merged_decodings") <= 1e-5
    batch = model(values)
    assert torch.allclose(batch.reconstruction_BN, together.reconstruction_BN, atol=1e-6), "depends on the batch"


@pytest.mark.parametrize("kernels", ["fast", "oracle"])
@pytest.mark.parametrize("kind", ["x", "masked"])
def test_batch_global(kind: str, kernels: str) -> None:
    out = tiny_a("global", kernels)(torch.from_numpy(IO["x" if kind == "x" else "x_masked"]))
    assert difference(out.reconstruction_BN, f"{kind}_batch_out") <= 1e-5
    assert difference(out.gene_embeddings_BND, f"{kind}_batch_merged_decodings") <= 1e-5


def test_stabilizers_are_different_functions() -> None:
    values = torch.from_numpy(IO["x"])
    per_head, per_cell = (tiny_a(s)(values).reconstruction_BN for s in ("per_head", "per_cell"))
    assert (per_head - per_cell).abs().max() > 1e-4


def test_go_branch_and_top_genes() -> None:
    model = tiny_a("per_cell")
    assert difference(model.go_conv(), "go_branch") <= 1e-5
    assert np.array_equal(top_positions(torch.from_numpy(IO["x"]), model.n_top).numpy(), IO["top_indices"])


@pytest.mark.parametrize("kernels", ["fast", "oracle"])
def test_masked_loss_and_all_stored_gradients(kernels: str) -> None:
    model = tiny_a("per_cell", kernels)
    x, masked = torch.from_numpy(IO["x"])[:1], torch.from_numpy(IO["x_masked"])[:1]
    hidden = masked <= -1
    loss = (model(masked).reconstruction_BN - x)[hidden].square().mean()
    assert float(loss.detach()) == pytest.approx(float(IO["loss_single0"]), rel=1e-5)
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    stored = [name.removeprefix("grad:") for name in IO.files if name.startswith("grad:")]
    assert len(stored) >= 12
    for name in stored:
        expected = torch.from_numpy(IO[f"grad:{name}"])
        error = (gradients[name] - expected).norm() / expected.norm()
        assert error <= 1e-4, (name, float(error))
