"""scLong fed with other values than those it was pretrained on: what the published scripts leave open.

The paper's text, the released preprocessing and the released script of the batch integration say three different
things about normalisation (:func:`sclong.cells.normalize.normalize_cell`); the script hands over the file's matrix as
it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from scipy import sparse

from sclong.benchmark.sclong import ScLong
from sclong.cells.normalize import Normalization, check_counts, normalize_counts
from sclong.embed.result import Embedding
from sclong.errors import CardError, InputDataError

if TYPE_CHECKING:
    import anndata

    from sclong.embed.embedding import Pooling

AS_THEY_ARE = "counts"
VALUES = (*get_args(Normalization), AS_THEY_ARE)


class ScLongOnValues(ScLong):
    """scLong on counts normalised in another way than in its pretraining, or on raw counts.

    Parameters
    ----------
    values
        "log1p_cp10k", "cp10k" or "paper_log" (:func:`sclong.cells.normalize.normalize_cell`); "counts": as they are.
    pooling, stabilizer, dtype
        As for :class:`sclong.benchmark.sclong.ScLong`.
    """

    def __init__(
        self,
        values: str,
        pooling: Pooling = "nonzero_mean",
        stabilizer: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(pooling, stabilizer, dtype)
        if values not in VALUES:
            raise CardError(f"values {values!r}", f"one of {', '.join(VALUES)}", "correct the card's options")
        self.values = values

    def embed(
        self, adata: anndata.AnnData, *, checkpoint: Path | None, seed: int, batch_size: int, device: str = "cpu"
    ) -> Embedding:
        """Embed `adata`, whose values must be counts (see the base class).

        Raises
        ------
        InputDataError
            Values that are not raw counts.
        """
        kind = str(adata.uns.get("value_kind", "counts"))
        if kind != "counts":
            raise InputDataError(
                f"values of kind {kind!r}",
                "raw counts, of which other values can be made",
                "name the layer with the counts in the benchmark's card, or leave this model out",
            )
        check_counts(adata.X, "expression")
        other = adata.copy()
        counts = sparse.csr_matrix(adata.X, dtype=np.float32)
        other.X = counts if self.values == AS_THEY_ARE else normalize_counts(counts, self.values)
        other.uns["value_kind"] = "nonnegative"  # taken as they are
        embedding = super().embed(other, checkpoint=checkpoint, seed=seed, batch_size=batch_size, device=device)
        facts = {**embedding.facts, "value_kind": f"counts, given to the model as {self.values}"}
        return Embedding(embedding.cell_embedding, embedding.gene_embedding, embedding.gene_mapped, facts)
