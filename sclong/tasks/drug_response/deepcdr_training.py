"""Training of :class:`.DeepCDRNetwork`, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from sclong.benchmark.mlp import Standardiser
from sclong.benchmark.regression import pearson
from sclong.benchmark.resume import Continuation
from sclong.benchmark.selection import BestEpoch
from sclong.config.cards import Strict
from sclong.drugs.molecules import MoleculeGraphs
from sclong.errors import CardError, InputDataError
from sclong.runlog import LOGGER
from sclong.seeding import derive_seed
from sclong.tasks.drug_response.deepcdr_network import DeepCDRNetwork, DrugGraphs

ANSWER_PAIRS = 4096
"""Pairs that go through the network at once where it answers."""


class DeepCDROptions(Strict):
    """How a network is built and trained; the published settings, but for what the text says."""

    hidden: tuple[int, ...] = Field(default=(256, 256, 256, 100), min_length=1, description="graph layers")
    line_hidden: int = Field(default=256, ge=1)
    tower: int = Field(default=100, ge=1)
    fusion: int = Field(default=300, ge=1)
    kernel: int = Field(default=150, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=0.5)
    positions: int | None = Field(default=None, ge=1, description="published: 100, padding is averaged with the atoms")
    epochs: int = Field(default=500, ge=1)
    patience: int = Field(default=10, ge=1, description="epochs without a better correlation that end the training")
    batch_size: int = Field(default=512, ge=2, description="pairs; published: 64")
    drugs_per_batch: int | None = Field(
        default=None,
        ge=1,
        description="a batch has pairs of so many drugs, drawn anew every epoch: fewer drug towers "
        "per step; null: of any, as published",
    )
    learning_rate: float = Field(default=1e-3, gt=0)
    select_on: Literal["validation", "test"] = Field(
        default="validation", description="part on which the epoch is chosen; published: test, which then is no test"
    )


@dataclass(frozen=True)
class ResponseData:
    """Pairs of drug and line, and what is known of both.

    Attributes
    ----------
    graphs
        The drugs.
    omics
        Name -> (lines, features) float, all in one order.
    drug, line : (n,) int64
        Of each pair.
    y : (n,) float
        Response; NaN where it is not to be seen.
    train, validation, test : int64
        Positions of the pairs of each part.
    """

    graphs: MoleculeGraphs
    omics: Mapping[str, np.ndarray]
    drug: np.ndarray
    line: np.ndarray
    y: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts_of(data: ResponseData, select_on: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs to learn from and those to choose the epoch on.

    As published (`select_on` "test") there is no validation part: its pairs are learned from.

    Raises
    ------
    InputDataError
        An empty part.
    CardError
        When the epoch is to be chosen on test pairs whose response is hidden.
    """
    if select_on == "test":
        if np.isnan(data.y[data.test]).any():
            raise CardError(
                "select_on: test, and the responses of the test pairs are hidden",
                "a card with protocol: paper and selects_on_test: true",
                "correct the model's card",
            )
        return np.concatenate([data.train, data.validation]), data.test
    for part, rows in (("training", data.train), ("validation", data.validation)):
        if len(rows) == 0:
            raise InputDataError(
                f"the {part} part has no pairs",
                "a training part to fit and a validation part to choose the epoch on (never the test part)",
                "use a split policy, or split options, that leave pairs for it",
            )
    return data.train, data.validation


def fit_predict_deepcdr(data: ResponseData, options: DeepCDROptions, seed: int) -> np.ndarray:
    """Train, keep the epoch whose Pearson correlation is best on the part that chooses, answer the test part.

    A job that was ended goes on after the last epoch that it kept (:class:`~sclong.benchmark.resume.Continuation`).

    Omics are standardised column by column over the lines of the training pairs, responses over the training pairs.

    Parameters
    ----------
    data, options
        See there.
    seed
        Gives initial weights, the order of pairs and dropout. The global state of torch is left as it was.

    Returns
    -------
    (test pairs,) float32

    Raises
    ------
    InputDataError, CardError
        See :func:`parts_of`.
    """
    learn, choose = parts_of(data, options.select_on)
    lines = np.unique(data.line[learn])
    omics = {
        name: Standardiser(values[lines], common_scale=False).forward(values) for name, values in data.omics.items()
    }
    scale = Standardiser(data.y[learn][:, None], common_scale=True)
    y_N = scale.forward(np.nan_to_num(data.y)[:, None])[:, 0]
    drug_N, line_N = torch.as_tensor(data.drug), torch.as_tensor(data.line)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("deepcdr", seed))
        network = DeepCDRNetwork(
            DrugGraphs.of(data.graphs),
            omics,
            hidden=options.hidden,
            line_hidden=options.line_hidden,
            tower=options.tower,
            fusion=options.fusion,
            kernel=options.kernel,
            dropout=options.dropout,
            positions=options.positions,
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        best = BestEpoch(network, options.patience)
        training = Continuation("deepcdr", network, optimiser, best)
        done = training.restore()
        for epoch in range(done, 0 if best.ended else options.epochs):
            network.train()
            total = 0.0
            for rows in batches(torch.as_tensor(learn), drug_N, options.batch_size, options.drugs_per_batch):
                optimiser.zero_grad(set_to_none=True)
                loss = nn.functional.mse_loss(network(drug_N[rows], line_N[rows]), y_N[rows])
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(rows)
            answer = predicted(network, drug_N[choose], line_N[choose])
            correlation = float(pearson(y_N[choose].numpy()[None], answer.numpy()[None])[0])
            LOGGER.info("epoch %d: loss %.4f, %s r %.4f", epoch + 1, total / len(learn), options.select_on, correlation)
            ended = best.update(correlation)
            training.done(epoch + 1)
            if ended:
                break
    best.restore()
    return scale.inverse(predicted(network, drug_N[data.test], line_N[data.test])[:, None])[:, 0]


def batches(rows_N: Tensor, drug_N: Tensor, size: int, drugs_per_batch: int | None) -> list[Tensor]:
    """Cut pairs into batches, drawn from torch's generator; every pair stands in one batch, but a last single one.

    Parameters
    ----------
    rows_N : (N,) int64
        The pairs to cut.
    drug_N : int64
        Drug of every pair of the data.
    size
        Pairs of a batch.
    drugs_per_batch
        See :class:`DeepCDROptions`.
    """
    rows_N = rows_N[torch.randperm(len(rows_N))]
    groups = [rows_N]
    if drugs_per_batch is not None:
        drugs_D = torch.unique(drug_N[rows_N])
        group_D = torch.full((int(drugs_D.max()) + 1,), -1)
        group_D[drugs_D[torch.randperm(len(drugs_D))]] = torch.arange(len(drugs_D)) // drugs_per_batch
        group_N = group_D[drug_N[rows_N]]
        groups = [rows_N[group_N == g] for g in range(int(group_N.max()) + 1)]
    cut = [batch for group in groups for batch in group.split(size) if len(batch) > 1]
    return [cut[i] for i in torch.randperm(len(cut))]


@torch.inference_mode()
def predicted(network: DeepCDRNetwork, drug_N: Tensor, line_N: Tensor) -> Tensor:
    """Return standardised responses of pairs, (N,), without dropout."""
    network.eval()
    pairs = zip(drug_N.split(ANSWER_PAIRS), line_N.split(ANSWER_PAIRS), strict=True)
    return torch.cat([network(drug, line) for drug, line in pairs])
