"""The network of DeepCDR (Liu et al. 2020): a drug's graph and a line's omics give ln IC50.

Each distinct drug of a batch goes once through the graph layers, each distinct line once through its towers; their
rows are then gathered by pair. Normalisation counts a row as often as its drug or line stands in the batch, so that
without dropout the result is that of a network which computes every pair by itself.

Shape suffixes: N pairs, D drugs, A atoms, E directed edges, L lines, F features, H width of a layer, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sclong.drugs.molecules import MoleculeGraphs
from sclong.errors import InputDataError

EXPRESSION, METHYLATION, MUTATION = "expression", "methylation", "mutation"
OMICS = (EXPRESSION, METHYLATION, MUTATION)


@dataclass(frozen=True)
class DrugGraphs:
    """Molecules with a normalised adjacency: D^(-1/2) (bonds + self loops) D^(-1/2).

    Attributes
    ----------
    atoms_AF : (A, F) float32
    source_E, target_E : (E,) int64
        Rows of `atoms_AF`; self loops are among the edges.
    weight_E : (E,) float32
    molecule_A : (A,) int64, ascending
    n_atoms_D : (D,) float32
    """

    atoms_AF: Tensor
    source_E: Tensor
    target_E: Tensor
    weight_E: Tensor
    molecule_A: Tensor
    n_atoms_D: Tensor

    @classmethod
    def of(cls, graphs: MoleculeGraphs) -> DrugGraphs:
        """Add self loops and weights to molecules."""
        atoms_AF = torch.as_tensor(graphs.atoms, dtype=torch.float32)
        loops_A = torch.arange(len(atoms_AF))
        source_E, target_E = (torch.cat([torch.as_tensor(ends), loops_A]) for ends in graphs.bonds)
        degree_A = torch.bincount(target_E, minlength=len(atoms_AF)).float()
        molecule_A = torch.as_tensor(graphs.molecule)
        return cls(
            atoms_AF,
            source_E,
            target_E,
            (degree_A[source_E] * degree_A[target_E]).rsqrt(),
            molecule_A,
            torch.bincount(molecule_A, minlength=graphs.n_molecules).float(),
        )

    def select(self, drugs_D: Tensor) -> DrugGraphs:
        """Return some of the molecules; `drugs_D` is ascending and has none twice."""
        if len(drugs_D) == len(self.n_atoms_D):
            return self
        new_D = torch.full((len(self.n_atoms_D),), -1).index_copy_(0, drugs_D, torch.arange(len(drugs_D)))
        kept_A = new_D[self.molecule_A] >= 0
        place_A = kept_A.cumsum(0) - 1
        kept_E = kept_A[self.source_E]
        return DrugGraphs(
            self.atoms_AF[kept_A],
            place_A[self.source_E[kept_E]],
            place_A[self.target_E[kept_E]],
            self.weight_E[kept_E],
            new_D[self.molecule_A[kept_A]],
            self.n_atoms_D[drugs_D],
        )

    def propagate(self, x_AH: Tensor) -> Tensor:
        """Multiply by the normalised adjacency, (A, H)."""
        messages_EH = x_AH[self.source_E] * self.weight_E[:, None]
        return torch.zeros_like(x_AH).index_add(0, self.target_E, messages_EH)


class WeightedBatchNorm(nn.Module):
    """Batch normalisation in which a row counts as often as its weight says."""

    running_mean_H: Tensor
    running_variance_H: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.gain_H, self.bias_H = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean_H", torch.zeros(width))
        self.register_buffer("running_variance_H", torch.ones(width))

    def forward(self, x_RH: Tensor, weight_R: Tensor) -> Tensor:
        """Normalise (R, H) by weighted statistics (training) or by their running means."""
        if self.training:
            share_R = weight_R / weight_R.sum()
            mean_H = share_R @ x_RH
            centred_RH = x_RH - mean_H
            variance_H = share_R @ centred_RH.square()
            with torch.no_grad():
                self.running_mean_H.lerp_(mean_H, self.momentum)
                self.running_variance_H.lerp_(variance_H, self.momentum)
        else:
            centred_RH, variance_H = x_RH - self.running_mean_H, self.running_variance_H
        return torch.addcmul(self.bias_H, centred_RH, self.gain_H * (variance_H + self.eps).rsqrt())


class DrugTower(nn.Module):
    """Graph layers (propagate the linear map, ReLU, batch normalisation, dropout), then the mean over positions.

    Parameters
    ----------
    inputs, hidden
        Features of an atom; width of each layer.
    dropout
        After every layer.
    positions
        None: the mean is over a drug's atoms. A number: over so many positions, of which those beyond the atoms are
        padding, as published (100). Padding positions have only a self loop, so they all have the same vector; they
        count in the normalisation and in the mean, and get no dropout.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], dropout: float, positions: int | None) -> None:
        super().__init__()
        self.positions, self.dropout = positions, nn.Dropout(dropout)
        widths = [inputs, *hidden]
        self.linear = nn.ModuleList([nn.Linear(a, b) for a, b in zip(widths, hidden, strict=False)])
        self.norm = nn.ModuleList([WeightedBatchNorm(width) for width in hidden])

    def forward(self, graphs: DrugGraphs, count_D: Tensor) -> Tensor:
        """Return one vector per drug, (D, H); `count_D` is how often each stands in the batch."""
        x_AH, weight_A = graphs.atoms_AF, count_D[graphs.molecule_A]
        n_atoms_D = graphs.n_atoms_D
        if self.positions is None:
            for linear, norm in zip(self.linear, self.norm, strict=True):
                x_AH = self.dropout(norm(graphs.propagate(linear(x_AH)).relu(), weight_A))
            return _sum_by(x_AH, graphs) / n_atoms_D[:, None]
        padding_D = self.positions - n_atoms_D
        weight_R = torch.cat([weight_A, (count_D @ padding_D)[None]])
        padding_1H = x_AH.new_zeros(1, x_AH.shape[1])
        for linear, norm in zip(self.linear, self.norm, strict=True):
            joined_RH = torch.cat([graphs.propagate(linear(x_AH)), linear(padding_1H)]).relu()
            joined_RH = norm(joined_RH, weight_R)
            x_AH, padding_1H = self.dropout(joined_RH[:-1]), joined_RH[-1:]
        return (_sum_by(x_AH, graphs) + padding_D[:, None] * padding_1H) / self.positions


def _sum_by(x_AH: Tensor, graphs: DrugGraphs) -> Tensor:
    return x_AH.new_zeros(len(graphs.n_atoms_D), x_AH.shape[1]).index_add(0, graphs.molecule_A, x_AH)


class LineTower(nn.Module):
    """Dense tanh, batch normalisation, dropout, dense ReLU: expression, methylation or an embedding of a line."""

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(inputs, hidden), WeightedBatchNorm(hidden)
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(hidden, outputs)

    def forward(self, x_LF: Tensor, count_L: Tensor) -> Tensor:
        """Return (L, outputs)."""
        return self.last(self.dropout(self.norm(self.first(x_LF).tanh(), count_L))).relu()


class MutationTower(nn.Module):
    """Two convolutions along the list of genes (or positions), then dense ReLU."""

    def __init__(self, inputs: int, outputs: int, dropout: float, kernel: int = 700) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, 50, kernel, stride=5),
            nn.Tanh(),
            nn.MaxPool1d(5),
            nn.Conv1d(50, 30, 5, stride=2),
            nn.ReLU(),
            nn.MaxPool1d(10),
            nn.Flatten(),
        )
        length = (((inputs - kernel) // 5 + 1) // 5 - 5) // 2 + 1
        if inputs < kernel or length < 10:
            raise InputDataError(
                f"mutations of {inputs} genes",
                f"enough for convolutions of width {kernel}: thousands of genes",
                "leave mutation out of the card's omics",
            )
        self.last, self.dropout = nn.Linear(30 * (length // 10), outputs), nn.Dropout(dropout)

    def forward(self, x_LF: Tensor, count_L: Tensor) -> Tensor:
        """Return (L, outputs)."""
        return self.dropout(self.last(self.convolutions(x_LF[:, None])).relu())


class Fusion(nn.Module):
    """Dense tanh, then three convolutions along its units with pooling, then one number."""

    def __init__(self, inputs: int, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        length = (((width - kernel + 1) // 2 - 4) // 3 - 4) // 3
        if length < 1:
            raise ValueError(f"a fusion of {width} units is too narrow for a first convolution of width {kernel}")
        self.layers = nn.Sequential(
            nn.Linear(inputs, width),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Unflatten(1, (1, width)),
            nn.Conv1d(1, 30, kernel),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(30, 10, 5),
            nn.ReLU(),
            nn.MaxPool1d(3),
            nn.Conv1d(10, 5, 5),
            nn.ReLU(),
            nn.MaxPool1d(3),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Dropout(2 * dropout),
        )
        self.last = nn.Linear(5 * length, 1)

    def forward(self, x_NF: Tensor) -> Tensor:
        """Return (N,)."""
        return self.last(self.layers(x_NF))[:, 0]


class DeepCDRNetwork(nn.Module):
    """DeepCDR over given drugs and lines.

    Parameters
    ----------
    graphs
        All drugs.
    omics
        Name (of :data:`OMICS`) -> (L, F) float32, all lines in one order. What stands for expression may be an
        embedding.
    hidden
        Width of each graph layer.
    tower, line_hidden
        Width of what every line tower gives; of its first layer.
    fusion, kernel
        Units, and width of the first convolution, where the towers meet.
    dropout, positions
        See :class:`DrugTower`.
    """

    def __init__(
        self,
        graphs: DrugGraphs,
        omics: Mapping[str, Tensor],
        *,
        hidden: Sequence[int] = (256, 256, 256, 100),
        line_hidden: int = 256,
        tower: int = 100,
        fusion: int = 300,
        kernel: int = 150,
        dropout: float = 0.1,
        positions: int | None = None,
    ) -> None:
        super().__init__()
        most = int(graphs.n_atoms_D.max())
        if positions is not None and most > positions:
            raise InputDataError(f"a drug of {most} atoms", f"at most {positions}", "raise the option positions")
        self.graphs, self.omics = graphs, dict(omics)
        self.drug = DrugTower(graphs.atoms_AF.shape[1], hidden, dropout, positions)
        self.line = nn.ModuleDict(
            {
                name: MutationTower(x_LF.shape[1], tower, dropout)
                if name == MUTATION
                else LineTower(x_LF.shape[1], line_hidden, tower, dropout)
                for name, x_LF in self.omics.items()
            }
        )
        self.fusion = Fusion(hidden[-1] + tower * len(self.omics), fusion, kernel, dropout)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):  # as Keras begins
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, drug_N: Tensor, line_N: Tensor) -> Tensor:
        """Return the response of each pair, (N,)."""
        drugs_D, drug_N, count_D = torch.unique(drug_N, return_inverse=True, return_counts=True)
        lines_L, line_N, count_L = torch.unique(line_N, return_inverse=True, return_counts=True)
        parts = [self.drug(self.graphs.select(drugs_D), count_D.float())[drug_N]]
        for name, tower in self.line.items():
            parts.append(tower(self.omics[name][lines_L], count_L.float())[line_N])
        return self.fusion(torch.cat(parts, 1))
