"""DeepDDS: layers against their formulas, one tower per distinct drug against a tower per triple, training."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sclong.benchmark import resume
from sclong.benchmark.ranking import auroc
from sclong.drugs.molecules import molecule_graphs
from sclong.seeding import rng
from sclong.tasks.drug_combination.deepdds_network import (
    DeepDDSData,
    DeepDDSNetwork,
    DeepDDSOptions,
    GraphAttention,
    GraphConvolution,
    _Triples,
    as_graph,
    fit_predict_deepdds,
    largest_of_molecules,
)

DRUGS = ["CCO", "c1ccccc1", "CC(=O)O", "C", "C1CCNCC1", "CC#N", "OCC(O)CO", "c1ccncc1Cl"]
N_LINES, GENES = 4, 6
SHAPES = {"expression": (GENES,), "gene vectors": (GENES, 5)}


def toy(shape: tuple[int, ...] = (GENES,)) -> DeepDDSData:
    """Synergy where a drug has a ring and the line is of the second half, or neither."""
    draw = rng("toy triples of DeepDDS")
    pairs = np.array(list(combinations(range(len(DRUGS)), 2)))
    first, second = np.repeat(pairs, N_LINES, axis=0).T
    line = np.tile(np.arange(N_LINES), len(pairs))
    ring = np.array([1 in (s.count("1") > 0,) for s in DRUGS])
    labels = ((ring[first] | ring[second]) == (line >= N_LINES // 2)).astype(np.float32)
    lines = draw.random((N_LINES, *shape)).astype(np.float32)
    lines[: N_LINES // 2, 0] += 3
    return DeepDDSData(molecule_graphs(DRUGS, "deepdds"), first, second, line, lines, labels)


def dense(smiles: str) -> tuple[Tensor, Tensor]:
    """Atoms, and neighbours with the atom itself as a table of 0 and 1."""
    graph = molecule_graphs([smiles], "deepdds")
    table = torch.eye(len(graph.atoms))
    table[graph.bonds[1], graph.bonds[0]] = 1.0
    return torch.from_numpy(graph.atoms), table


def convolved(layer: GraphConvolution, x: Tensor, table: Tensor) -> Tensor:
    degree = table.sum(1)
    return (table / torch.sqrt(degree[:, None] * degree)) @ (x @ layer.weight.T) + layer.bias


def attended(layer: GraphAttention, x: Tensor, table: Tensor) -> Tensor:
    parts = []
    for head in range(layer.heads):
        rows = slice(head * layer.outputs, (head + 1) * layer.outputs)
        h = x @ layer.weight[rows].T
        raw = (h @ layer.of_target[head])[:, None] + (h @ layer.of_source[head])[None]
        share = torch.softmax(functional.leaky_relu(raw, 0.2).masked_fill(table == 0, -torch.inf), dim=1)
        parts.append(share @ h)
    return torch.cat(parts, dim=1) + layer.bias


@pytest.mark.parametrize("smiles", ["C", "c1ccncc1Cl"])
def test_layers_are_their_formulas(smiles: str) -> None:
    torch.manual_seed(0)
    x, table = dense(smiles)
    graph = as_graph(molecule_graphs([smiles], "deepdds"))
    convolution, attention = GraphConvolution(78, 7), GraphAttention(78, 7, 3, 0.0)
    for layer in (convolution, attention):
        torch.nn.init.normal_(layer.bias)
    torch.testing.assert_close(convolution(x, graph), convolved(convolution, x, table))
    torch.testing.assert_close(attention(x, graph), attended(attention, x, table))


def test_the_largest_value_of_a_molecule_and_its_gradient_where_atoms_tie() -> None:
    graph = as_graph(molecule_graphs(["c1ccccc1", "C", "CCO"], "deepdds"))
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    x[:6] = x[0]  # benzene: all atoms alike
    x.requires_grad_()
    weights = torch.tensor([1.0, -2.0, 3.0, -0.5])
    pooled = largest_of_molecules(x, graph)
    torch.testing.assert_close(pooled, torch.stack([p.amax(0) for p in x.split([6, 1, 3])]))
    (pooled * weights).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:6], weights.expand(6, 4) / 6)
    torch.testing.assert_close(x.grad[7:].sum(0), weights)


def test_layers_are_those_of_pytorch_geometric() -> None:
    geometric = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)
    molecules = molecule_graphs(DRUGS, "deepdds")
    x, bonds, graph = torch.from_numpy(molecules.atoms), torch.from_numpy(molecules.bonds), as_graph(molecules)
    ours, theirs = GraphConvolution(78, 9), geometric.GCNConv(78, 9)
    theirs.lin.weight.data.copy_(ours.weight)
    torch.testing.assert_close(ours(x, graph), theirs(x, bonds))
    attention, other = GraphAttention(78, 9, 4, 0.0), geometric.GATConv(78, 9, heads=4)
    other.lin.weight.data.copy_(attention.weight)
    other.att_src.data.copy_(attention.of_source[None])
    other.att_dst.data.copy_(attention.of_target[None])
    torch.testing.assert_close(attention(x, graph), other(x, bonds))


def naive_answer(network: DeepDDSNetwork, data: DeepDDSData, row: int, swapped: bool) -> Tensor:
    """One triple, by itself: towers from dense tables, nothing shared."""
    drugs = []
    for drug in (data.first[row], data.second[row]):
        x, table = dense(DRUGS[drug])
        for layer in network.drugs.layers:
            if isinstance(layer, GraphConvolution):
                x = torch.relu(convolved(layer, x, table))
            else:
                assert isinstance(layer, GraphAttention)
                x = functional.elu(attended(layer, x, table))
        x = torch.relu(network.drugs.pooled(x.amax(0)))
        drugs.append(x if network.drug_out is None else network.drug_out(x))
    line = torch.from_numpy(data.lines[data.line[row]])
    if network.lines.genes is None:
        line = network.lines.layers(line / line.norm())
    else:
        line = network.lines.layers(torch.relu(network.lines.genes(line)).flatten())
    x = torch.cat([*(drugs[::-1] if swapped else drugs), line])
    return network.joined(x / x.norm() if network.kind == "gat" else x)


@pytest.mark.parametrize("drug", ["gcn", "gat"])
@pytest.mark.parametrize("lines", SHAPES)
def test_a_tower_per_distinct_drug_is_a_tower_per_triple(drug: str, lines: str) -> None:
    data = toy(SHAPES[lines])
    options = DeepDDSOptions(drug=drug, dropout=0.0, joined=(16, 8))  # type: ignore[arg-type]
    torch.manual_seed(1)
    network = DeepDDSNetwork(SHAPES[lines], options)
    rows = torch.tensor([3, 17, 17, 40, 55, 90, 2])
    swapped = torch.tensor([True, False, True, False, False, True, False])
    gradients = []
    for batched in (True, False):
        network.zero_grad()
        if batched:
            loss = _Triples(data).loss(network, rows, swapped)
        else:
            answers = [naive_answer(network, data, int(r), bool(s)) for r, s in zip(rows, swapped, strict=True)]
            loss = functional.cross_entropy(torch.stack(answers), torch.from_numpy(data.labels[rows.numpy()]).long())
        loss.backward()
        gradients.append((loss.detach(), {n: p.grad.clone() for n, p in network.named_parameters()}))  # type: ignore[union-attr]
    (one, one_gradient), (other, other_gradient) = gradients
    torch.testing.assert_close(one, other)
    assert sum(float(g.abs().sum()) > 0 for g in one_gradient.values()) == len(one_gradient)
    for name, gradient in one_gradient.items():
        torch.testing.assert_close(
            gradient, other_gradient[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("drug", ["gcn", "gat"])
def test_answers_are_the_mean_of_both_orders(drug: str) -> None:
    data = toy()
    torch.manual_seed(2)
    network = DeepDDSNetwork((GENES,), DeepDDSOptions(drug=drug)).eval()  # type: ignore[arg-type]
    rows = torch.arange(40)
    both = _Triples(data).probabilities(network, rows, True)
    other = _Triples(replace(data, first=data.second, second=data.first))
    single = [t.probabilities(network, rows, False) for t in (_Triples(data), other)]
    np.testing.assert_allclose(both, np.mean(single, axis=0), rtol=1e-6)
    assert np.abs(single[0] - single[1]).max() > 1e-5  # by itself the network is not symmetric
    naive = [torch.softmax(naive_answer(network, data, r, False), 0)[1].item() for r in range(3)]
    np.testing.assert_allclose(single[0][:3], naive, rtol=1e-4)
    np.testing.assert_allclose(other.probabilities(network, rows, True), both, rtol=1e-6)


def test_towers_see_each_distinct_drug_and_line_of_a_batch_once() -> None:
    data = toy()
    network = DeepDDSNetwork((GENES,), DeepDDSOptions())
    seen: list[tuple[int, ...]] = []
    network.drugs.register_forward_pre_hook(lambda _, given: seen.append((given[0].n_molecules,)))
    network.lines.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    rows = torch.tensor([0, 1, 0, 1, 0])  # drugs 0 and 1 in lines 0 and 1
    _Triples(data).loss(network, rows, None)
    assert seen == [(2,), (2, GENES)]
    _Triples(data).probabilities(network, torch.arange(len(data.first)), True)
    assert seen[2:] == [(len(DRUGS),), (N_LINES, GENES)]


def parts(data: DeepDDSData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = rng("parts of DeepDDS").permutation(len(data.first))
    return order[:70], order[70:90], order[90:]


@pytest.mark.parametrize("lines", SHAPES)
def test_it_learns_and_follows_its_seed(lines: str) -> None:
    data = toy(SHAPES[lines])
    train, validation, test = parts(data)
    options = DeepDDSOptions(epochs=40, batch_size=16, learning_rate=2e-3, dropout=0.1, joined=(32,), patience=40)
    before = torch.random.get_rng_state()
    answer = fit_predict_deepdds(data, train, validation, test, options, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert answer.dtype == np.float32 and answer.shape == (len(test),)
    assert auroc(data.labels[test], answer) > 0.85
    short = options.model_copy(update={"epochs": 2})
    one, again, other = (fit_predict_deepdds(data, train, validation, test, short, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4


def test_test_labels_are_not_read_unless_the_epoch_is_chosen_by_them() -> None:
    data = toy()
    train, validation, test = parts(data)
    options = DeepDDSOptions(epochs=6, batch_size=16, joined=(16,), learning_rate=3e-3)
    hidden = data.labels.copy()
    hidden[test] = np.nan
    flipped = data.labels.copy()
    flipped[test] = 1 - flipped[test]
    answers = [
        fit_predict_deepdds(replace(data, labels=labels), train, validation, test, options, 0)
        for labels in (data.labels, hidden, flipped)
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    chosen = [
        fit_predict_deepdds(replace(data, labels=labels), train, test, test, options, 0)
        for labels in (data.labels, flipped)
    ]
    right, wrong = (auroc(data.labels[test], answer) for answer in chosen)
    assert right > wrong


def test_the_best_epoch_is_kept_and_waiting_ends() -> None:
    data = toy()
    train, validation, test = parts(data)
    flat = DeepDDSOptions(epochs=50, batch_size=16, joined=(8,), learning_rate=1e-12, patience=2, evaluate_every=3)
    calls = []
    original = _Triples.probabilities

    def counted(self: _Triples, *given: object) -> np.ndarray:
        calls.append(1)
        return original(self, *given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Triples, "probabilities", counted)
        fit_predict_deepdds(data, train, validation, test, flat, 0)
    assert len(calls) == 1 + 2 + 1  # the first is the best, two more are waited for; then the answer


def test_a_validation_part_of_one_class_still_chooses() -> None:
    data = toy()
    train, validation, test = parts(data)
    ones = validation[data.labels[validation] == 1]
    options = DeepDDSOptions(epochs=2, batch_size=32, joined=(8,))
    assert np.isfinite(fit_predict_deepdds(data, train, ones, test, options, 0)).all()


def test_a_training_goes_on_after_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its second epoch, it ends with the answer of a training in one go."""
    data = toy()
    sets = parts(data)
    options = DeepDDSOptions(epochs=5, batch_size=16, joined=(16,), learning_rate=3e-3, evaluate_every=2, shuffle=False)

    def train() -> np.ndarray:
        return fit_predict_deepdds(data, *sets, options, 0)

    whole = train()
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    done = resume.Continuation.done

    def killed(self: resume.Continuation, epochs: int) -> None:
        done(self, epochs)
        if epochs == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.Continuation, "done", killed)
        with pytest.raises(KeyboardInterrupt):
            resume.Unfinished(tmp_path / "x", {}).fold("0", train)
    assert len(list((tmp_path / "x").glob("*.safetensors"))) == 1
    np.testing.assert_array_equal(resume.Unfinished(tmp_path / "x", {}).fold("0", train), whole)
