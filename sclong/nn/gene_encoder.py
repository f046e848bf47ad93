"""What the model knows of a gene before it sees a cell: a trainable row, and a vector from the Gene Ontology graph.

Shapes: N positions (genes and PAD), D width of gene vectors, E edges.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch_geometric.nn import SGConv

from sclong.genes.go_graph import GoGraph
from sclong.nn.favor import Kernels

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class GeneTable(nn.Module):
    """One trainable row per position; at first random numbers with a spread of `std`."""

    def __init__(self, n_positions: int, dim: int, std: float = 0.02) -> None:
        super().__init__()
        self.emb = nn.Embedding(n_positions, dim)
        if not self.emb.weight.is_meta:
            nn.init.normal_(self.emb.weight, std=std)

    def forward(self) -> torch.Tensor:
        """Return all rows, (N, D)."""
        return self.emb.weight


class GoEncoder(nn.Module):
    """A gene table of its own, convolved once over the GO similarity graph (SGConv, K = 1, no added self loops).

    ``vectors = S table W.T + b`` with S the graph's weights w(target, source), divided by the square roots of the
    summed weights into the target and into the source.

    The result depends on parameters only, never on a cell: it is computed once per optimiser step in training
    (:meth:`once`) and once per checkpoint at inference (:meth:`forward` keeps it while the module is in eval mode
    without gradients and its parameters stay as they are). It is computed in the precision of the parameters, also
    under autocast, so that what is kept is the same whoever asks first.

    Parameters
    ----------
    n_positions, dim
        N and D.
    graph
        Edges source -> target with weights; a gene without edges gets the bias alone.
    kernels
        "oracle": torch-geometric's SGConv. Otherwise one product with the sparse matrix S.
    std
        Spread of the random numbers that the table starts from.
    """

    def __init__(
        self, n_positions: int, dim: int, graph: GoGraph, kernels: Kernels = "fast", std: float = 0.02
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.emb = nn.Embedding(n_positions, dim)
        if not self.emb.weight.is_meta:
            nn.init.normal_(self.emb.weight, std=std)
        self.sim_layers = nn.ModuleList([SGConv(dim, dim, K=1, add_self_loops=False, bias=True)])
        targets_E = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
        weights_E = graph.weights.astype(np.float32)
        size = (n_positions, n_positions)
        raw = sparse.csr_matrix((weights_E, (targets_E, graph.indices)), shape=size)
        into_N = np.asarray(raw.sum(axis=1)).ravel()
        scale_N = np.divide(1.0, np.sqrt(into_N), out=np.zeros_like(into_N), where=into_N > 0)
        smooth = (sparse.diags(scale_N) @ raw @ sparse.diags(scale_N)).tocsr().astype(np.float32)
        edges_2E = np.stack([graph.indices, targets_E]).astype(np.int64)
        self.register_buffer("edges", torch.from_numpy(edges_2E), persistent=False)
        self.register_buffer("edge_weights", torch.from_numpy(weights_E), persistent=False)
        for name, matrix in (("smooth", smooth), ("smooth_transposed", smooth.T.tocsr())):
            matrix.sort_indices()
            for part in ("indptr", "indices", "data"):
                tensor = torch.from_numpy(getattr(matrix, part))
                self.register_buffer(f"{name}_{part}", tensor, persistent=False)
        self._kept_ND: torch.Tensor | None = None
        self._kept_for: tuple[object, ...] = ()
        self._shared_ND: torch.Tensor | None = None

    @contextmanager
    def once(self) -> Iterator[None]:
        """Compute the vectors once for all forward and backward passes of an optimiser step.

        Gradients of the passes are summed where they meet, and flow on to the parameters at the end.
        """
        vectors_ND = self.forward()
        self._shared_ND = shared_ND = vectors_ND.detach().requires_grad_()
        try:
            yield
        finally:
            self._shared_ND = None
        if shared_ND.grad is not None:
            vectors_ND.backward(shared_ND.grad)

    def train(self, mode: bool = True) -> GoEncoder:
        """Set the mode; what was kept for inference is dropped."""
        self._kept_ND = None
        return super().train(mode)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._kept_ND = None
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]

    def _state(self) -> tuple[object, ...]:
        """Return what changes whenever a parameter is written to, moved or cast."""
        return tuple((p.device, p.dtype, 0 if p.is_inference() else p._version) for p in self.parameters())

    def _matrix(self, name: str) -> torch.Tensor:
        """Return S or its transpose as a sparse matrix in the precision of the table."""
        indptr, indices, data = (getattr(self, f"{name}_{part}") for part in ("indptr", "indices", "data"))
        size = (len(indptr) - 1, len(indptr) - 1)
        return torch.sparse_csr_tensor(indptr, indices, data.to(self.emb.weight.dtype), size, check_invariants=False)

    def forward(self) -> torch.Tensor:
        """Return the GO vectors, (N, D)."""
        if self._shared_ND is not None:
            return self._shared_ND
        keep = not self.training and not torch.is_grad_enabled()
        if keep and self._kept_ND is not None and self._kept_for == self._state():
            return self._kept_ND
        vectors_ND = self.emb.weight
        with torch.autocast(vectors_ND.device.type, enabled=False):
            for number, layer in enumerate(self.sim_layers):
                vectors_ND = torch.relu(vectors_ND) if number else vectors_ND
                if self.kernels == "oracle":
                    vectors_ND = layer(vectors_ND, self.edges, self.edge_weights)
                else:
                    smoothed_ND = _Smooth.apply(vectors_ND, self._matrix("smooth"), self._matrix("smooth_transposed"))
                    vectors_ND = cast(SGConv, layer).lin(smoothed_ND)
        self._kept_ND, self._kept_for = (vectors_ND, self._state()) if keep else (None, ())
        return vectors_ND


class _Smooth(torch.autograd.Function):
    """Product with a constant sparse matrix; the backward pass uses the transpose, made once."""

    @staticmethod
    def forward(ctx: Any, x_ND: torch.Tensor, matrix_NN: torch.Tensor, transposed_NN: torch.Tensor) -> torch.Tensor:
        """Return ``matrix @ x``."""
        ctx.transposed_NN = transposed_NN
        return matrix_NN @ x_ND

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return ``matrix.T @ grad``."""
        return ctx.transposed_NN @ grads[0], None, None
