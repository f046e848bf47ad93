"""The GEARS network against a twin written out in numpy; its loss by hand; its training on planted answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from sclong.benchmark import resume
from sclong.errors import DeviceError, InputDataError
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.gears_network import SHARPNESS, GearsNetwork, Graph, GraphTable, gears_loss
from sclong.tasks.genetic_perturbation.gears_training import (
    GearsData,
    GearsOptions,
    answer,
    draw_pairs,
    fit,
    fit_predict_gears,
    multi_hot,
    validation_error,
)

EPS = 1e-5  # of torch's BatchNorm


def graph_of(edges: dict[tuple[int, int], float]) -> Graph:
    """Return {(target, source): weight} as a graph."""
    ends = torch.tensor([[s for _, s in edges], [t for t, _ in edges]], dtype=torch.int64)
    return Graph(ends, torch.tensor(list(edges.values()), dtype=torch.float32))


# ----------------------------------------------------------------------------------------- the numpy twin

Weights = dict[str, np.ndarray]


def twin_norm(w: Weights, name: str, rows: np.ndarray, training: bool) -> np.ndarray:
    mean, var = (rows.mean(0), rows.var(0)) if training else (w[f"{name}.running_mean"], w[f"{name}.running_var"])
    return (rows - mean) / np.sqrt(var + EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]


def twin_linear(w: Weights, name: str, rows: np.ndarray) -> np.ndarray:
    return rows @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def twin_mlp(w: Weights, name: str, rows: np.ndarray, training: bool) -> np.ndarray:
    """Linear, norm, ReLU, Linear, norm."""
    hidden = np.maximum(twin_norm(w, f"{name}.1", twin_linear(w, f"{name}.0", rows), training), 0)
    return twin_norm(w, f"{name}.4", twin_linear(w, f"{name}.3", hidden), training)


def twin_mix(w: Weights, name: str, edges: dict[tuple[int, int], float]) -> np.ndarray:
    """One SGConv: missing self loops with weight 1, symmetric normalisation by the targets' sums, linear layer."""
    table = w[f"{name}.table.weight"]
    adjacency = np.zeros((len(table), len(table)))
    for (target, source), weight in edges.items():
        adjacency[target, source] = weight
    for node in range(len(table)):
        if (node, node) not in edges:
            adjacency[node, node] = 1.0
    degree = adjacency.sum(1)
    mixed = adjacency / np.sqrt(np.outer(degree, degree)) @ table
    return twin_linear(w, f"{name}.mix.lin", mixed)


def twin(
    w: Weights, control: np.ndarray, perturbed: np.ndarray, states: np.ndarray, edges: dict, norms: int, training: bool
) -> np.ndarray:
    """Return the prediction from the genes' states (B, G, H), step by step."""
    cells, genes, hidden = states.shape
    change = twin_mlp(w, "fuse", perturbed @ twin_mix(w, "perturbation", edges), training)
    state = np.empty_like(states)
    for b in range(cells):
        for g in range(genes):
            state[b, g] = states[b, g] + (change[b] if perturbed[b].any() else 0)
            if norms == 2:
                state[b, g] += w["flag.weight"][:, 0] * perturbed[b, g] + w["flag.bias"]
    rows = state.reshape(-1, hidden)
    for k in range(norms):
        rows = np.maximum(twin_norm(w, f"norms.{k}", rows, training), 0)
    recovered = twin_mlp(w, "recover", rows, training).reshape(cells, genes, hidden)
    own = np.empty((cells, genes))
    for b in range(cells):
        for g in range(genes):  # a linear layer of each gene alone
            own[b, g] = sum(recovered[b, g, k] * w["own_weight"][0, g, k] for k in range(hidden)) + w["own_bias"][0, g]
    across = twin_mlp(w, "across", own, training)
    out = np.empty_like(own)
    for b in range(cells):
        for g in range(genes):  # another, over its number and the summary of all
            inputs = [own[b, g], *across[b]]
            out[b, g] = sum(i * v for i, v in zip(inputs, w["all_weight"][0, g], strict=True)) + w["all_bias"][0, g]
    return out + control


EDGES = {(0, 0): 1.0, (0, 2): 0.5, (1, 0): 0.3, (2, 4): 0.2, (3, 3): 1.0, (4, 1): 0.7}


def randomised(network: GearsNetwork) -> Weights:
    """Fill every parameter and running statistic with random numbers; return them as numpy float64."""
    draw = rng("gears twin")
    network.double()
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not name.endswith("weights_E"):
            drawn = draw.normal(size=value.shape) * (0.3 if "table" in name else 1.0)
            value.copy_(torch.from_numpy(np.abs(drawn) + 0.1 if name.endswith("running_var") else drawn))
    for module in network.modules():
        if isinstance(module, torch.nn.Embedding):
            assert module.max_norm == 1.0
            module.weight.data /= module.weight.data.norm(dim=1, keepdim=True).clamp(min=1.0)
        if isinstance(module, GraphTable):
            module.weights_E = module.weights_E.double()
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Control cells (3, 4), and perturbed nodes (3, 5): two genes, one that is not measured, and none."""
    return rng("cells").random((3, 4)), np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=float)


@pytest.mark.parametrize("training", [False, True])
def test_head_on_given_vectors_equals_its_twin(training: bool) -> None:
    network = GearsNetwork(4, graph_of(EDGES), 5, 3, width=2)
    w, (control, perturbed), vectors = randomised(network), batch(), rng("vectors").normal(size=(3, 4, 2))
    rows = twin_linear(w, "genes.adapter", vectors.reshape(-1, 2))
    states = np.maximum(twin_norm(w, "genes.norm", rows, training), 0).reshape(3, 4, 3)
    expected = twin(w, control, perturbed, states, EDGES, 2, training)
    network.train(training)
    got = network(*(torch.from_numpy(a) for a in (control, perturbed, vectors))).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_gears_with_its_own_genes_equals_its_twin(training: bool) -> None:
    near = {(0, 1): 0.5, (2, 2): 1.0, (3, 0): 0.9}
    network = GearsNetwork(4, graph_of(EDGES), 5, 3, coexpression=graph_of(near), flag=False)
    w, (control, perturbed) = randomised(network), batch()
    states = np.maximum(twin_norm(w, "genes.norm", w["genes.table.weight"], training), 0)
    states = twin_mlp(w, "genes.fuse", states + 0.2 * twin_mix(w, "genes.position", near), training)
    expected = twin(w, control, perturbed, np.tile(states, (3, 1, 1)), EDGES, 1, training)
    network.train(training)
    got = network(torch.from_numpy(control), torch.from_numpy(perturbed)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_width_of_the_vectors_decides_on_the_adapter() -> None:
    assert isinstance(GearsNetwork(4, graph_of(EDGES), 5, 3, width=3).genes.adapter, torch.nn.Identity)
    frozen = GearsNetwork(4, graph_of(EDGES), 5, 3, width=2, train_adapter=False)
    assert [n for n, p in frozen.named_parameters() if not p.requires_grad] == [
        "genes.adapter.weight",
        "genes.adapter.bias",
    ]


def test_rows_of_tables_are_no_longer_than_one() -> None:
    table = GraphTable(5, 3, graph_of(EDGES))
    table.table.weight.data *= 100
    table()
    assert float(table.table.weight.detach().norm(dim=1).max()) <= 1 + 1e-5


# -------------------------------------------------------------------------------------------------- loss


def test_loss_by_hand() -> None:
    """Two conditions; the first with two cells and genes 0 and 2, the second with one cell and every gene."""
    predicted = torch.tensor([[1.0, 9.0, 0.0], [2.0, 9.0, 1.0], [0.5, 0.0, 3.0]])
    target = torch.tensor([[1.5, 0.0, 1.0], [0.0, 0.0, 1.0], [0.5, 1.0, 1.0]])
    control, counted = torch.tensor([1.2, 0.5, 0.5]), torch.tensor([[True, False, True], [True, True, True]])
    condition = torch.tensor([0, 0, 1])
    first = np.mean([0.5**4, 1.0, 2.0**4, 0.0])
    first += 0.1 * np.mean([(1 - -1) ** 2, (1 - -1) ** 2, (-1 - 1) ** 2, (1 - 1) ** 2])
    second = np.mean([0.0, 1.0, 2.0**4]) + 0.1 * np.mean([0.0, (1 - -1) ** 2, 0.0])
    loss = gears_loss(predicted, target, condition, counted, control, direction="sign")
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)
    one = gears_loss(predicted[:2], target[:2], condition[:2], counted, control, direction="sign")
    assert float(one) == pytest.approx(first, rel=1e-6)  # conditions that are not in the batch do not count
    cubic = gears_loss(predicted[2:], target[2:], condition[2:], counted, control, gamma=1, direction_weight=0)
    assert float(cubic) == pytest.approx(np.mean([0, 1, 8]), rel=1e-6)


def direction_gradient(direction: str) -> np.ndarray:
    """Gradient of the direction term alone."""
    predicted = torch.tensor([[0.3, -0.2, 0.05, 0.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[-1.0, -1.0, 1.0, 0.0]], dtype=torch.float64)
    rest = {"direction": direction, "gamma": 2.0}
    everything = torch.ones(1, 4, dtype=torch.bool), torch.zeros(4, dtype=torch.float64)
    losses = [
        gears_loss(predicted, target, torch.tensor([0]), *everything, direction_weight=weight, **rest)
        for weight in (1.0, 0.0)
    ]
    return torch.autograd.grad(losses[0] - losses[1], predicted)[0].numpy()


def test_published_direction_term_has_no_gradient() -> None:
    np.testing.assert_array_equal(direction_gradient("sign"), np.zeros((1, 4)))


def test_smooth_direction_term_has_the_gradient_of_its_formula() -> None:
    x, truth = np.array([0.3, -0.2, 0.05, 0.0]), np.array([-1, -1, 1, 0])
    guess = np.tanh(SHARPNESS * x)
    expected = -2 * (truth - guess) * SHARPNESS * (1 - guess**2) / 4
    got = direction_gradient("smooth")[0]
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert got[0] > 0 and got[2] < 0  # down where it should fall, up where it should rise


# ----------------------------------------------------------------------------------------------- training


def test_pairs_depend_on_the_seed_alone() -> None:
    pairs = draw_pairs([5, 3], 7, None, 0)
    again, other = draw_pairs([5, 3], 7, None, 0), draw_pairs([5, 3], 7, None, 1)
    np.testing.assert_array_equal(pairs.control, again.control)
    assert (pairs.control != other.control).any()
    np.testing.assert_array_equal(pairs.condition, [0] * 5 + [1] * 3 + [2] * 7)
    np.testing.assert_array_equal(pairs.control[8:], pairs.cell[8:])  # a control cell is paired with itself
    assert pairs.control.max() < 7


def test_pairs_of_some_cells_of_each_condition() -> None:
    pairs = draw_pairs([50, 3], 70, 4, 0)
    np.testing.assert_array_equal(np.bincount(pairs.condition), [4, 3, 4])
    assert len(set(pairs.cell[:4])) == 4 and pairs.cell[:4].max() < 50 and set(pairs.cell[4:7]) == {0, 1, 2}
    np.testing.assert_array_equal(pairs.control[7:], pairs.cell[7:])


GROUPS, GENES = 4, 20  # genes of a group have the same effect and are neighbours in the graph
FEW = GearsOptions(hidden=8, epochs=25, accumulation=1, batch_size=32, learning_rate=0.01, decay=0.95)


def screen(per_cell: bool = False) -> GearsData:
    """Return a screen of 20 genes in 4 groups; of each group one gene is test, one validation, three are training."""
    draw = rng("gears screen")
    effect = np.repeat(draw.choice([-1.0, 0.0, 1.0], size=(GROUPS, GENES)), GENES // GROUPS, axis=0)
    base = 2 + draw.random(GENES)
    group = np.arange(GENES) // (GENES // GROUPS)
    edges = {(t, s): 1.0 if s == t else 0.8 for t in range(GENES) for s in range(GENES) if group[s] == group[t]}

    def cells(gene: int) -> sparse.csr_matrix:
        return sparse.csr_matrix(base + effect[gene] + 0.1 * draw.normal(size=(12, GENES)), dtype=np.float32)

    parts = [[np.array([g]) for g in range(GENES) if g % 5 in kind] for kind in ((2, 3, 4), (1,), (0,))]
    control = (base + 0.1 * draw.normal(size=(10, GENES))).astype(np.float32)
    return GearsData(
        control,
        base.astype(np.float32),
        draw.normal(size=(10, GENES, 3)).astype(np.float32) if per_cell else None,
        [cells(int(g[0])) for g in parts[0]],
        [np.arange(GENES)] * 12,
        *parts,
        np.stack([base + effect[int(g[0])] for g in parts[1]]).astype(np.float32),
        [np.arange(GENES)] * 4,
        graph_of(edges),
        GENES,
    )


def truth(data: GearsData) -> np.ndarray:
    """Profiles of the test genes: those of the validation genes, which are their groups'."""
    return data.validation_mean_VG


def test_learns_a_planted_signal_better_than_the_training_mean() -> None:
    data = screen()
    mean = np.mean([c.toarray().mean(0) for c in data.cells], axis=0)
    floor = np.mean((mean - truth(data)) ** 2)
    error = np.mean((fit_predict_gears(data, FEW, 0) - truth(data)) ** 2)
    assert error < 0.4 * floor, (error, floor)


def test_a_seed_is_a_training() -> None:
    data, options = screen(), FEW.model_copy(update={"epochs": 2})
    state = torch.random.get_rng_state()
    first, again, other = (fit_predict_gears(data, options, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert torch.equal(state, torch.random.get_rng_state())


def network_for(data: GearsData, **options: bool) -> GearsNetwork:
    torch.manual_seed(0)
    width = None if data.vectors is None else data.vectors.shape[-1]
    return GearsNetwork(GENES, data.go_graph, data.n_nodes, FEW.hidden, width=width, **options)


def test_the_epoch_is_chosen_on_the_validation_part() -> None:
    """Validation profiles that no training can reach better than its start pick the first epochs, else later ones."""
    data, options = screen(), FEW.model_copy(update={"epochs": 8})
    away = replace(data, validation_mean_VG=2 * data.control_mean_G - data.validation_mean_VG)
    chosen = []
    for problem in (data, away):
        network = network_for(problem)
        errors = fit(network, problem, options, 0)
        assert validation_error(network, problem, options) == pytest.approx(min(errors), rel=1e-6)
        chosen.append(int(np.argmin(errors)))
    assert chosen[0] > chosen[1]


def test_step_is_the_mean_of_its_batches_or_their_sum_over_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    data = screen()
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)
    steps = []
    for divide in (None, 2):
        options = FEW.model_copy(
            update={
                "epochs": 1,
                "accumulation": 5,
                "clip": 1e9,
                "weight_decay": 0.0,
                "learning_rate": 1e-4,
                "divide_by": divide,
            }
        )
        network = network_for(data)
        before = network.own_bias.detach().clone()
        fit(network, data, options, 0)
        steps.append((network.own_bias.detach() - before).numpy())
    np.testing.assert_allclose(steps[1], 5 / 2 * steps[0], rtol=1e-2, atol=1e-7)  # 154 cells are 5 batches, one step


@pytest.mark.parametrize("train_adapter", [True, False])
def test_adapter_is_trained_unless_frozen_as_published(train_adapter: bool) -> None:
    data = screen(per_cell=True)
    network = network_for(data, train_adapter=train_adapter)
    before = network.genes.adapter.weight.detach().clone()
    fit(network, data, FEW.model_copy(update={"epochs": 1}), 0)
    assert torch.equal(before, network.genes.adapter.weight) == (not train_adapter)


def test_answer_averages_the_change_over_control_cells() -> None:
    data = screen(per_cell=True)
    network = network_for(data).eval()
    got = answer(network, data, data.test, FEW.model_copy(update={"answer_cells": 7}))
    vectors, perturbed = torch.from_numpy(data.vectors[:7]), multi_hot(data.test, GENES)
    with torch.no_grad():
        for row, flags in zip(got, perturbed, strict=True):
            change = network(torch.zeros(7, GENES), flags.expand(7, -1), vectors).mean(0).numpy()
            np.testing.assert_allclose(row, data.control_mean_G + change, rtol=1e-4)
    same = replace(data, vectors=np.repeat(data.vectors[:1], 10, axis=0))
    once = replace(data, vectors=data.vectors[:1])
    np.testing.assert_allclose(answer(network, same, data.test, FEW), answer(network, once, data.test, FEW), rtol=1e-4)


def test_what_cannot_be_trained_is_refused() -> None:
    data = screen()
    with pytest.raises(InputDataError, match="validation part has no conditions"):
        fit_predict_gears(replace(data, validation=[], validation_genes=[]), FEW, 0)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="no GPU"):
            fit_predict_gears(data, FEW.model_copy(update={"device": "cuda"}), 0)


def test_a_training_goes_on_after_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its second epoch, it ends with the answer of a training in one go."""
    data, options = screen(), FEW.model_copy(update={"epochs": 4})

    def train() -> np.ndarray:
        torch.manual_seed(3)
        network = network_for(data)
        errors = fit(network, data, options, 0)
        return np.concatenate([errors, answer(network, data, data.test, options).ravel()])

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
