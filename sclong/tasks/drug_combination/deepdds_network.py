"""DeepDDS (Wang et al. 2022): a graph network reads each drug, a small network the line, a third one both together.

Our own implementation of both published networks, "gcn" (graph convolution) and "gat" (graph attention), and of the
cell tower of the scLong paper, which reads a vector of each gene in each line instead of expression.

A screen has few drugs and lines and many triples of them. So each distinct drug and each distinct line of a batch goes
through its tower once, and triples take what they need. Values and gradients are those of a tower per triple. Dropout
of single triples stays so where the published network applies it after pooling ("gcn"); dropout inside the towers of
"gat" is drawn once per drug or line and batch.

Shape suffixes: N triples, M molecules, A atoms, E directed bonds, L lines, F inputs, D width, H heads, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sclong.benchmark.ranking import auroc
from sclong.benchmark.resume import Continuation
from sclong.benchmark.selection import BestEpoch
from sclong.config.cards import Strict
from sclong.drugs.molecules import WIDTHS, MoleculeGraphs
from sclong.seeding import derive_seed

Drug = Literal["gcn", "gat"]
WIDTH = 128
ANSWER_ROWS = 4096


class DeepDDSOptions(Strict):
    """The network and its training."""

    drug: Drug = "gcn"
    joined: tuple[int, ...] | None = Field(default=None, description="hidden widths after joining; None: as published")
    gene_width: int = Field(default=4, ge=1, description="numbers made of each gene's vector, where lines have those")
    dropout: float = Field(default=0.2, ge=0, lt=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    batch_size: int = Field(default=256, ge=1)
    epochs: int = Field(default=200, ge=1)
    patience: int | None = Field(default=20, ge=1, description="evaluations without a better one; None: all epochs")
    evaluate_every: int = Field(default=1, ge=1, description="epochs")
    shuffle: bool = Field(default=True, description="a new order each epoch; false: one drawn order is kept")
    symmetric: bool = Field(
        default=True, description="train with either drug first, drawn each time; answer with the mean of both orders"
    )


@dataclass(frozen=True)
class DeepDDSData:
    """Triples, and what is known of their drugs and lines.

    Attributes
    ----------
    graphs
        The distinct drugs, featurised as "deepdds".
    first, second, line : (N,) int64
        Drugs and line of each triple.
    lines : (L, F) float32, or (L, G, D) float32
        Vectors of lines, or of each gene in each line.
    labels : (N,) float32
        1 or 0; not read where a triple is only asked for.
    """

    graphs: MoleculeGraphs
    first: np.ndarray
    second: np.ndarray
    line: np.ndarray
    lines: np.ndarray
    labels: np.ndarray


class Graph(NamedTuple):
    """Molecules as tensors, with self loops.

    `weight_E` is that of a graph convolution; `place_A` puts atoms into a table of molecules by atoms of the largest.
    """

    atoms_AF: Tensor
    source_E: Tensor
    target_E: Tensor
    weight_E: Tensor
    place_A: Tensor
    n_molecules: int
    largest: int


def as_graph(graphs: MoleculeGraphs) -> Graph:
    """Add self loops, and weights 1 / sqrt(degree of source x degree of target)."""
    loops = np.arange(len(graphs.atoms))
    source, target = (np.concatenate([ends, loops]) for ends in graphs.bonds)
    degree = np.bincount(target, minlength=len(loops))
    weight = 1 / np.sqrt(degree[source] * degree[target])
    sizes = np.bincount(graphs.molecule, minlength=graphs.n_molecules)
    in_molecule = loops - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = graphs.molecule * sizes.max() + in_molecule
    return Graph(
        torch.from_numpy(graphs.atoms),
        torch.from_numpy(source),
        torch.from_numpy(target),
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy(place),
        graphs.n_molecules,
        int(sizes.max()),
    )


def largest_of_molecules(x_AD: Tensor, graph: Graph) -> Tensor:
    """Return the largest value over each molecule's atoms, (M, D).

    By a padded table: the gradients of torch.segment_reduce and scatter_reduce are wrong where atoms tie.
    """
    table_D = x_AD.new_full((graph.n_molecules * graph.largest, x_AD.shape[1]), -torch.inf)
    return table_D.index_copy_(0, graph.place_A, x_AD).view(graph.n_molecules, graph.largest, -1).amax(1)


class GraphConvolution(nn.Module):
    """Kipf and Welling's layer: W times the weighted sum over an atom and its neighbours, plus a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x_AF: Tensor, graph: Graph) -> Tensor:
        """Return (A, outputs)."""
        messages_EF = x_AF[graph.source_E] * graph.weight_E[:, None]
        summed_AF = torch.zeros_like(x_AF).index_add(0, graph.target_E, messages_EF)
        return functional.linear(summed_AF, self.weight, self.bias)


class GraphAttention(nn.Module):
    """Velickovic's layer: the weights of neighbours come from both ends, a softmax for each head; heads are joined."""

    def __init__(self, inputs: int, outputs: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.outputs, self.dropout = heads, outputs, dropout
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads * outputs, inputs)))
        self.of_source = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, outputs)))
        self.of_target = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, outputs)))
        self.bias = nn.Parameter(torch.zeros(heads * outputs))

    def forward(self, x_AF: Tensor, graph: Graph) -> Tensor:
        """Return (A, heads * outputs)."""
        x_AHD = functional.linear(x_AF, self.weight).view(-1, self.heads, self.outputs)
        source_AH, target_AH = ((x_AHD * a_HD).sum(-1) for a_HD in (self.of_source, self.of_target))
        raw_EH = functional.leaky_relu(source_AH[graph.source_E] + target_AH[graph.target_E], 0.2)
        # one shift for all atoms keeps the softmax of each as it is, and the exponentials finite
        power_EH = torch.exp(raw_EH - raw_EH.detach().amax(0))
        sums_AH = torch.zeros_like(source_AH).index_add(0, graph.target_E, power_EH) + 1e-16
        share_EH = functional.dropout(power_EH / sums_AH[graph.target_E], self.dropout, self.training)
        messages_EHD = x_AHD[graph.source_E] * share_EH[..., None]
        return torch.zeros_like(x_AHD).index_add(0, graph.target_E, messages_EHD).flatten(1) + self.bias


class DrugTower(nn.Module):
    """Atoms -> graph layers -> largest value over a molecule's atoms -> one linear layer with ReLU."""

    def __init__(self, kind: Drug, dropout: float) -> None:
        super().__init__()
        inputs = WIDTHS["deepdds"][0]
        self.kind, self.dropout = kind, dropout
        layers: list[nn.Module]
        if kind == "gcn":
            widths = (inputs, inputs, 2 * inputs, 4 * inputs)
            layers = [GraphConvolution(a, b) for a, b in pairwise(widths)]
            last, self.out = 4 * inputs, 2 * inputs
        else:
            layers = [GraphAttention(inputs, WIDTH, 10, dropout), GraphAttention(10 * WIDTH, WIDTH, 1, dropout)]
            last, self.out = WIDTH, WIDTH
        self.layers = nn.ModuleList(layers)
        self.pooled = nn.Linear(last, self.out)

    def forward(self, graph: Graph) -> Tensor:
        """Return (M, out)."""
        x = graph.atoms_AF
        for layer in self.layers:
            x = layer(x, graph)
            if self.kind == "gcn":
                x = functional.relu(x)
            else:
                x = functional.dropout(functional.elu(x), self.dropout, self.training)
        return functional.relu(self.pooled(largest_of_molecules(x, graph)))


class LineTower(nn.Module):
    """A line's vector (as long as one) or its genes' vectors -> a vector of `out`."""

    def __init__(self, shape: tuple[int, ...], kind: Drug, gene_width: int, dropout: float) -> None:
        super().__init__()
        self.genes = nn.Linear(shape[-1], gene_width) if len(shape) == 2 else None
        inputs = shape[0] * gene_width if self.genes is not None else shape[0]
        self.out = WIDTH if kind == "gcn" else 2 * WIDTH
        widths = (512, 256) if self.genes is None else (256, 128)
        if kind == "gat":
            widths = (2048, 512)
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.ReLU(), *([nn.Dropout(dropout)] if kind == "gat" else [])]
            inputs = width
        layers += [nn.Linear(inputs, self.out), *([nn.ReLU()] if kind == "gat" else [])]
        self.layers = nn.Sequential(*layers)

    def forward(self, lines: Tensor) -> Tensor:
        """Return (L, out)."""
        if self.genes is not None:
            return self.layers(functional.relu(self.genes(lines)).flatten(1))
        return self.layers(functional.normalize(lines, dim=1))


class DeepDDSNetwork(nn.Module):
    """Both towers and what joins them; answers two numbers per triple, of "no" and of "yes".

    Parameters
    ----------
    shape
        Of the vectors of one line: (F,), or (G, D).
    options
        See :class:`DeepDDSOptions`.
    """

    def __init__(self, shape: tuple[int, ...], options: DeepDDSOptions) -> None:
        super().__init__()
        self.drugs = DrugTower(options.drug, options.dropout)
        self.lines = LineTower(shape, options.drug, options.gene_width, options.dropout)
        self.kind, self.dropout = options.drug, nn.Dropout(options.dropout)
        self.drug_out = nn.Linear(self.drugs.out, WIDTH) if options.drug == "gcn" else None
        widths = options.joined or ((512, 128) if options.drug == "gcn" else (2048, 512, 128))
        inputs, layers = 2 * WIDTH + self.lines.out, []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(options.dropout)]
            inputs = width
        self.joined = nn.Sequential(*layers, nn.Linear(inputs, 2))

    def forward(self, drugs_MD: Tensor, lines_LD: Tensor, first_N: Tensor, second_N: Tensor, line_N: Tensor) -> Tensor:
        """Join what the towers say of each triple's drugs and line; (N, 2)."""
        sides = [drugs_MD[drug_N] for drug_N in (first_N, second_N)]
        if self.drug_out is not None:
            sides = [self.dropout(self.drug_out(self.dropout(side_ND))) for side_ND in sides]
        x = torch.cat([*sides, lines_LD[line_N]], dim=1)
        return self.joined(functional.normalize(x, dim=1) if self.kind == "gat" else x)


class _Triples:
    """The data as tensors, and batches of it."""

    def __init__(self, data: DeepDDSData) -> None:
        self.graphs = data.graphs
        self.first, self.second, self.line = (
            torch.from_numpy(np.asarray(x, dtype=np.int64)) for x in (data.first, data.second, data.line)
        )
        self.lines = torch.from_numpy(np.asarray(data.lines, dtype=np.float32))
        self.labels = torch.from_numpy(np.nan_to_num(data.labels).astype(np.int64))
        self.kept: dict[bytes, Graph] = {}

    def graph_of(self, drugs: Tensor) -> Graph:
        """Return the graph of some drugs; the last ones asked for are kept."""
        key = drugs.numpy().tobytes()
        if key not in self.kept:
            if len(self.kept) >= 64:
                self.kept.pop(next(iter(self.kept)))
            self.kept[key] = as_graph(self.graphs.select(drugs.numpy()))
        return self.kept[key]

    def loss(self, network: DeepDDSNetwork, rows: Tensor, swapped: Tensor | None) -> Tensor:
        """Return the mean cross entropy of some triples; the towers run once per distinct drug and line."""
        first, second = self.first[rows], self.second[rows]
        if swapped is not None:
            first, second = torch.where(swapped, second, first), torch.where(swapped, first, second)
        drugs, drug_of = torch.unique(torch.cat([first, second]), return_inverse=True)
        lines, line_of = torch.unique(self.line[rows], return_inverse=True)
        first_of, second_of = drug_of.split(len(rows))
        answer = network(
            network.drugs(self.graph_of(drugs)), network.lines(self.lines[lines]), first_of, second_of, line_of
        )
        return functional.cross_entropy(answer, self.labels[rows])

    @torch.no_grad()
    def probabilities(self, network: DeepDDSNetwork, rows: Tensor, symmetric: bool) -> np.ndarray:
        """Return the probability of "yes" of some triples, (rows,) float64."""
        network.eval()
        drugs, drug_of = torch.unique(torch.cat([self.first[rows], self.second[rows]]), return_inverse=True)
        lines, line_of = torch.unique(self.line[rows], return_inverse=True)
        of_drugs, of_lines = network.drugs(self.graph_of(drugs)), network.lines(self.lines[lines])
        first, second = drug_of.split(len(rows))
        orders = [(first, second), (second, first)] if symmetric else [(first, second)]
        found = []
        for part in torch.arange(len(rows)).split(ANSWER_ROWS):
            answers = [network(of_drugs, of_lines, a[part], b[part], line_of[part]) for a, b in orders]
            found.append(torch.stack([torch.softmax(x, dim=1)[:, 1].double() for x in answers]).mean(0))
        return torch.cat(found).numpy()


def fit_predict_deepdds(
    data: DeepDDSData, train: np.ndarray, selection: np.ndarray, test: np.ndarray, options: DeepDDSOptions, seed: int
) -> np.ndarray:
    """Train, keep the epoch with the best AUROC on `selection`, and answer `test`.

    Parameters
    ----------
    data
        Triples; see :class:`DeepDDSData`.
    train, selection, test : (n,) int64
        Rows of `data`. `selection` is the validation part; with the authors' protocol it is the test part.
    options
        See :class:`DeepDDSOptions`.
    seed
        Gives the initial weights, the order of batches, who stands first, and dropout. The global state of torch is
        left as it was.

    Returns
    -------
    (test,) float32
        Probability of synergy.
    """
    triples = _Triples(data)
    train_rows, selection_rows, test_rows = (torch.from_numpy(np.asarray(r)) for r in (train, selection, test))
    truth = triples.labels[selection_rows].numpy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("deepdds", seed))
        network = DeepDDSNetwork(tuple(triples.lines.shape[1:]), options)
        optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate, fused=True)
        best = BestEpoch(network, options.patience)
        order = train_rows[torch.randperm(len(train_rows))]
        training = Continuation("deepdds", network, optimiser, best)
        done = training.restore()
        for epoch in range(done + 1, (0 if best.ended else options.epochs) + 1):
            network.train()
            if options.shuffle:
                order = train_rows[torch.randperm(len(train_rows))]
            for rows in order.split(options.batch_size):
                swapped = torch.rand(len(rows)) < 0.5 if options.symmetric else None
                optimiser.zero_grad(set_to_none=True)
                triples.loss(network, rows, swapped).backward()
                optimiser.step()
            ended = False
            if epoch % options.evaluate_every == 0 or epoch == options.epochs:
                answer = triples.probabilities(network, selection_rows, options.symmetric)
                ended = best.update(_score(truth, answer))
            training.done(epoch)
            if ended:
                break
        best.restore()
        return triples.probabilities(network, test_rows, options.symmetric).astype(np.float32)


def _score(truth: np.ndarray, answer: np.ndarray) -> float:
    """Return what the epoch is chosen by: AUROC; where there is one class only, minus the mean squared error."""
    return auroc(truth, answer) if len(np.unique(truth)) == 2 else -float(np.mean((truth - answer) ** 2))
