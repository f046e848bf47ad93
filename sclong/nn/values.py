"""Expression values as the model reads them."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse


def dense_with_pad(values: sparse.csr_matrix) -> torch.Tensor:
    """Return a sparse (cells, genes) matrix as a dense (cells, genes + 1) float32 tensor, the last column (PAD) 0."""
    values = sparse.csr_matrix(values)
    shape = values.shape[0], values.shape[1] + 1
    wide = sparse.csr_matrix((values.data, values.indices, values.indptr), shape=shape)
    return torch.from_numpy(wide.toarray().astype(np.float32, copy=False))
