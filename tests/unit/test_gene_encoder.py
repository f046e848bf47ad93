from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch_geometric.nn import SGConv

from sclong.genes.go_graph import GoGraph
from sclong.nn.gene_encoder import GeneTable, GoEncoder

N_GENES, DIM = 40, 6


def graph() -> GoGraph:
    """A random asymmetric graph with self loops on the first half of the genes and none elsewhere."""
    draw = np.random.default_rng(0)
    pairs = {(int(t), int(s)) for t, s in draw.integers(0, N_GENES // 2, (90, 2))} | {
        (i, i) for i in range(N_GENES // 2)
    }
    ordered = np.array(sorted(pairs))
    indptr = np.searchsorted(ordered[:, 0], np.arange(N_GENES + 2))
    return GoGraph(indptr, ordered[:, 1], draw.uniform(0.1, 1, len(ordered)).astype(np.float32))


@pytest.fixture
def encoder() -> GoEncoder:
    torch.manual_seed(0)
    return GoEncoder(N_GENES + 1, DIM, graph()).eval()


def dense_formula(encoder: GoEncoder, edges: GoGraph) -> torch.Tensor:
    """diag(δ) A diag(δ) T Wᵀ + b, with A[target, source] = weight and δ = (row sums of A)^(-1/2), 0 without edges."""
    a = torch.zeros(N_GENES + 1, N_GENES + 1, dtype=torch.float64)
    for target in range(N_GENES + 1):
        for k in range(edges.indptr[target], edges.indptr[target + 1]):
            a[target, edges.indices[k]] = float(edges.weights[k])
    degree = a.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
    layer = encoder.sim_layers[0].lin
    return (root[:, None] * a * root[None, :]) @ encoder.emb.weight @ layer.weight.T + layer.bias


def test_equal_to_the_dense_formula_with_gradients(encoder: GoEncoder) -> None:
    encoder = encoder.double()
    weight = torch.randn(N_GENES + 1, DIM, dtype=torch.float64)
    parameters = list(encoder.parameters())
    out, expected = encoder(), dense_formula(encoder, graph())
    assert torch.allclose(out, expected, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad((out * weight).sum(), parameters),
        torch.autograd.grad((expected * weight).sum(), parameters),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_direction_of_edges_matters(encoder: GoEncoder) -> None:
    matrix = sparse.csr_matrix((graph().weights, graph().indices, graph().indptr), (N_GENES + 1, N_GENES + 1)).T.tocsr()
    turned = GoEncoder(N_GENES + 1, DIM, GoGraph(matrix.indptr, matrix.indices, matrix.data)).eval()
    turned.load_state_dict(encoder.state_dict())
    assert (encoder() - turned()).abs().max() > 1e-3


def test_equal_to_torch_geometric_with_all_gradients(encoder: GoEncoder) -> None:
    """The sparse product against SGConv, in double precision and as the module's own oracle."""
    weight = torch.randn(N_GENES + 1, DIM, dtype=torch.float64)
    found = {}
    for kernels in ("fast", "oracle"):
        torch.manual_seed(0)
        encoder = GoEncoder(N_GENES + 1, DIM, graph(), kernels).double()
        encoder.edge_weights = graph_weights = encoder.edge_weights.double()
        out = encoder()
        (out * weight).sum().backward()
        found[kernels] = [out, *(p.grad for p in encoder.parameters())]
    reference = SGConv(DIM, DIM, K=1, add_self_loops=False).double()
    reference.load_state_dict(encoder.sim_layers[0].state_dict())
    assert torch.equal(reference(encoder.emb.weight, encoder.edges, graph_weights), found["oracle"][0])
    for fast, oracle in zip(found["fast"], found["oracle"], strict=True):
        assert torch.allclose(fast, oracle, rtol=1e-5, atol=1e-6), "weights of the graph are float32"


def test_genes_without_edges_and_the_pad_get_the_bias(encoder: GoEncoder) -> None:
    bias = encoder.sim_layers[0].lin.bias
    out = encoder()
    assert torch.equal(out[N_GENES // 2 :], bias.expand(N_GENES // 2 + 1, -1))
    assert not torch.allclose(out[: N_GENES // 2], bias.expand(N_GENES // 2, -1))


def test_a_graph_without_edges_is_fine() -> None:
    empty = GoGraph(np.zeros(N_GENES + 2, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    encoder = GoEncoder(N_GENES + 1, DIM, empty)
    assert torch.equal(encoder(), encoder.sim_layers[0].lin.bias.expand(N_GENES + 1, -1))


def test_the_graph_is_not_part_of_the_weights(encoder: GoEncoder) -> None:
    assert set(encoder.state_dict()) == {"emb.weight", "sim_layers.0.lin.weight", "sim_layers.0.lin.bias"}


def test_vectors_are_kept_at_inference_only(encoder: GoEncoder) -> None:
    with torch.no_grad():
        kept = encoder()
        assert encoder() is kept
    assert encoder().requires_grad, "gradients flow when they are asked for"
    with torch.no_grad():
        kept = encoder()
        encoder.train()
        assert encoder() is not kept and encoder() is not encoder()


@pytest.mark.parametrize("change", ["in place", "optimiser", "load", "cast"])
def test_vectors_that_were_kept_are_never_stale(encoder: GoEncoder, change: str) -> None:
    with torch.no_grad():
        before = encoder()
    if change == "in place":
        with torch.no_grad():
            encoder.emb.weight.mul_(2)
    elif change == "optimiser":
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.1)
        encoder().sum().backward()
        with torch.no_grad():
            encoder()
        optimizer.step()
    elif change == "load":
        encoder.load_state_dict({name: t + 1 for name, t in encoder.state_dict().items()})
    else:
        encoder.double()
    with torch.no_grad():
        found = encoder()
    assert torch.equal(found, encoder().detach())
    assert found.dtype != before.dtype or not torch.allclose(found, before)


def test_autocast_leaves_nothing_of_low_precision_behind(encoder: GoEncoder) -> None:
    expected = encoder().detach()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(), expected)
    with torch.no_grad():
        assert torch.equal(encoder(), expected)


def test_weights_made_in_inference_mode_work() -> None:
    with torch.inference_mode():
        encoder = GoEncoder(N_GENES + 1, DIM, graph()).eval()
        assert encoder() is encoder()


def test_gene_table_starts_small() -> None:
    torch.manual_seed(0)
    table = GeneTable(5000, 8)()
    assert table.shape == (5000, 8) and table.requires_grad
    assert float(table.detach().std()) == pytest.approx(0.02, rel=0.05)
