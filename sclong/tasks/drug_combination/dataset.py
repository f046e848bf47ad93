"""The prepared data set of drug combinations.

::

    triples.tsv       sample, drug1, drug2 (SMILES), cell, label (0 or 1), combination, tissue
    expression.h5ad   cell lines x genes: what embedding models see
    <policy>.tsv      fold, sample: published test folds of a split policy, where the card names them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from sclong.drugs.context import DrugContext
from sclong.drugs.features import pair_fingerprints
from sclong.errors import InputDataError, listing
from sclong.io.tables import read_tsv
from sclong.tasks.drug_combination.splits import TRIPLE

COLUMNS = ("sample", *TRIPLE, "combination", "tissue")

OUTPUTS = ["synergy"]
"""Name of the one target: whether the two drugs act in synergy."""


@dataclass(frozen=True, kw_only=True)
class CombinationContext(DrugContext):
    """What every model of drug combinations may use: the expression of the cell lines.

    Samples are triples, with the columns ``drug1``, ``drug2`` (SMILES) and ``cell``; the target is 1 (synergy) or 0.
    Every model sees a pair without order.
    """

    line_column: ClassVar[str] = "cell"
    classifies: ClassVar[bool] = True

    def drug_features(self, samples: pd.DataFrame) -> np.ndarray:
        """Return sum and absolute difference of both drugs' fingerprints, (samples, 1024)."""
        return pair_fingerprints(samples)


def read_triples(dataset: Path) -> pd.DataFrame:
    """Read the triples of a prepared data set; ids stay strings.

    Raises
    ------
    InputDataError
        A sample appears twice, or a label is not 0 or 1.
    """
    text = {c: str for c in COLUMNS if c != "label"}
    triples = read_tsv(dataset / "triples.tsv", COLUMNS, dtype=text).fillna({"tissue": ""})
    twice = triples["sample"][triples["sample"].duplicated()]
    if len(twice) or not set(triples["label"]) <= {0, 1}:
        raise InputDataError(
            f"{dataset / 'triples.tsv'}: duplicated samples {listing(twice)}, labels "
            f"{listing(sorted(set(triples['label'])), 3)}",
            "each sample once, labels 0 or 1",
            "delete the folder of the data set and let it be prepared again",
        )
    return triples
