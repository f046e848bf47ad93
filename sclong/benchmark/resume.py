"""What a long prediction keeps while it runs, so that a job whose time is up does not begin anew.

::

    results/predictions/BENCHMARK/MODEL/.unfinished-seed0/identity.json    what is predicted, from what, by what code
                                          fold-0.npy          predictions of a fold that is done
                                          fold-1.NAME.safetensors    a training of the fold that is not: after an epoch

Nothing is written before `EVERY_S` seconds: short predictions leave no file. The folder goes when all is predicted.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sclong.benchmark.selection import BestEpoch
from sclong.io.files import atomic_path, read_json, write_json
from sclong.runlog import LOGGER

T = TypeVar("T")

EVERY_S = 60.0
"""Seconds of work that are worth a file."""
_STATE: ContextVar[Path | None] = ContextVar("state of the training of the current fold", default=None)


class Unfinished:
    """Folder of a prediction that is being made; what another identity left there is forgotten.

    Parameters
    ----------
    folder
        Beside the file that will be written.
    identity
        JSON values that fix the predictions.
    clock
        Seconds.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.identity, self.clock = folder, json.loads(json.dumps(identity)), clock
        path = folder / "identity.json"
        if folder.is_dir() and not (path.is_file() and read_json(path) == self.identity):
            shutil.rmtree(folder)

    def fold(self, name: str, predict: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the predictions of a fold: those that are kept, else what `predict` returns, which is then kept.

        A training inside of `predict` that asks :class:`Continuation` goes on where it was.
        """
        file = f"fold-{quote(name, safe='')}"
        kept, begun = self.folder / f"{file}.npy", self.clock()
        if kept.is_file():
            LOGGER.info("fold %s: its predictions are kept from before", name)
            return np.load(kept)
        with _set(_OWNER, self), _set(_STATE, self.folder / file):
            values = predict()
        if self.clock() - begun >= EVERY_S or self.folder.is_dir():
            self.claim()
            with atomic_path(kept) as tmp, tmp.open("wb") as handle:
                np.save(handle, values)
        return values

    def claim(self) -> None:
        """Make the folder, and write down whose it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "identity.json", self.identity)

    def remove(self) -> None:
        """Forget everything: the prediction is there."""
        shutil.rmtree(self.folder, ignore_errors=True)


_OWNER: ContextVar[Unfinished | None] = ContextVar("folder of the current prediction", default=None)


@contextmanager
def _set(variable: ContextVar[T | None], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class Continuation:
    """A training by epochs that goes on where a job before was: network, optimiser, rate, best epoch, generators.

    Outside of a prediction that is kept (:class:`Unfinished`) it does nothing.

    Parameters
    ----------
    name
        Tells trainings of one fold apart.
    network, optimiser, best
        What is trained; changed by :meth:`restore`.
    clock
        Seconds.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        best: BestEpoch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        state = _STATE.get()
        self.path = None if state is None else state.with_name(f"{state.name}.{name}.safetensors")
        self.owner = _OWNER.get()
        self.network, self.optimiser, self.best, self.clock = network, optimiser, best, clock
        self.device = next(network.parameters()).device
        self.last = clock()

    def restore(self) -> int:
        """Load what is kept; return how many epochs are done (0: nothing is kept)."""
        if self.path is None or not self.path.is_file():
            return 0
        with safe_open(self.path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        self.network.load_state_dict(_below("network.", tensors))
        state = self.optimiser.state_dict()
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in _below("optimiser.", tensors).items():
            number, _, quantity = name.partition(".")
            moments.setdefault(int(number), {})[quantity] = tensor
        self.optimiser.load_state_dict({**state, "state": moments})
        for group, rate in zip(self.optimiser.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
        self.best.resume(_below("best.", tensors), facts["best"])
        torch.set_rng_state(tensors["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        LOGGER.info("the training goes on after epoch %d", facts["epochs"])
        return int(facts["epochs"])

    def done(self, epochs: int) -> None:
        """Keep the state after so many epochs, when the last was kept `EVERY_S` seconds ago or more."""
        if self.path is None or self.owner is None or self.clock() - self.last < EVERY_S:
            return
        best, facts = self.best.state()
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        for number, quantities in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in quantities.items()}
        tensors["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        rates = [group["lr"] for group in self.optimiser.param_groups]
        self.owner.claim()
        with atomic_path(self.path) as tmp:
            whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
            save_file(whole, tmp, {"facts": json.dumps({"epochs": epochs, "rates": rates, "best": facts})})
        self.last = self.clock()


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
