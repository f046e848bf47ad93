"""The DeepCE network against a naive twin (sample by sample, padded); its batches; training on planted signatures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sclong.benchmark import resume
from sclong.benchmark.regression import pearson
from sclong.drugs.molecules import molecule_graphs
from sclong.errors import CardError, DeviceError, InputDataError
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.deepce_network import (
    AtomNorm,
    DeepceData,
    DeepceNetwork,
    DeepceOptions,
    Molecules,
    batches,
    fit,
    fit_predict_deepce,
    inputs,
    predict,
)

SMILES = ["CCO", "c1ccccc1C(=O)N", "C", "CC(C)(C)Cl", "FS(F)(F)F", "C1CC1C#N"]
SMALL = DeepceOptions(hidden=8, heads=2, feed_forward=12, convolutions=(5, 4), context=3, dropout=0.0, epochs=2)
GENES, LINES, DOSES, EPS = 7, 3, 2, 1e-5

# ------------------------------------------------------------------- the twin: lists of samples, loops over atoms


def twin_fingerprint(network: DeepceNetwork, samples: list[int], training: bool) -> list[Tensor]:
    """Return the atoms of each sample's molecule; a batch norm over all atoms of all samples."""
    graphs = [molecule_graphs([SMILES[s]], "deepce") for s in samples]
    states = [torch.from_numpy(g.atoms).double() for g in graphs]
    read = network.fingerprint.read
    out = [torch.softmax(read[0](h), 1) for h in states]
    for level, convolve in enumerate(network.fingerprint.convolve):
        raw = []
        for graph, state in zip(graphs, states, strict=True):
            rows = []
            for atom in range(len(state)):
                edges = np.flatnonzero(graph.bonds[1] == atom)
                new = convolve.own.weight @ state[atom]
                for e in edges:
                    bond = torch.from_numpy(graph.bond_features[e]).double()
                    sent = torch.cat([state[graph.bonds[0, e]], bond])
                    new = new + sent @ convolve.neighbours[len(edges) - 1]
                rows.append(new)
            raw.append(torch.stack(rows))
        all_atoms = torch.cat(raw)
        mean, variance = all_atoms.mean(0), all_atoms.var(0, unbiased=False)
        if not training:
            mean, variance = convolve.norm.mean, convolve.norm.variance
        states = [torch.relu((r - mean) / torch.sqrt(variance + EPS)) for r in raw]
        out = [o + torch.softmax(read[level + 1](h), 1) for o, h in zip(out, states, strict=True)]
    return out


def twin_attention(attention: torch.nn.Module, asking: Tensor, asked: Tensor, there: Tensor) -> Tensor:
    """One sample: (G, D), (M, D), (M,) -> (G, D), head by head."""
    query, key, value = attention.query(asking), attention.key(asked), attention.value(asked)
    width = query.shape[1] // attention.heads
    heads = []
    for h in range(attention.heads):
        part = slice(h * width, (h + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        heads.append(torch.softmax(scores.masked_fill(~there, -1e10), dim=1) @ value[:, part])
    return attention.out(torch.cat(heads, dim=1))


def twin(network: DeepceNetwork, samples: list[int], line: Tensor, dose: Tensor, training: bool) -> Tensor:
    """Return predictions (B, G): every sample on its own, atoms padded, no value shared between samples."""
    molecules = twin_fingerprint(network, samples, training)
    most = max(map(len, molecules))
    out = []
    for atoms, at_line, at_dose in zip(molecules, line, dose, strict=True):
        padded = torch.cat([atoms, torch.zeros(most - len(atoms), atoms.shape[1], dtype=atoms.dtype)])
        there = torch.arange(most) < len(atoms)
        genes = network.embed(network.vectors_GV)
        for layer in network.layers:
            both = torch.cat(
                [
                    twin_attention(layer.at_atoms, genes, padded, there),
                    twin_attention(layer.at_genes, genes, genes, torch.ones(len(genes), dtype=torch.bool)),
                ],
                dim=1,
            )
            genes = layer.norm(genes + torch.relu(layer.merge(both)))
            genes = layer.norm(genes + layer.feed(genes))
        genes = network.out(genes)
        drug, here = padded.sum(0), torch.cat([network.line(at_line), network.dose(at_dose)])
        every = torch.cat([genes, drug.expand(len(genes), -1), here.expand(len(genes), -1)], dim=1)
        out.append(network.value(torch.relu(network.hidden(torch.relu(every))))[:, 0])
    return torch.stack(out)


def planted(n: int = 24, vectors: bool = True) -> DeepceData:
    """Signatures of the six molecules: genes answer to their number of atoms, doses scale."""
    draw = rng("planted deepce")
    compound = np.arange(n) % len(SMILES)
    line, dose = np.eye(LINES)[draw.integers(LINES, size=n)], np.eye(DOSES)[np.arange(n) // len(SMILES) % DOSES]
    size = molecule_graphs(SMILES, "deepce")
    atoms = np.bincount(size.molecule)[compound] / 4.0
    slope = draw.normal(size=GENES)
    targets = (1 + dose[:, :1]) * atoms[:, None] * slope + 0.05 * draw.normal(size=(n, GENES))
    rows = np.arange(n)
    return DeepceData(
        molecule_graphs(SMILES, "deepce"),
        compound,
        line.astype(np.float32),
        dose.astype(np.float32),
        targets.astype(np.float32),
        rows[: n // 2],
        rows[n // 2 : 3 * n // 4],
        rows[3 * n // 4 :],
        draw.normal(size=(GENES, 5)).astype(np.float32) if vectors else None,
    )


def double(network_inputs: tuple) -> tuple:
    """Return inputs with every float tensor in float64."""
    molecules, compound, line, dose = network_inputs
    wide = replace(
        molecules,
        atoms_AF=molecules.atoms_AF.double(),
        bonds_EK=molecules.bonds_EK.double(),
        degree_AN=molecules.degree_AN.double(),
    )
    return wide, compound, line.double(), dose.double()


def network_of(data: DeepceData, options: DeepceOptions = SMALL) -> DeepceNetwork:
    torch.manual_seed(1)
    genes = GENES if data.vectors is None else torch.from_numpy(data.vectors)
    return DeepceNetwork(genes, LINES, DOSES, options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("given", [True, False], ids=["given_vectors", "own_table"])
def test_network_equals_the_naive_twin_with_all_gradients(training: bool, given: bool) -> None:
    data = planted(vectors=given)
    rows = np.array([3, 9, 0, 1, 15, 6, 7, 12, 4])  # compounds several times, in no order
    network = network_of(data).double().train(training)
    for convolve in network.fingerprint.convolve:  # not the values that the norm starts at
        convolve.norm.mean.fill_(0.1), convolve.norm.variance.fill_(0.7)
    kept = {name: b.clone() for name, b in network.named_buffers()}
    weights = torch.from_numpy(rng("weights of outputs").normal(size=(len(rows), GENES)))

    def gradients(output: Tensor) -> dict[str, Tensor]:
        network.zero_grad()
        (output * weights).sum().backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}

    fast = network(*double(inputs(data, rows, "cpu")))
    of_fast = gradients(fast)
    after = {name: b.clone() for name, b in network.named_buffers()}
    network.load_state_dict(kept, strict=False)
    line, dose = (torch.from_numpy(x[rows]).double() for x in (data.line, data.dose))
    slow = twin(network, data.compound[rows].tolist(), line, dose, training)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    for name, gradient in gradients(slow).items():
        torch.testing.assert_close(of_fast[name], gradient, rtol=1e-7, atol=1e-9, msg=name)
    assert all((g != 0).any() for n, g in of_fast.items() if ".key.bias" not in n)
    moved = any(not torch.equal(kept[n], after[n]) for n in kept)
    assert moved == training


def test_weights_of_the_norm_count_rows_like_torch() -> None:
    x = torch.from_numpy(rng("rows of a norm").normal(size=(6, 3)))
    times = torch.tensor([1, 3, 2, 1, 1, 4])
    ours, theirs = AtomNorm(3).double(), torch.nn.BatchNorm1d(3, affine=False).double()
    expected = theirs(x.repeat_interleave(times, dim=0))
    torch.testing.assert_close(ours(x, times.double()).repeat_interleave(times, dim=0), expected)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    lonely = AtomNorm(3).double()
    assert torch.isfinite(lonely(x[:1], torch.ones(1).double())).all() and torch.isfinite(lonely.variance).all()


def test_an_atom_without_neighbours_and_one_with_too_many() -> None:
    assert not Molecules.of(molecule_graphs(["C"], "deepce")).degree_AN.any()
    star = molecule_graphs(["FS(F)(F)F"], "deepce")
    crowded = replace(star, bonds=np.hstack([star.bonds] * 2), bond_features=np.vstack([star.bond_features] * 2))
    with pytest.raises(InputDataError, match="an atom with 8 neighbours"):
        Molecules.of(crowded)


def test_the_drug_tower_sees_each_compound_of_a_batch_once() -> None:
    data = planted()
    molecules, compound, *_ = inputs(data, np.array([0, 6, 12, 1]), "cpu")
    assert molecules.n == 2 and compound.tolist() == [0, 0, 0, 1]
    assert len(molecules.atoms_AF) == 3 + 9  # ethanol and benzamide, once each


def test_batches_cover_the_training_part_once() -> None:
    data = planted()
    torch.manual_seed(0)
    by_signature = batches(data, SMALL.model_copy(update={"batch_size": 5}))
    assert [len(b) for b in by_signature] == [5, 5, 2]
    by_compound = batches(data, SMALL.model_copy(update={"batch_compounds": 2}))
    assert [len(np.unique(data.compound[b])) for b in by_compound] == [2, 2, 2]
    for drawn in (by_signature, by_compound):
        np.testing.assert_array_equal(np.sort(np.concatenate(drawn)), data.train)


def test_predictions_do_not_depend_on_how_they_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted()
    network = network_of(data)
    rows = rng("order").permutation(24)
    whole = predict(network, data, rows, SMALL)
    monkeypatch.setattr("sclong.tasks.chemical_perturbation.deepce_network.PREDICTED_VALUES", 3 * GENES)
    np.testing.assert_allclose(predict(network, data, rows, SMALL), whole, atol=1e-5)
    np.testing.assert_allclose(predict(network, data, rows[::-1], SMALL)[::-1], whole, atol=1e-5)
    assert predict(network, data, np.zeros(0, dtype=int), SMALL).shape == (0, GENES)


def test_training_learns_what_is_planted_and_keeps_the_best_epoch() -> None:
    data = planted(48)
    options = SMALL.model_copy(update={"epochs": 25, "learning_rate": 0.02, "batch_compounds": 3})
    network = network_of(data, options)
    scores = fit(network, data, options)
    predicted, truth = predict(network, data, data.test, options), data.targets[data.test]
    mean = data.targets[data.train].mean(0)
    assert ((predicted - truth) ** 2).mean() < 0.5 * ((mean - truth) ** 2).mean()
    kept = pearson(data.targets[data.validation], predict(network, data, data.validation, options)).mean()
    assert kept == pytest.approx(max(scores), abs=1e-6) and len(scores) == 25


def test_a_seed_is_a_training_and_test_targets_change_nothing() -> None:
    data = planted()
    state = torch.get_rng_state()
    first = fit_predict_deepce(data, SMALL, 1)
    assert torch.equal(state, torch.get_rng_state())
    targets = data.targets.copy()
    targets[data.test] = np.nan
    np.testing.assert_array_equal(first, fit_predict_deepce(replace(data, targets=targets), SMALL, 1))
    assert not np.allclose(first, fit_predict_deepce(data, SMALL, 2))
    assert first.shape == (6, GENES) and first.dtype == np.float32


def test_a_given_table_stays_and_an_own_one_is_trained() -> None:
    for given in (True, False):
        data = planted(vectors=given)
        network = network_of(data)
        before = network.vectors_GV.detach().clone()
        fit(network, data, SMALL)
        assert torch.equal(before, network.vectors_GV) == given


def test_what_cannot_be_trained() -> None:
    data = planted()
    nothing = np.zeros(0, dtype=int)
    with pytest.raises(InputDataError, match="training part has no signatures"):
        fit_predict_deepce(replace(data, train=nothing), SMALL, 0)
    with pytest.raises(InputDataError, match="validation part has no signatures"):
        fit_predict_deepce(replace(data, validation=nothing), SMALL, 0)
    with pytest.raises(CardError, match="hidden 8 with 3 heads"):
        fit_predict_deepce(data, SMALL.model_copy(update={"heads": 3}), 0)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="finds no GPU"):
            fit_predict_deepce(data, SMALL.model_copy(update={"device": "cuda"}), 0)


def test_published_sizes() -> None:
    network = DeepceNetwork(torch.zeros(978, 128), 7, 6, DeepceOptions())
    assert network.hidden.in_features == 264 and len(network.layers) == 2
    assert [r.in_features for r in network.fingerprint.read] == [62, 16, 16]
    assert network.fingerprint.convolve[0].neighbours.shape == (5, 68, 16)
    assert not network.embed.bias.any() and network.layers[0].at_genes.query.bias.any()  # zero outside attention


def test_a_training_goes_on_after_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its second epoch, it ends with the answer of a training in one go."""
    data, options = planted(), SMALL.model_copy(update={"epochs": 4})

    def train() -> np.ndarray:
        return fit_predict_deepce(data, options, 1)

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
