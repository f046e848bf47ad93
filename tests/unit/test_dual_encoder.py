from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from performer_pytorch import FastAttention
from torch_geometric.nn import SGConv

from sclong.config import Architecture, load_architecture
from sclong.knowledge.similarity import GoGraph
from sclong.nn.dual_encoder import DualEncoder, by_value
from sclong.nn.favor import FavorAttention, key_features
from sclong.nn.gene_encoder import GoEncoder

N_GENES = 40


def graph(n_genes: int = N_GENES, edges: int = 90) -> GoGraph:
    """A random graph with self loops on the first half of the genes and none elsewhere."""
    draw = np.random.default_rng(0)
    pairs = {(int(t), int(s)) for t, s in draw.integers(0, n_genes // 2, (edges, 2))} | {
        (i, i) for i in range(n_genes // 2)
    }
    ordered = np.array(sorted(pairs))
    indptr = np.searchsorted(ordered[:, 0], np.arange(n_genes + 2))
    return GoGraph(indptr, ordered[:, 1], draw.uniform(0.1, 1, len(ordered)).astype(np.float32))


@pytest.fixture
def arch(root: Path) -> Architecture:
    return load_architecture("tiny", root / "config").model_copy(update={"top_genes": 8})


def model_of(arch: Architecture) -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(arch, N_GENES, graph()).eval()


def cells(n: int = 3) -> torch.Tensor:
    torch.manual_seed(1)
    values = torch.rand(n, N_GENES + 1) * (torch.rand(n, N_GENES + 1) < 0.4) * 4
    values[:, -1] = 0
    return values


def test_ties_go_by_value_then_by_gene() -> None:
    values = torch.tensor([[0.0, 2.0, 0.0, 2.0, -10.0, 1.0]])
    assert by_value(values).tolist() == [[1, 3, 5, 0, 2, 4]]


@pytest.mark.parametrize("batch", [1, 7])
def test_shapes_and_no_dependence_on_the_batch(arch: Architecture, batch: int) -> None:
    model, values = model_of(arch), cells(batch)
    out = model(values)
    assert out.reconstruction_BN.shape == (batch, N_GENES + 1)
    assert out.gene_embeddings_BND.shape == out.merged_encodings_BND.shape == (batch, N_GENES + 1, arch.base_dim)
    alone = model(values[-1:])
    assert torch.allclose(out.reconstruction_BN[-1:], alone.reconstruction_BN, atol=1e-5)


def test_all_genes_in_the_large_encoder_and_empty_cells_work(arch: Architecture) -> None:
    wide = model_of(arch.model_copy(update={"top_genes": 4096}))
    assert wide(cells()).reconstruction_BN.isfinite().all()
    assert model_of(arch)(torch.zeros(2, N_GENES + 1)).reconstruction_BN.isfinite().all()


def test_bf16_autocast_on_the_cpu(arch: Architecture) -> None:
    model, values = model_of(arch), cells()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(values).reconstruction_BN
    assert torch.allclose(low.float(), model(values).reconstruction_BN, atol=0.1)


def test_the_published_size(root: Path) -> None:
    arch = load_architecture("1b", root / "config")
    empty = GoGraph(np.zeros(27876, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with torch.device("meta"):
        model = DualEncoder(arch, 27874, empty)
    assert len(model.state_dict()) == 670
    assert sum(p.numel() for p in model.parameters()) == 1_006_086_461


def test_random_features_change_only_when_asked(arch: Architecture) -> None:
    model = model_of(arch)
    before = {n: b.clone() for n, b in model.named_buffers()}
    model.train()
    model(cells()).reconstruction_BN.sum().backward()
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    state = torch.random.get_rng_state()
    model.redraw_features(torch.Generator().manual_seed(5))
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    first = {n: b.clone() for n, b in model.named_buffers() if n.endswith("projection_matrix")}
    assert first and all(not torch.equal(b, before[n]) for n, b in first.items())
    model.redraw_features(torch.Generator().manual_seed(5))
    assert all(torch.equal(b, first[n]) for n, b in model.named_buffers() if n in first)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_attention_equals_performer_pytorch_with_all_gradients(scale: float) -> None:
    torch.manual_seed(0)
    ours = FavorAttention(16, "per_head")
    theirs = FastAttention(dim_heads=16, nb_features=ours.projection_matrix.shape[0], causal=False)
    theirs.projection_matrix.copy_(ours.projection_matrix)
    mine, other = ([(scale * t).requires_grad_() for t in torch.randn(3, 2, 3, 50, 16).unbind()] for _ in range(2))
    for a, b in zip(mine, other, strict=True):
        b.data.copy_(a.data)
    weight = torch.randn(2, 3, 50, 16)
    (ours(*mine) * weight).sum().backward()
    (theirs(*other) * weight).sum().backward()
    assert torch.allclose(ours(*mine), theirs(*other), atol=1e-6)
    for a, b in zip(mine, other, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5 * float(b.grad.abs().max()))


@pytest.mark.parametrize(
    ("stabilizer", "dims"), [("per_head", (2, 3)), ("per_cell", (1, 2, 3)), ("global", (0, 1, 2, 3))]
)
def test_key_features_follow_the_formula(stabilizer: str, dims: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    keys, directions = torch.randn(2, 3, 20, 8, dtype=torch.float64), torch.randn(16, 8, dtype=torch.float64)
    scaled = keys * 8**-0.25
    exponent = torch.einsum("bhnd,md->bhnm", scaled, directions)
    top = exponent.amax(dims, keepdim=True)
    expected = 16**-0.5 * (torch.exp(exponent - scaled.square().sum(-1, keepdim=True) / 2 - top) + 1e-4)
    assert torch.allclose(key_features(keys, directions, stabilizer), expected, atol=1e-10)


def test_go_encoder_equals_the_dense_formula_and_torch_geometric() -> None:
    torch.manual_seed(0)
    edges = graph()
    encoder = GoEncoder(N_GENES + 1, 6, edges).double()
    dense = torch.zeros(N_GENES + 1, N_GENES + 1, dtype=torch.float64)
    for target in range(N_GENES + 1):
        for k in range(edges.indptr[target], edges.indptr[target + 1]):
            dense[target, edges.indices[k]] = float(edges.weights[k])
    degree = dense.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
    layer = encoder.sim_layers[0].lin
    expected = (root[:, None] * dense * root[None, :]) @ encoder.emb.weight @ layer.weight.T + layer.bias
    assert torch.allclose(encoder(), expected, atol=1e-6)
    assert torch.allclose(encoder()[-1], layer.bias), "a position without edges gets the bias"
    reference = SGConv(6, 6, K=1, add_self_loops=False).double()
    reference.load_state_dict(encoder.sim_layers[0].state_dict())
    index, weight = encoder.edges, encoder.edge_weights
    assert torch.allclose(encoder(), reference(encoder.emb.weight, index, weight), atol=1e-6)


def test_go_vectors_are_kept_at_inference_and_dropped_when_weights_change(arch: Architecture) -> None:
    model = model_of(arch)
    with torch.inference_mode():
        kept = model.go_conv()
        assert model.go_conv() is kept
    other = {n: p + 0.1 for n, p in model.state_dict().items() if p.is_floating_point()}
    model.load_state_dict({**model.state_dict(), **other})
    with torch.inference_mode():
        assert not torch.allclose(model.go_conv(), kept)
    model.train()
    assert model.go_conv().requires_grad
