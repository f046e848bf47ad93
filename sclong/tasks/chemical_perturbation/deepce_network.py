"""DeepCE (Pham et al. 2021): what a molecule does to each of a list of genes, in a line and at a dose.

A neural fingerprint gives a vector for each atom; two attention layers let genes look at the atoms and at each other;
a small network reads a number for each gene from its vector, the sum of the atoms' vectors, line and dose.

Genes and molecule meet before line and dose do, so all of it but the last network is computed once for each distinct
compound of a batch, and so is the part of its first layer that does not see line and dose. This changes no value: the
normalisation over atoms counts each atom as often as its compound stands in the batch. Dropout is drawn per compound.

As published, but for: float32 (published: float64); no bias before the normalisation over atoms, which would cancel it.

Shape suffixes: A atoms, F features of an atom, E bonds (both directions), K features of a bond, U distinct compounds
of a batch, M most atoms of one, B signatures, G genes, V width of given gene vectors, D hidden, L lines, S doses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sclong.benchmark.regression import pearson
from sclong.benchmark.resume import Continuation
from sclong.benchmark.selection import BestEpoch
from sclong.config.cards import Strict
from sclong.drugs.molecules import WIDTHS, MoleculeGraphs
from sclong.errors import CardError, DeviceError, InputDataError
from sclong.runlog import LOGGER
from sclong.seeding import derive_seed

MOST_NEIGHBOURS = 5
PREDICTED_VALUES = 2**17  # signatures x genes that are predicted at once


class DeepceOptions(Strict):
    """How a network is built and trained; defaults are the published settings."""

    hidden: int = Field(default=128, ge=1, description="D, width of genes and atoms")
    heads: int = Field(default=4, ge=1)
    layers: int = Field(default=2, ge=1)
    feed_forward: int = Field(default=512, ge=1)
    convolutions: tuple[int, ...] = Field(default=(16, 16), description="width of atoms after each convolution")
    context: int = Field(default=4, ge=1, description="numbers for the line, and for the dose")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=32, ge=1, description="signatures")
    batch_compounds: int | None = Field(
        default=None, ge=1, description="instead: a batch is all signatures of so many compounds, which costs less"
    )
    learning_rate: float = Field(default=2e-4, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Molecules:
    """Molecules of a batch as tensors: float32 features, int64 positions."""

    n: int  # molecules, U
    atoms_AF: Tensor
    source_E: Tensor
    target_E: Tensor
    bonds_EK: Tensor
    molecule_A: Tensor
    place_A: Tensor  # place of the atom in its molecule
    degree_AN: Tensor  # one-hot: 1, 2, ... neighbours

    @classmethod
    def of(cls, graphs: MoleculeGraphs, device: str = "cpu") -> Molecules:
        """Return the tensors of `graphs`.

        Raises
        ------
        InputDataError
            An atom has more neighbours than there are weights for.
        """
        degree = np.bincount(graphs.bonds[1], minlength=len(graphs.atoms))
        if degree.max(initial=0) > MOST_NEIGHBOURS:
            raise InputDataError(
                f"an atom with {degree.max()} neighbours", f"at most {MOST_NEIGHBOURS}", "remove this compound"
            )
        first = np.searchsorted(graphs.molecule, np.arange(graphs.n_molecules))
        place = np.arange(len(graphs.atoms)) - first[graphs.molecule]
        degrees = (degree[:, None] == np.arange(1, MOST_NEIGHBOURS + 1)).astype(np.float32)
        arrays = (graphs.atoms, *graphs.bonds, graphs.bond_features, graphs.molecule, place, degrees)
        tensors = [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays]
        return cls(graphs.n_molecules, *tensors)

    def pad(self, atoms_AD: Tensor) -> tuple[Tensor, Tensor]:
        """Return atoms by molecule, (U, M, D), zero where there is none, and where there is one, (U, M) bool."""
        most = int(self.place_A.max()) + 1
        padded_UMD = atoms_AD.new_zeros(self.n, most, atoms_AD.shape[1])
        there_UM = torch.zeros(self.n, most, dtype=torch.bool, device=atoms_AD.device)
        at = (self.molecule_A, self.place_A)
        there_UM[at] = True
        return padded_UMD.index_put(at, atoms_AD), there_UM


class AtomNorm(nn.Module):
    """Batch normalisation without scale and shift, in which a row counts as often as its weight says."""

    mean: Tensor
    variance: Tensor
    momentum, eps = 0.1, 1e-5

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x_AD: Tensor, weight_A: Tensor) -> Tensor:
        """Normalise rows; in training by their own weighted mean and variance, which the kept ones follow."""
        mean_D, variance_D = self.mean, self.variance
        if self.training:
            total = weight_A.sum()
            share_A1 = (weight_A / total)[:, None]
            mean_D = (share_A1 * x_AD).sum(0)
            variance_D = (share_A1 * (x_AD - mean_D) ** 2).sum(0)
            with torch.no_grad():
                self.mean.lerp_(mean_D, self.momentum)
                self.variance.lerp_(variance_D * total / (total - 1).clamp(min=1), self.momentum)
        return (x_AD - mean_D) / torch.sqrt(variance_D + self.eps)


class DegreeConvolution(nn.Module):
    """An atom and the sum over its neighbours (with the bonds to them), with weights for each number of neighbours."""

    def __init__(self, width: int, bond_width: int, out: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, out, bias=False)
        self.neighbours = nn.Parameter(torch.empty(MOST_NEIGHBOURS, width + bond_width, out))  # for 1, 2, ... of them
        self.norm = AtomNorm(out)

    def forward(self, atoms_AD: Tensor, molecules: Molecules, weight_A: Tensor) -> Tensor:
        """Return (A, out)."""
        sent_ED = torch.cat([atoms_AD[molecules.source_E], molecules.bonds_EK], dim=1)
        sum_AD = sent_ED.new_zeros(len(atoms_AD), sent_ED.shape[1]).index_add(0, molecules.target_E, sent_ED)
        by_degree = (molecules.degree_AN[:, :, None] * sum_AD[:, None]).flatten(1)
        out_AD = self.own(atoms_AD) + by_degree @ self.neighbours.flatten(0, 1)
        return torch.relu(self.norm(out_AD, weight_A))


class NeuralFingerprint(nn.Module):
    """A vector for each atom: the sum over levels (features, after each convolution) of a softmax of a linear map."""

    def __init__(self, convolutions: tuple[int, ...], out: int) -> None:
        super().__init__()
        atom_width, bond_width = WIDTHS["deepce"]
        widths = [atom_width, *convolutions]
        self.read = nn.ModuleList(nn.Linear(width, out) for width in widths)
        self.convolve = nn.ModuleList(DegreeConvolution(a, bond_width, b) for a, b in pairwise(widths))

    def forward(self, molecules: Molecules, weight_A: Tensor) -> Tensor:
        """Return (A, out); `weight_A` says how often each atom counts in the normalisation."""
        state_AD = molecules.atoms_AF
        out_AD = torch.softmax(self.read[0](state_AD), dim=1)
        for convolve, read in zip(self.convolve, list(self.read)[1:], strict=True):
            state_AD = convolve(state_AD, molecules, weight_A)
            out_AD = out_AD + torch.softmax(read(state_AD), dim=1)
        return out_AD


class Attention(nn.Module):
    """Multi-head attention; inputs of one row serve all rows of the other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, asking_UGD: Tensor, asked_UMD: Tensor, there_UM: Tensor | None = None) -> Tensor:
        """Return (U, G, D); `there_UM` says which of the asked are there."""
        rows = max(len(asking_UGD), len(asked_UMD))

        def split(x: Tensor) -> Tensor:
            return x.unflatten(2, (self.heads, -1)).transpose(1, 2).expand(rows, -1, -1, -1)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(asking_UGD)),
            split(self.key(asked_UMD)),
            split(self.value(asked_UMD)),
            attn_mask=None if there_UM is None else there_UM[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class GeneLayer(nn.Module):
    """Genes look at atoms and at each other, then feed forward; one layer norm for both residuals."""

    def __init__(self, options: DeepceOptions) -> None:
        super().__init__()
        width, dropout = options.hidden, options.dropout
        self.at_atoms, self.at_genes = (Attention(width, options.heads, dropout) for _ in range(2))
        self.merge = nn.Linear(2 * width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, options.feed_forward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(options.feed_forward, width),
        )
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, genes_UGD: Tensor, atoms_UMD: Tensor, there_UM: Tensor) -> Tensor:
        """Return (U, G, D); `genes_UGD` may have one row for all compounds."""
        atoms_UGD = self.at_atoms(genes_UGD, atoms_UMD, there_UM)
        both = torch.cat([atoms_UGD, self.at_genes(genes_UGD, genes_UGD).expand_as(atoms_UGD)], dim=2)
        genes_UGD = self.norm(genes_UGD + self.dropout(torch.relu(self.merge(both))))
        return self.norm(genes_UGD + self.dropout(self.feed(genes_UGD)))


class DeepceNetwork(nn.Module):
    """The network; see the module.

    Parameters
    ----------
    genes
        Vectors of the genes, (G, V) float32, which stay as they are, or how many genes there are: the network then has
        a table of vectors of its own, random at first and trained.
    n_lines, n_doses, options
        L, S; of the network.
    """

    vectors_GV: Tensor

    def __init__(self, genes: Tensor | int, n_lines: int, n_doses: int, options: DeepceOptions) -> None:
        super().__init__()
        width = options.hidden
        if width % options.heads:
            raise CardError(
                f"hidden {width} with {options.heads} heads", "hidden a multiple of heads", "correct the model's card"
            )
        self.fingerprint = NeuralFingerprint(options.convolutions, width)
        self.embed = nn.Linear(width if isinstance(genes, int) else genes.shape[1], width)
        self.layers = nn.ModuleList(GeneLayer(options) for _ in range(options.layers))
        self.out = nn.Linear(width, width)
        self.line, self.dose = nn.Linear(n_lines, options.context), nn.Linear(n_doses, options.context)
        self.hidden = nn.Linear(2 * width + 2 * options.context, width)
        self.value = nn.Linear(width, 1)
        for part in (self.fingerprint, self.embed, self.line, self.dose, self.hidden, self.value):
            for parameter in part.parameters():  # as published; the attention keeps torch's own start
                for matrix in parameter if parameter.dim() == 3 else [parameter]:
                    (nn.init.zeros_ if matrix.dim() == 1 else nn.init.xavier_uniform_)(matrix)
        if isinstance(genes, int):
            self.vectors_GV = nn.Parameter(torch.randn(genes, width))
        else:
            self.register_buffer("vectors_GV", genes)

    def forward(self, molecules: Molecules, compound_B: Tensor, line_BL: Tensor, dose_BS: Tensor) -> Tensor:
        """Return the predicted signatures, (B, G).

        Parameters
        ----------
        molecules
            The distinct compounds of the batch.
        compound_B : int64
            Which of them each signature is of.
        line_BL, dose_BS : float32
            One-hot; all zero for one that training does not have.
        """
        times_U = torch.bincount(compound_B, minlength=molecules.n).to(line_BL.dtype)
        atoms_UMD, there_UM = molecules.pad(self.fingerprint(molecules, times_U[molecules.molecule_A]))
        genes_UGD = self.embed(self.vectors_GV)[None]
        for layer in self.layers:
            genes_UGD = layer(genes_UGD, atoms_UMD, there_UM)
        genes_UGD, drug_UD = self.out(genes_UGD), atoms_UMD.sum(1)
        sizes = [genes_UGD.shape[2], drug_UD.shape[1], self.line.out_features, self.dose.out_features]
        w_genes, w_drug, w_line, w_dose = self.hidden.weight.split(sizes, dim=1)
        seen_UGD = torch.relu(genes_UGD) @ w_genes.T + (torch.relu(drug_UD) @ w_drug.T)[:, None]
        where_BD = torch.relu(self.line(line_BL)) @ w_line.T + torch.relu(self.dose(dose_BS)) @ w_dose.T
        hidden_BGD = seen_UGD[compound_B] + (where_BD + self.hidden.bias)[:, None]
        return self.value(torch.relu(hidden_BGD))[:, :, 0]


@dataclass(frozen=True)
class DeepceData:
    """Signatures: what was done, and what came of it.

    Attributes
    ----------
    graphs
        The compounds, featurised as "deepce".
    compound : (N,) int64
        Compound of each signature.
    line, dose : (N, L), (N, S) float32
        One-hot.
    targets : (N, G) float32
        Only rows of `train` and `validation` are looked at.
    train, validation, test : (n,) int64
        Rows.
    vectors : (G, V) float32 or None
        Gene vectors; None: the network has a table of its own.
    """

    graphs: MoleculeGraphs
    compound: np.ndarray
    line: np.ndarray
    dose: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vectors: np.ndarray | None = None


def fit_predict_deepce(data: DeepceData, options: DeepceOptions, seed: int) -> np.ndarray:
    """Train on the training part, keep the epoch that is best on the validation part, predict the test part.

    The loss is the mean squared error; the best epoch has the highest Pearson correlation, averaged over signatures.

    Parameters
    ----------
    data, options
        See there.
    seed
        Gives initial weights, the order of signatures and dropout. The global state of torch is left as it was.

    Returns
    -------
    (test, G) float32

    Raises
    ------
    InputDataError, DeviceError, CardError
        An empty training or validation part; no such device here; options that cannot be.
    """
    for part, rows in (("training", data.train), ("validation", data.validation)):
        if len(rows) == 0:
            raise InputDataError(
                f"the {part} part has no signatures",
                "a training part to fit and a validation part to choose the epoch on (never the test part)",
                "use a split policy, or split options, that leave signatures for it",
            )
    if options.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda, and torch finds no GPU", "a GPU", "set device: cpu in the model card's options")
    n_genes = data.targets.shape[1]
    genes = n_genes if data.vectors is None else torch.from_numpy(np.asarray(data.vectors, dtype=np.float32))
    gpus = [torch.cuda.current_device()] if options.device == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(derive_seed("deepce", seed))
        network = DeepceNetwork(genes, data.line.shape[1], data.dose.shape[1], options).to(options.device)
        fit(network, data, options)
    return predict(network, data, data.test, options)


def fit(network: DeepceNetwork, data: DeepceData, options: DeepceOptions) -> list[float]:
    """Train `network` in place and leave it at its best epoch; return the validation correlation of each epoch."""
    targets = torch.from_numpy(np.asarray(data.targets, dtype=np.float32))
    optimiser, best = torch.optim.Adam(network.parameters(), lr=options.learning_rate, fused=True), BestEpoch(network)
    training = Continuation("deepce", network, optimiser, best)
    for epoch in range(training.restore(), options.epochs):
        network.train()
        total = 0.0
        for rows in batches(data, options):
            optimiser.zero_grad(set_to_none=True)
            loss = functional.mse_loss(network(*inputs(data, rows, options.device)), targets[rows].to(options.device))
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        chosen_by = pearson(data.targets[data.validation], predict(network, data, data.validation, options))
        best.update(float(chosen_by.mean()))
        LOGGER.info("epoch %d: loss %.4f, validation %.4f", epoch + 1, total / len(data.train), best.scores[-1])
        training.done(epoch + 1)
    best.restore()
    return best.scores


def batches(data: DeepceData, options: DeepceOptions) -> list[np.ndarray]:
    """Return the rows of each training batch of an epoch, drawn by torch."""
    if options.batch_compounds is None:
        return [data.train[b.numpy()] for b in torch.randperm(len(data.train)).split(options.batch_size)]
    of_train = data.compound[data.train]
    drawn, n = np.unique(of_train)[torch.randperm(len(np.unique(of_train))).numpy()], options.batch_compounds
    return [data.train[np.isin(of_train, some)] for some in np.array_split(drawn, range(n, len(drawn), n))]


def inputs(data: DeepceData, rows: np.ndarray, device: str) -> tuple[Molecules, Tensor, Tensor, Tensor]:
    """Return what the network takes for some signatures: each distinct compound stands there once."""
    distinct, compound = np.unique(data.compound[rows], return_inverse=True)
    arrays = (compound, np.asarray(data.line[rows], np.float32), np.asarray(data.dose[rows], np.float32))
    compound_B, line_BL, dose_BS = (torch.from_numpy(a).to(device) for a in arrays)
    return Molecules.of(data.graphs.select(distinct), device), compound_B, line_BL, dose_BS


@torch.no_grad()
def predict(network: DeepceNetwork, data: DeepceData, rows: np.ndarray, options: DeepceOptions) -> np.ndarray:
    """Return the predicted signatures of `rows`, (n, G) float32; those of a compound are predicted together."""
    network.eval()
    out = np.empty((len(rows), data.targets.shape[1]), dtype=np.float32)
    order = np.argsort(data.compound[rows], kind="stable")
    step = max(PREDICTED_VALUES // data.targets.shape[1], 1)
    for start in range(0, len(order), step):
        places = order[start : start + step]
        out[places] = network(*inputs(data, rows[places], options.device)).cpu().numpy()
    return out
