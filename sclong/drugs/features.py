"""Fingerprints of the drugs of samples: one drug per sample, or an unordered pair of drugs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sclong.drugs.fingerprints import morgan_fingerprints


def drugs_of(triples: pd.DataFrame) -> np.ndarray:
    """Return the distinct drugs, sorted."""
    return np.unique(triples[["drug1", "drug2"]].to_numpy(dtype=str))


def pair_fingerprints(samples: pd.DataFrame) -> np.ndarray:
    """Return the sum and the absolute difference of both drugs' fingerprints, (samples, 1024): order does not count."""
    smiles = drugs_of(samples)
    bits = morgan_fingerprints(smiles.tolist())
    first, second = (bits[np.searchsorted(smiles, samples[c].to_numpy(dtype=str))] for c in ("drug1", "drug2"))
    return np.hstack([first + second, np.abs(first - second)])


def fingerprints(samples: pd.DataFrame) -> np.ndarray:
    """Return the Morgan fingerprint of each sample's drug, (samples, 512)."""
    smiles, which = np.unique(samples["smiles"].to_numpy(dtype=str), return_inverse=True)
    return morgan_fingerprints(smiles.tolist())[which]
