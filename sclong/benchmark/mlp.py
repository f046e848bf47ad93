"""One small network for every task whose head is not the point: what is compared is the embedding it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sclong.benchmark.selection import BestEpoch
from sclong.errors import InputDataError
from sclong.seeding import derive_seed

Loss = Literal["mse", "bce"]
# Shape suffixes: N samples, F inputs, T outputs.


class MLP(nn.Sequential):
    """Linear layers with ReLU and dropout between them; the last one starts at zero, so training starts at its bias."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float, bias_T: Tensor) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        last = nn.Linear(inputs, outputs)
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(bias_T)
        super().__init__(*layers, last)


class Standardiser:
    """Centre and scale by training statistics; columns that are constant in training stay at their constant.

    Parameters
    ----------
    train : (N, F) float
        What mean and scale are taken from.
    common_scale
        One scale for all columns (the root of their mean variance), which keeps their relative sizes, instead of one
        for each.
    """

    def __init__(self, train: np.ndarray, *, common_scale: bool) -> None:
        train = np.asarray(train, dtype=np.float64)
        self.mean = train.mean(axis=0)
        sd = train.std(axis=0)
        self.varies = sd > 1e-6 * np.maximum(1.0, np.abs(self.mean))
        sd = np.where(self.varies, sd, 0.0)
        if common_scale:
            sd = np.where(self.varies, np.sqrt(np.mean(sd**2)), 0.0)
        self.scale = sd

    def forward(self, values: np.ndarray) -> Tensor:
        """Return standardised `values`, float32; constant columns are 0."""
        safe = np.where(self.varies, self.scale, 1.0)
        return torch.from_numpy(np.where(self.varies, (values - self.mean) / safe, 0.0).astype(np.float32))

    def inverse(self, values: Tensor) -> np.ndarray:
        """Return values in the original units, float32."""
        return (values.double().numpy() * self.scale + self.mean).astype(np.float32)


def fit_predict_mlp(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_validation: np.ndarray,
    y_validation: np.ndarray,
    x_test: np.ndarray,
    seed: int,
    *,
    loss: Loss = "mse",
    hidden: Sequence[int] = (128,),
    epochs: int = 200,
    patience: int = 20,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    dropout: float = 0.1,
    batch_size: int = 64,
) -> np.ndarray:
    """Fit a small network on the training part, choose its epoch on the validation part, answer the test part.

    Inputs are standardised column by column and targets (``mse``) centred and divided by one common scale, all from
    the training part. Before the first step the network answers the training mean (``bce``: the training rate of
    positives); that state is a candidate of the selection too, so inputs that carry nothing give the training mean.

    Parameters
    ----------
    x_train, x_validation, x_test : (n, inputs) float
    y_train, y_validation : (n, outputs) or (n,) float
        For ``bce`` labels in {0, 1}.
    seed
        Gives the initial weights, the order of the batches and the dropout masks. The global state of torch is left
        as it was.
    loss
        ``mse``, or ``bce`` for probabilities.
    hidden
        Width of each hidden layer; empty for a linear model.
    epochs, patience
        Maximum number of epochs; early stopping after `patience` epochs without a lower validation loss.
    learning_rate, weight_decay, dropout, batch_size
        Of AdamW and the network.

    Returns
    -------
    (test samples, outputs) float32
        Predictions in the units of `y_train`; probabilities for ``bce``.

    Raises
    ------
    InputDataError
        When the training or the validation part is empty: the epoch is never chosen on anything else.
    """
    for part, rows in (("training", len(x_train)), ("validation", len(x_validation))):
        if rows == 0:
            raise InputDataError(
                f"the {part} part has no samples",
                "a training part to fit and a validation part to choose the epoch on (never the test part)",
                "use a split policy, or split options, that leave samples for it",
            )
    y_train, y_validation = (np.asarray(y, dtype=np.float64).reshape(len(y), -1) for y in (y_train, y_validation))
    scale_x = Standardiser(x_train, common_scale=False)
    x_train_NF, x_validation_NF, x_test_NF = (scale_x.forward(np.asarray(x)) for x in (x_train, x_validation, x_test))
    if loss == "mse":
        scale_y = Standardiser(y_train, common_scale=True)
        y_train_NT, y_validation_NT = scale_y.forward(y_train), scale_y.forward(y_validation)
        criterion: nn.Module = nn.MSELoss()
        bias_T = torch.zeros(y_train.shape[1])
    else:
        y_train_NT, y_validation_NT = (torch.from_numpy(y.astype(np.float32)) for y in (y_train, y_validation))
        rate_T = y_train_NT.mean(0).clamp(1e-4, 1 - 1e-4)
        criterion, bias_T = nn.BCEWithLogitsLoss(), torch.logit(rate_T)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("mlp", seed))  # weights, batches and dropout, in this order
        network = MLP(x_train_NF.shape[1], hidden, y_train_NT.shape[1], dropout, bias_T)
        optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)

        def validation_loss() -> float:
            network.eval()
            with torch.no_grad():
                return float(criterion(network(x_validation_NF), y_validation_NT))

        best = BestEpoch(network, patience, -validation_loss())
        for _ in range(epochs):
            network.train()
            for rows in torch.randperm(len(x_train_NF)).split(batch_size):
                optimiser.zero_grad(set_to_none=True)
                criterion(network(x_train_NF[rows]), y_train_NT[rows]).backward()
                optimiser.step()
            if best.update(-validation_loss()):
                break
    best.restore()
    network.eval()
    with torch.no_grad():
        answer_NT = network(x_test_NF)
    return scale_y.inverse(answer_NT) if loss == "mse" else torch.sigmoid(answer_NT).numpy()
