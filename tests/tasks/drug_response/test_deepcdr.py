"""DeepCDR's network against a plain one that computes every pair by itself, and its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sclong.benchmark import resume
from sclong.benchmark.regression import pearson
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, InputDataError
from sclong.plan.plan import make_plan
from sclong.seeding import rng
from sclong.tasks.drug_response import deepcdr_training
from sclong.tasks.drug_response.deepcdr_network import (
    DeepCDRNetwork,
    DrugGraphs,
    DrugTower,
    Fusion,
    MutationTower,
    WeightedBatchNorm,
)
from sclong.tasks.drug_response.deepcdr_training import DeepCDROptions, ResponseData, batches, fit_predict_deepcdr

SMILES = ["CCO", "c1ccccc1C(=O)O", "CCN.Cl", "C1CCCCC1N", "O"]
GRAPHS = molecule_graphs(SMILES, "deepcdr")
LINES = 6
OMICS = {
    "expression": torch.from_numpy(rng("deepcdr expression").normal(size=(LINES, 7)).astype(np.float32)),
    "methylation": torch.from_numpy(rng("deepcdr methylation").normal(size=(LINES, 4)).astype(np.float32)),
}
SMALL = {"hidden": (8, 8, 6), "line_hidden": 9, "tower": 5, "fusion": 60, "kernel": 10}


def network(positions: int | None, dropout: float = 0.0) -> DeepCDRNetwork:
    torch.manual_seed(0)
    return DeepCDRNetwork(DrugGraphs.of(GRAPHS), OMICS, positions=positions, dropout=dropout, **SMALL)


def batch_norm(x_RH: Tensor, norm: WeightedBatchNorm) -> Tensor:
    return nn.functional.batch_norm(x_RH, None, None, norm.gain_H, norm.bias_H, training=True, eps=norm.eps)


def naive(net: DeepCDRNetwork, drug_N: Tensor, line_N: Tensor, positions: int | None) -> Tensor:
    """Every pair with its own padded molecule, its own dense adjacency and its own row of every omics."""
    size = positions or int(net.graphs.n_atoms_D.max())
    x = torch.zeros(len(drug_N), size, GRAPHS.atoms.shape[1])
    adjacency = torch.eye(size).repeat(len(drug_N), 1, 1)
    real = torch.zeros(len(drug_N), size, dtype=torch.bool)
    for pair, drug in enumerate(drug_N.tolist()):
        one = molecule_graphs([SMILES[drug]], "deepcdr")
        n = len(one.atoms)
        x[pair, :n], real[pair, :n] = torch.from_numpy(one.atoms), True
        adjacency[pair][one.bonds[0], one.bonds[1]] = 1
        root = adjacency[pair].sum(1).rsqrt()
        adjacency[pair] = root[:, None] * adjacency[pair] * root
    for linear, norm in zip(net.drug.linear, net.drug.norm, strict=True):
        h = (adjacency @ linear(x)).relu()
        if positions is None:
            x = torch.zeros_like(h).masked_scatter(real[:, :, None].expand_as(h), batch_norm(h[real], norm))
        else:
            x = batch_norm(h.flatten(0, 1), norm).view_as(h)
    parts = [x.sum(1) / (real.sum(1, keepdim=True) if positions is None else positions)]
    for name, tower in net.line.items():
        parts.append(tower.last(batch_norm(tower.first(OMICS[name][line_N]).tanh(), tower.norm)).relu())
    return net.fusion(torch.cat(parts, 1))


@pytest.mark.parametrize("positions", [None, 12, 100])
def test_once_per_drug_equals_once_per_pair(positions: int | None) -> None:
    drug_N = torch.tensor([3, 0, 0, 2, 3, 3, 4, 0])  # drug 1 is not in the batch
    line_N = torch.tensor([0, 1, 2, 2, 5, 1, 0, 1])
    net = network(positions)
    expected = naive(net, drug_N, line_N, positions)
    wanted = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    answer = net(drug_N, line_N)
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)
    found = torch.autograd.grad(answer.square().sum(), list(net.parameters()))
    for (name, _), a, b in zip(net.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-3, msg=lambda m, name=name: f"{name}: {m}")
    assert any(float(g.abs().max()) > 1e-3 for g in found)


def test_padding_changes_what_a_drug_is() -> None:
    drugs, count = torch.arange(5), torch.ones(5)
    graphs = DrugGraphs.of(GRAPHS)
    towers = [DrugTower(75, (4,), 0.0, positions) for positions in (None, 100)]
    towers[1].load_state_dict(towers[0].state_dict())
    nn.init.ones_(towers[0].linear[0].bias), nn.init.ones_(towers[1].linear[0].bias)
    plain, padded = (t.eval()(graphs.select(drugs), count) for t in towers)
    assert plain.std(0).max() > 3 * padded.std(0).max()  # most positions are the same padding


def test_an_answer_does_not_depend_on_its_batch() -> None:
    net = network(None, dropout=0.3).eval()
    drug_N, line_N = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 0, 0, 2])
    alone = torch.cat([net(drug_N[[i]], line_N[[i]]) for i in range(4)])
    torch.testing.assert_close(net(drug_N, line_N), alone, atol=1e-5, rtol=1e-4)


def test_selected_graphs_are_the_molecules() -> None:
    chosen = DrugGraphs.of(GRAPHS).select(torch.tensor([1, 4]))
    fresh = DrugGraphs.of(molecule_graphs([SMILES[1], SMILES[4]], "deepcdr"))
    x_AH = torch.randn(len(fresh.atoms_AF), 3)
    torch.testing.assert_close(chosen.atoms_AF, fresh.atoms_AF)
    torch.testing.assert_close(chosen.propagate(x_AH), fresh.propagate(x_AH))
    assert chosen.molecule_A.tolist() == fresh.molecule_A.tolist()
    assert chosen.n_atoms_D.tolist() == [9, 1]


def test_a_weight_is_a_repetition() -> None:
    norm, torch_norm = WeightedBatchNorm(3), nn.BatchNorm1d(3)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    count = torch.tensor([1, 3, 2, 1])
    repeated = torch_norm(x.repeat_interleave(count, 0))
    torch.testing.assert_close(norm(x, count.float()).repeat_interleave(count, 0), repeated)
    assert not torch.equal(norm.running_mean_H, torch.zeros(3))
    norm.eval()
    torch.testing.assert_close(norm(x, count.float()), norm(x, torch.ones(4)))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputDataError, match="a drug of 9 atoms"):
        DeepCDRNetwork(DrugGraphs.of(GRAPHS), OMICS, positions=8)
    with pytest.raises(ValueError, match="too narrow"):
        Fusion(10, 40, 10, 0.1)
    with pytest.raises(InputDataError, match="mutations of 900 genes"):
        MutationTower(900, 5, 0.1)
    assert MutationTower(1500, 5, 0.1)(torch.zeros(2, 1500), torch.ones(2)).shape == (2, 5)


@pytest.mark.parametrize("group", [None, 3])
def test_every_pair_is_in_one_batch(group: int | None) -> None:
    torch.manual_seed(0)
    rows, drug = torch.arange(10, 110), torch.arange(120) % 7
    cut = batches(rows, drug, 16, group)
    assert sorted(torch.cat(cut).tolist()) == rows.tolist()
    assert all(2 <= len(b) <= 16 for b in cut)
    most = max(len(drug[b].unique()) for b in cut)
    assert most <= 3 if group else most == 7
    assert [b.tolist() for b in batches(rows, drug, 16, group)] != [b.tolist() for b in cut]


# ----------------------------------------------------------------------------------------------------- training

QUICK = DeepCDROptions(
    hidden=(16,),
    line_hidden=16,
    tower=16,
    fusion=60,
    kernel=10,
    dropout=0.0,
    batch_size=32,
    epochs=25,
    learning_rate=5e-3,
)


def toy() -> ResponseData:
    """Lines that differ in one number, which decides what each of eight molecules does."""
    smiles = ["CCO", "CCCCN", "c1ccccc1", "CC(=O)O", "CCCl", "CC#N", "c1ccncc1", "CS(=O)(=O)C"]
    draw = rng("toy deepcdr")
    state = draw.normal(size=(40, 3))
    drug, line = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(40), indexing="ij"))
    y = draw.normal(0, 2, 8)[drug] + (draw.normal(size=8)[drug] * state[line, 0]) + 3.0
    part = draw.choice(3, len(y), p=[0.7, 0.15, 0.15])
    rows = [np.flatnonzero(part == p) for p in range(3)]
    return ResponseData(molecule_graphs(smiles, "deepcdr"), {"expression": state}, drug, line, y, *rows)


def hidden(data: ResponseData) -> ResponseData:
    y = data.y.copy()
    y[data.test] = np.nan
    return replace(data, y=y)


def test_training_learns_and_repeats_and_sees_no_test_response() -> None:
    data = toy()
    state = torch.get_rng_state()
    answer = fit_predict_deepcdr(hidden(data), QUICK, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert answer.dtype == np.float32 and answer.shape == data.test.shape
    assert pearson(data.y[data.test][None], answer[None])[0] > 0.85
    assert np.mean((data.y[data.test] - answer) ** 2) < 0.4 * data.y.var()  # in the units of the responses
    short = QUICK.model_copy(update={"epochs": 2})
    first = fit_predict_deepcdr(hidden(data), short, 0)
    np.testing.assert_array_equal(first, fit_predict_deepcdr(data, short, 0))
    assert (first != fit_predict_deepcdr(hidden(data), short, 1)).any()


def test_the_epoch_is_the_best_of_its_part() -> None:
    data, short = hidden(toy()), QUICK.model_copy(update={"epochs": 6, "patience": 6})
    by_epochs = [fit_predict_deepcdr(data, short.model_copy(update={"epochs": e}), 0) for e in range(1, 7)]
    opposite = data.y.copy()
    opposite[data.validation] *= -1  # the validation part now likes the worst epoch
    worst = fit_predict_deepcdr(replace(data, y=opposite), short, 0)
    assert any(np.array_equal(worst, answer) for answer in by_epochs[:2])
    assert not np.array_equal(worst, by_epochs[-1])


def test_as_published_the_test_part_chooses() -> None:
    data, published = toy(), QUICK.model_copy(update={"epochs": 3, "positions": 100, "select_on": "test"})
    with pytest.raises(CardError, match="selects_on_test: true"):
        fit_predict_deepcdr(hidden(data), published, 0)
    answer = fit_predict_deepcdr(data, published, 0)
    y = data.y.copy()
    y[data.test] = -y[data.test]
    assert (answer != fit_predict_deepcdr(replace(data, y=y), published, 0)).any()
    y = data.y.copy()
    y[data.validation] += 5  # there is no validation part: its pairs are learned from
    assert (answer != fit_predict_deepcdr(replace(data, y=y), published, 0)).any()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_empty_part_is_an_error(part: str) -> None:
    with pytest.raises(InputDataError, match="part has no pairs"):
        fit_predict_deepcdr(replace(toy(), **{part: np.zeros(0, dtype=int)}), QUICK, 0)


def test_a_training_goes_on_after_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of the fourth epoch, as by a time limit: the answer is that of a training in one go."""
    data, options = hidden(toy()), QUICK.model_copy(update={"epochs": 6, "patience": 6})
    whole = fit_predict_deepcdr(data, options, 0)
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    cut, calls = deepcdr_training.batches, []

    def killed(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return cut(*arguments)

    monkeypatch.setattr(deepcdr_training, "batches", killed)
    with pytest.raises(KeyboardInterrupt):
        resume.Unfinished(tmp_path / "x", {}).fold("0", lambda: fit_predict_deepcdr(data, options, 0))
    calls.clear()
    calls += [1] * 4
    again = resume.Unfinished(tmp_path / "x", {}).fold("0", lambda: fit_predict_deepcdr(data, options, 0))
    np.testing.assert_array_equal(again, whole)
    assert len(calls) == 4 + 3, "three epochs were left"


def test_the_paper_fits_the_time_of_its_jobs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured (docs/results/kept/drug_response.md): at most 191 s an epoch on one core; each attempt goes on."""
    monkeypatch.chdir(root)
    plan = make_plan({"preset": "paper", "results_dir": "nowhere"})
    rows = {name: card for name, card in plan.models.items() if card.adapter.endswith("deepcdr:DeepCDR")}
    assert len(rows) >= 5
    for card in rows.values():
        asked = [card.hours * attempt for attempt in (1, 2, 3)]
        assert card.options["epochs"] * 191 / 3600 <= sum(asked) and asked[-1] <= 72
