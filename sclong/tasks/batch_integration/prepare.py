"""Batch integration, step prepare: batches are put together over their shared genes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sclong.benchmark.options import parse_options
from sclong.errors import InputDataError, listing
from sclong.tasks.batch_integration.batches import IntegrationOptions, read_batches
from sclong.tasks.batch_integration.dataset import write_cells


def prepare(inputs: Mapping[str, Path], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Put the batches together over their shared genes, filter, write the data set.

    Parameters
    ----------
    inputs
        ``expression``: one file or a list; ``metadata`` (optional, as many): csv tables with cell names in the
        first column. Without it the metadata are ``.obs``.
    options
        See :class:`.IntegrationOptions`.
    out
        Folder to fill.

    Returns
    -------
    dict
        Cells per batch and per type, genes, and what was left out why.

    Raises
    ------
    InputDataError
        When tables do not belong together, a column is missing, or fewer than two batches or cell types remain.
    """
    chosen = parse_options(IntegrationOptions, options, "batch_integration")
    adata, left_out = read_batches(inputs["expression"], inputs.get("metadata"), chosen)
    per_batch, per_type = (adata.obs[c].value_counts().sort_index() for c in ("batch", "cell_type"))
    for what, found in (("batch", per_batch), ("cell type", per_type)):
        if len(found) < 2:
            raise InputDataError(
                f"one {what} only: {listing(found.index)}",
                f"at least two of each {what}",
                "correct the columns in the card's options",
            )
    write_cells(adata, chosen.value_kind, out)
    return {
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "cells_per_batch": {str(k): int(v) for k, v in per_batch.items()},
        "cells_per_type": {str(k): int(v) for k, v in per_type.items()},
        **left_out,
    }
