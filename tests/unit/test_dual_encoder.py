from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from sclong.config.load import load_architecture
from sclong.config.sections import Architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder, other_positions, top_positions

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
    assert top_positions(values, 6).tolist() == [[1, 3, 5, 0, 2, 4]]
    assert other_positions(top_positions(values, 2), 6).tolist() == [[0, 2, 4, 5]]
    draw = np.random.default_rng(0)
    counts = draw.poisson(0.1, (3, 27_875)).astype(np.float32)  # as in a real cell, most of the highest are zeros
    expected = [np.lexsort((np.arange(len(cell)), -cell)) for cell in counts]
    assert np.array_equal(top_positions(torch.from_numpy(counts), 27_875).numpy(), expected)


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


def test_a_pass_in_low_precision_changes_no_later_pass(arch: Architecture) -> None:
    model, values = model_of(arch), cells()
    expected = model(values).reconstruction_BN.detach()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(values)
        assert torch.equal(model(values).reconstruction_BN, expected)


@pytest.mark.parametrize("value", [-1.0, -1.5, -10.0])
def test_values_up_to_minus_one_are_hidden(arch: Architecture, value: float) -> None:
    model, values = model_of(arch), cells(1)
    hidden, masked = values.clone(), values.clone()
    hidden[0, 3], masked[0, 3] = value, -10.0
    assert torch.equal(model.encode_values(hidden), model.encode_values(masked))
    seen = values.clone()
    seen[0, 3] = -0.999
    assert not torch.allclose(model.encode_values(seen)[0, 3], model.encode_values(masked)[0, 3])


def test_every_gene_comes_back_to_its_place(arch: Architecture) -> None:
    """Renaming the genes (values, gene tables, graph) renames the outputs and changes nothing else."""
    model, values = model_of(arch), torch.rand(2, N_GENES + 1) * 4  # all different: no ties
    order = torch.randperm(N_GENES + 1, generator=torch.Generator().manual_seed(2))
    place = order.argsort().numpy()
    targets = np.repeat(np.arange(N_GENES + 1), np.diff(graph().indptr))
    edges = sparse.coo_matrix((graph().weights, (place[targets], place[graph().indices])), shape=(41, 41)).tocsr()
    other = DualEncoder(arch, N_GENES, GoGraph(edges.indptr, edges.indices, edges.data)).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.pos_emb.emb.weight.copy_(model.pos_emb.emb.weight[order])
        other.go_conv.emb.weight.copy_(model.go_conv.emb.weight[order])
    out, renamed = model(values), other(values[:, order])
    assert torch.allclose(renamed.reconstruction_BN, out.reconstruction_BN[:, order], atol=1e-5)
    assert torch.allclose(renamed.merged_encodings_BND, out.merged_encodings_BND[:, order], atol=1e-5)


def test_all_parameters_get_a_gradient(arch: Architecture) -> None:
    model, values = model_of(arch).train(), cells()
    values[:, 5] = -10.0
    model(values).reconstruction_BN.square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def outputs_and_gradients(arch: Architecture, **options: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = model_of(Architecture(**{**arch.model_dump(), **options}))
    for name, parameter in model.named_parameters():
        if "to_q" in name or "to_k" in name:  # peaked attention: at random initialisation it is almost a plain mean
            parameter.data *= 3
    values = cells()
    values[:, 5] = -10.0
    out = model.train()(values).reconstruction_BN
    out.square().mean().backward()
    return out.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("stabilizer", ["per_head", "per_cell", "global"])
@pytest.mark.parametrize(
    "options", [{"kernels": "fast"}, {"kernels": "blocks", "recompute_layers": True}, {"tie_rule": "torch_topk"}]
)
def test_every_path_equals_the_oracle_with_all_gradients(
    arch: Architecture, stabilizer: str, options: dict[str, object]
) -> None:
    same = {"stabilizer": stabilizer, "tie_rule": options.get("tie_rule", "gene_order")}
    expected, gradients = outputs_and_gradients(arch, kernels="oracle", **same)
    found, mine = outputs_and_gradients(arch, **{**same, **options})
    assert torch.allclose(found, expected, atol=1e-5)
    smallest = 1e-6 * max(g.norm() for g in gradients.values())  # rounding errors of sums that nearly cancel
    for name, gradient in gradients.items():
        assert (mine[name] - gradient).norm() <= 1e-4 * gradient.norm() + smallest, name


@pytest.mark.slow
def test_compilation_changes_nothing(arch: Architecture) -> None:
    expected, gradients = outputs_and_gradients(arch)
    found, mine = outputs_and_gradients(arch, compile=True)
    assert torch.allclose(found, expected, atol=1e-5)
    smallest = 1e-6 * max(g.norm() for g in gradients.values())
    assert all((mine[n] - g).norm() <= 1e-4 * g.norm() + smallest for n, g in gradients.items())


def test_bfloat16_as_an_option_of_the_architecture(arch: Architecture) -> None:
    expected, gradients = outputs_and_gradients(arch)
    found, mine = outputs_and_gradients(arch, precision="bfloat16")
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert torch.allclose(found, expected, atol=0.1)
    assert all(g.dtype == torch.float32 for g in mine.values())
    whole, exact = (torch.cat([g.flatten() for g in x.values()]) for x in (mine, gradients))
    assert torch.nn.functional.cosine_similarity(whole, exact, dim=0) > 0.99


def test_exact_attention_reads_the_highest_genes(arch: Architecture) -> None:
    """Equal to softmax attention written out; the small encoder and the decoder stay FAVOR+."""
    model = model_of(Architecture(**{**arch.model_dump(), "top_attention": "exact"}))
    names = [n for n, _ in model.named_buffers() if n.endswith("projection_matrix")]
    assert names and not any(n.startswith("large_encoder") for n in names)
    attention = model.large_encoder.net.layers[0][0].fn
    x = torch.randn(2, 9, arch.large_dim)
    q, k, v = (
        p(x).unflatten(-1, (arch.large_heads, -1)).transpose(1, 2)
        for p in (attention.to_q, attention.to_k, attention.to_v)
    )
    weights = (q @ k.mT / arch.large_dim_head**0.5).softmax(-1)
    assert torch.allclose(attention(x), attention.to_out((weights @ v).transpose(1, 2).flatten(2)), atol=1e-6)
    out, gradients = outputs_and_gradients(arch, top_attention="exact")
    assert out.isfinite().all() and all(g is not None for g in gradients.values())


def test_the_two_tie_rules_agree_where_there_are_no_ties(arch: Architecture) -> None:
    values = torch.rand(3, N_GENES + 1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(top_positions(values, 9, "torch_topk"), top_positions(values, 9, "gene_order"))


def test_go_vectors_once_for_several_passes(arch: Architecture) -> None:
    """One computation for all passes of a step, and the gradients of computing them anew for each."""
    values = cells(4)
    gradients = []
    for shared in (True, False):
        model = model_of(arch).train()
        calls = []
        model.go_conv.sim_layers[0].lin.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with model.go_conv.once() if shared else nullcontext():
            for part in values.split(1):
                model(part).reconstruction_BN.square().sum().backward()
        assert len(calls) == (1 if shared else 4)
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in gradients[1].items():
        assert (gradients[0][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_empty_and_full_cells_and_any_number_of_cells(arch: Architecture) -> None:
    for top_genes in (1, N_GENES, N_GENES + 1, 4096):
        model = model_of(arch.model_copy(update={"top_genes": top_genes}))
        for values in (torch.zeros(1, N_GENES + 1), cells(7), torch.full((2, N_GENES + 1), -10.0)):
            assert all(part.isfinite().all() for part in model(values))
