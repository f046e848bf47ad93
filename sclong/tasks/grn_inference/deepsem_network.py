"""DeepSEM: a variational autoencoder whose latent layer is a linear structural equation model with a learned network.

Shape suffixes: B cells of a batch, G genes, C all cells. ``A_GG[target, regulator]`` is the network. One mixture
component, as in the published runs for networks: its weight is the constant 1 and is left out of the inputs, and what
is then constant in the published loss is left out too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sclong.errors import CardError
from sclong.seeding import derive_seed

Inverse = Literal["exact", "cholesky"]
VARIANCE_FLOOR = 1e-8
NET_EPOCHS, CYCLE = 1, 3  # of each three epochs the first trains the autoencoder, the other two the network


@dataclass(frozen=True)
class DeepSemOptions:
    """How DeepSEM is trained; the defaults are the published ones.

    Attributes
    ----------
    hidden
        Width of the autoencoder.
    epochs
        Passes over the cells; one of three trains the autoencoder, two train the network.
    batch_size
        Cells.
    learning_rate, adjacency_rate
        Of RMSprop, for the autoencoder and for the network.
    alpha, beta
        Weights of the mean absolute entry of the network and of the divergence.
    kept_epochs
        Epochs, counted from 0, after which the network is kept; none: the last.
    inverse
        "exact": the linear system of the decoder is solved. "cholesky": what scLong's authors ran instead, the inverse
        of the product of M's lower triangle with its transpose, which is the inverse of another matrix.
    """

    hidden: int = 128
    epochs: int = 100
    batch_size: int = 8
    learning_rate: float = 1e-4
    adjacency_rate: float = 2e-5
    alpha: float = 0.1
    beta: float = 0.01
    kept_epochs: tuple[int, ...] = ()
    inverse: Inverse = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept_epochs", tuple(self.kept_epochs) or (self.epochs - 1,))
        if not set(self.kept_epochs) <= set(range(self.epochs)):
            raise CardError(
                f"kept_epochs {list(self.kept_epochs)} of a training of {self.epochs} epochs, counted from 0",
                f"epochs from 0 to {self.epochs - 1}",
                "correct the options of the model's card",
            )
        if self.inverse not in get_args(Inverse):
            raise CardError(
                f"inverse {self.inverse!r}", f"one of {', '.join(get_args(Inverse))}", "correct the model's card"
            )


def standardise(values: np.ndarray) -> np.ndarray:
    """Centre and scale each gene by its values that are not zero, and clip at 10.

    Zeros are moved and scaled like the other values. Genes whose other values do not vary become 0.

    Parameters
    ----------
    values : (C, G) float

    Returns
    -------
    (C, G) float32
    """
    seen = values != 0
    n = np.maximum(seen.sum(axis=0), 1)
    mean = values.sum(axis=0, dtype=np.float64) / n
    deviation = np.sqrt((np.where(seen, values - mean, 0.0) ** 2).sum(axis=0) / n)
    varies = deviation > 1e-6
    scaled = np.divide(values - mean, deviation, out=np.zeros(values.shape), where=varies[None, :])
    return np.clip(scaled, -10, 10).astype(np.float32)


def similarity_start(vectors: np.ndarray) -> np.ndarray:
    """Return the network that the published run starts from: inner products of gene vectors.

    Each vector is divided by its sum of absolute values; then its zeros are replaced by the median of its positive
    entries (a vector of zeros stays); the diagonal of the products is 0; each row is divided by its sum of absolute
    values. A row of zeros becomes uniform.

    Parameters
    ----------
    vectors : (G, d) float

    Returns
    -------
    (G, G) float64
        Row: target, column: regulator.
    """
    length = np.abs(vectors).sum(axis=1, keepdims=True, dtype=np.float64)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    with np.errstate(all="ignore"):
        positive = np.where(unit > 0, unit, np.nan)
        any_positive = (unit > 0).any(axis=1)
        median = np.zeros(len(unit))
        median[any_positive] = np.nanmedian(positive[any_positive], axis=1)
    unit = np.where((unit == 0) & (length > 0), median[:, None], unit)
    start = unit @ unit.T
    np.fill_diagonal(start, 0.0)
    total = np.abs(start).sum(axis=1, keepdims=True)
    uniform = (1.0 - np.eye(len(start))) / max(len(start) - 1, 1)
    return np.where(total > 0, np.divide(start, total, out=np.zeros_like(start), where=total > 0), uniform)


class DeepSem(nn.Module):
    """The model of DeepSEM (see the module).

    With ``M = I - (A without its diagonal)^T``, every gene's value goes through one MLP shared by all genes to a mean
    and a log variance; both are multiplied by M; a sample of that normal distribution is multiplied by the inverse of M
    (:func:`unmix`) and goes through a second shared MLP.

    Parameters
    ----------
    start_GG : (G, G) float
        Network to start from; its diagonal counts for nothing.
    hidden
        Width.
    inverse
        See :class:`DeepSemOptions`.

    References
    ----------
    Shu et al. 2021, Nature Computational Science 1:491.
    """

    off_GG: Tensor

    def __init__(self, start_GG: np.ndarray, hidden: int, inverse: Inverse = "exact") -> None:
        super().__init__()
        self.inverse = inverse
        n_genes = len(start_GG)
        self.adjacency_GG = nn.Parameter(torch.tensor(start_GG, dtype=torch.float32))
        self.register_buffer("off_GG", 1.0 - torch.eye(n_genes))
        self.encoder = _mlp(1, hidden, 2)
        self.decoder = _mlp(1, hidden, 1)
        self.prior = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 2 * n_genes))

    def operator(self) -> Tensor:
        """Return M, (G, G)."""
        return torch.eye(len(self.off_GG)) - (self.adjacency_GG * self.off_GG).T

    def forward(self, x_BG: Tensor, noise_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction (B, G) and the divergence of each gene, (G,), mean over cells."""
        m_GG = self.operator()
        mean_BG, log_variance_BG = (part @ m_GG for part in self.encoder(x_BG[..., None]).unbind(-1))
        z_BG = mean_BG + noise_BG * torch.exp(0.5 * log_variance_BG)
        y_BG = self.decoder(unmix(z_BG, m_GG, self.inverse)[..., None])[..., 0]
        prior_2G = self.prior(x_BG.new_ones(1, 1)).reshape(2, -1) @ m_GG
        posterior_BG = _log_normal(z_BG, mean_BG, log_variance_BG)
        return y_BG, (posterior_BG - _log_normal(z_BG, prior_2G[0], prior_2G[1])).mean(0)

    def loss(self, x_BG: Tensor, seen_BG: Tensor, noise_BG: Tensor, alpha: float, beta: float) -> Tensor:
        """Return the loss: mean squared error where a gene was seen, divergence, size of the network."""
        y_BG, divergence_G = self(x_BG, noise_BG)
        error = ((y_BG - x_BG) ** 2 * seen_BG).sum() / seen_BG.sum().clamp(min=1)
        return error + beta * divergence_G.mean() + alpha * (self.adjacency_GG * self.off_GG).abs().mean()


def unmix(z_BG: Tensor, m_GG: Tensor, inverse: Inverse = "exact") -> Tensor:
    """Return ``z @ inverse(M)`` by solving ``x @ M = z``, or what the authors took for it (see DeepSemOptions)."""
    if inverse == "cholesky":
        return z_BG @ torch.cholesky_inverse(m_GG)
    return torch.linalg.solve(m_GG, z_BG, left=False)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
    )


def _log_normal(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    variance = torch.exp(log_variance) + VARIANCE_FLOOR
    return -0.5 * (torch.log(variance) + (x - mean) ** 2 / variance)


def fit_networks(
    values: np.ndarray, seed: int, options: DeepSemOptions | None = None, start: np.ndarray | None = None
) -> np.ndarray:
    """Train DeepSEM once and return its network after the epochs that are to be kept.

    Parameters
    ----------
    values : (C, G) float
        Expression.
    seed
        Gives initial weights, order of cells and noise. The global state of torch is left as it was.
    options
        How to train; None: as published.
    start : (G, G) float
        Network to start from (target, regulator); None: ``1 / (G - 1)`` everywhere, and a little noise.

    Returns
    -------
    (kept epochs, G, G) float32
        Row: target, column: regulator; signed; zero on the diagonal.
    """
    options = options or DeepSemOptions()
    seen_CG = torch.from_numpy((values != 0).astype(np.float32))
    x_CG = torch.from_numpy(standardise(values))
    n_genes = x_CG.shape[1]
    kept: dict[int, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("deepsem", seed))
        if start is None:
            start = (1.0 / max(n_genes - 1, 1) + 2e-4 * torch.rand(n_genes, n_genes)).numpy()
        model = DeepSem(start, options.hidden, options.inverse)
        rest = [p for name, p in model.named_parameters() if name != "adjacency_GG"]
        of_rest = torch.optim.RMSprop(rest, lr=options.learning_rate)
        of_network = torch.optim.RMSprop([model.adjacency_GG], lr=options.adjacency_rate)
        for epoch in range(max(options.kept_epochs) + 1):
            trains_network = epoch % CYCLE >= NET_EPOCHS
            model.adjacency_GG.requires_grad_(trains_network)
            for parameter in rest:
                parameter.requires_grad_(not trains_network)
            for rows in torch.randperm(len(x_CG)).split(options.batch_size):
                x_BG = x_CG[rows]
                loss = model.loss(x_BG, seen_CG[rows], torch.randn_like(x_BG), options.alpha, options.beta)
                model.zero_grad(set_to_none=True)
                loss.backward()
                (of_network if trains_network else of_rest).step()
            if epoch in options.kept_epochs:
                kept[epoch] = (model.adjacency_GG * model.off_GG).detach().numpy().copy()
    return np.stack([kept[epoch] for epoch in options.kept_epochs])
