"""The network for genetic perturbations of GEARS, on a gene table of its own or on the vectors of a frozen encoder.

GEARS is Roohani, Huang and Leskovec 2024 (Nat Biotechnol 42:927). The scLong paper (Bai et al. 2026) puts its encoder
in the place of the gene table, leaves the co-expression branch out and tells the network which gene is perturbed. Both
are here; training is in :mod:`.gears_training`.

Shape suffixes: B cells of a batch, G measured genes, N nodes of the GO graph (the measured genes first), H hidden
width, D width of given gene vectors, K conditions, E edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import SGConv

Direction = Literal["smooth", "sign"]
SHARPNESS = 10.0
"""Of the smooth direction term: a change of 0.1 in log1p(CP10k) counts as tanh(1) of a direction."""
COEXPRESSION_SHARE = 0.2
"""How much of the co-expression branch is added to a gene's state, as in GEARS."""


@dataclass(frozen=True)
class Graph:
    """A weighted directed graph.

    Attributes
    ----------
    edges_2E : (2, E) int64
        Source and target of each edge.
    weights_E : (E,) float32
    """

    edges_2E: Tensor
    weights_E: Tensor


def normed_mlp(*sizes: int) -> nn.Sequential:
    """Linear, BatchNorm, ReLU for each step of `sizes`, without the last ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class GraphTable(nn.Module):
    """A trained row for each node (length at most 1), mixed once over a graph by SGConv.

    The normalised graph has a self loop at every node: those that `graph` lacks are added with weight 1.
    """

    edges_2E: Tensor
    weights_E: Tensor

    def __init__(self, nodes: int, hidden: int, graph: Graph) -> None:
        super().__init__()
        self.table = nn.Embedding(nodes, hidden, max_norm=1.0)
        self.mix = SGConv(hidden, hidden, K=1, add_self_loops=True)
        self.register_buffer("edges_2E", graph.edges_2E, persistent=False)
        self.register_buffer("weights_E", graph.weights_E, persistent=False)
        self.register_buffer("nodes_N", torch.arange(nodes), persistent=False)

    def forward(self) -> Tensor:
        """Return the mixed rows, (N, H)."""
        return self.mix(self.table(self.nodes_N), self.edges_2E, self.weights_E)


class GivenGenes(nn.Module):
    """States of genes from the vectors of a frozen encoder: a linear adapter where widths differ, BatchNorm, ReLU.

    Parameters
    ----------
    width
        D.
    hidden
        H.
    train_adapter
        False leaves the adapter at its random initial weights, as the published code does by accident.
    """

    def __init__(self, width: int, hidden: int, train_adapter: bool) -> None:
        super().__init__()
        self.adapter: nn.Module = nn.Linear(width, hidden) if width != hidden else nn.Identity()
        self.adapter.requires_grad_(train_adapter)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, vectors_BGD: Tensor) -> Tensor:
        """Return (B, G, H); B is 1 where all cells share their gene vectors."""
        return torch.relu(over_rows(self.norm, self.adapter(vectors_BGD)))


class OwnGenes(nn.Module):
    """States of genes from a trained table, the same in every cell.

    Parameters
    ----------
    genes, hidden
        G and H.
    coexpression
        Graph over the measured genes: adds the branch that GEARS has for it; None leaves it out.
    """

    def __init__(self, genes: int, hidden: int, coexpression: Graph | None) -> None:
        super().__init__()
        self.table = nn.Embedding(genes, hidden, max_norm=1.0)
        self.norm = nn.BatchNorm1d(hidden)
        self.position = GraphTable(genes, hidden, coexpression) if coexpression is not None else None
        self.fuse = normed_mlp(hidden, hidden, hidden) if coexpression is not None else None
        self.register_buffer("genes_G", torch.arange(genes), persistent=False)

    def forward(self, vectors_BGD: Tensor | None = None) -> Tensor:
        """Return (1, G, H)."""
        states_GH = torch.relu(self.norm(self.table(self.genes_G)))
        if self.position is not None and self.fuse is not None:
            states_GH = self.fuse(states_GH + COEXPRESSION_SHARE * self.position())
        return states_GH[None]


class GearsNetwork(nn.Module):
    """Expression of a cell after a perturbation, from a control cell and the perturbed genes.

    1. States of genes: :class:`GivenGenes` or :class:`OwnGenes`.
    2. A perturbation is the sum over its genes of a table mixed over the GO graph, through an MLP; nothing without
       one. It is added to the state of every gene.
    3. With `flag`: what a linear layer makes of "this gene is perturbed" is added to each gene, and a further BatchNorm
       and ReLU follow.
    4. Change of a gene: a number from its own state, by an MLP and a linear layer of that gene alone, then another
       linear layer of that gene alone over this number and a summary of all genes' numbers.
    5. The control cell's expression is added.

    Parameters
    ----------
    n_genes
        G.
    go_graph, n_nodes
        Graph over N nodes; the first G are the measured genes, in their order.
    hidden
        H.
    width
        D of the vectors that are given; None for a table of its own.
    train_adapter
        See :class:`GivenGenes`.
    coexpression
        See :class:`OwnGenes`.
    flag
        Whether the network is told which gene is perturbed, as in the scLong paper, besides by the GO graph's table.
    """

    def __init__(
        self,
        n_genes: int,
        go_graph: Graph,
        n_nodes: int,
        hidden: int,
        *,
        width: int | None = None,
        train_adapter: bool = True,
        coexpression: Graph | None = None,
        flag: bool = True,
    ) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.genes: nn.Module = (
            OwnGenes(n_genes, hidden, coexpression) if width is None else GivenGenes(width, hidden, train_adapter)
        )
        self.perturbation = GraphTable(n_nodes, hidden, go_graph)
        self.fuse = normed_mlp(hidden, hidden, hidden)
        self.flag = nn.Linear(1, hidden) if flag else None
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2 if flag else 1))
        self.recover = normed_mlp(hidden, 2 * hidden, hidden)
        self.across = normed_mlp(n_genes, hidden, hidden)
        self.own_weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes, hidden)))
        self.own_bias = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes)))
        self.all_weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes, hidden + 1)))
        self.all_bias = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes)))

    def forward(self, control_BG: Tensor, perturbed_BN: Tensor, vectors_BGD: Tensor | None = None) -> Tensor:
        """Return the expression after the perturbation, (B, G).

        Parameters
        ----------
        control_BG
            log1p(CP10k) of a control cell.
        perturbed_BN
            1 at the perturbed nodes, else 0.
        vectors_BGD
            Vectors of the control cells' genes, (B, G, D) or (1, G, D); None for a table of its own.
        """
        states_BGH = self.genes(vectors_BGD)
        change_BH = self.fuse(perturbed_BN @ self.perturbation())
        change_BH = change_BH * (perturbed_BN.sum(1, keepdim=True) > 0)
        states_BGH = states_BGH + change_BH[:, None]
        if self.flag is not None:
            states_BGH = states_BGH + self.flag(perturbed_BN[:, : self.n_genes, None])
        for norm in self.norms:
            states_BGH = torch.relu(over_rows(norm, states_BGH))
        own_BG = (over_rows(self.recover, states_BGH) * self.own_weight).sum(-1) + self.own_bias
        across_BH = self.across(own_BG)
        out_BG = own_BG * self.all_weight[..., 0] + across_BH @ self.all_weight[0, :, 1:].T + self.all_bias
        return out_BG + control_BG


def over_rows(layer: nn.Module, values_BGH: Tensor) -> Tensor:
    """Apply a layer for rows to (B, G, H), all genes of all cells as rows of one batch."""
    return layer(values_BGH.reshape(-1, values_BGH.shape[-1])).reshape(*values_BGH.shape[:-1], -1)


def gears_loss(
    predicted_BG: Tensor,
    target_BG: Tensor,
    condition_B: Tensor,
    counted_KG: Tensor,
    control_mean_G: Tensor,
    *,
    gamma: float = 2.0,
    direction_weight: float = 0.1,
    direction: Direction = "smooth",
) -> Tensor:
    """Mean over the conditions of a batch of mean |error|^(2 + gamma) plus the direction term, over counted genes.

    Direction term: mean of (sign(y - c) - s(predicted - c))², c the mean control. With "sign" s is the sign too, as
    published: its gradient is zero everywhere and it changes nothing but the reported number. With "smooth"
    s(x) = tanh(10 x), which has one.

    Parameters
    ----------
    predicted_BG, target_BG
        Cells.
    condition_B : int64
        Which condition each cell is of: a row of `counted_KG`.
    counted_KG : bool
        Genes that count for each condition.
    control_mean_G
        c.
    gamma, direction_weight, direction
        See above.
    """
    counted_BG = counted_KG[condition_B].to(predicted_BG.dtype)
    cells_B = torch.bincount(condition_B, minlength=len(counted_KG))[condition_B]
    share_B = 1.0 / (cells_B * counted_BG.sum(1).clamp(min=1) * len(torch.unique(condition_B)))
    truth = torch.sign(target_BG - control_mean_G)
    change = predicted_BG - control_mean_G
    guess = torch.sign(change) if direction == "sign" else torch.tanh(SHARPNESS * change)
    terms_BG = (predicted_BG - target_BG).abs() ** (2 + gamma) + direction_weight * (truth - guess) ** 2
    return ((terms_BG * counted_BG).sum(1) * share_B).sum()
