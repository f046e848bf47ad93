"""What was done to the cells of each signature, as numbers."""

from __future__ import annotations

import numpy as np

from sclong.benchmark.problem import Problem
from sclong.drugs.fingerprints import morgan_fingerprints
from sclong.tasks.chemical_perturbation.dataset import SignatureContext


def describe(problem: Problem[SignatureContext]) -> np.ndarray:
    """Describe each signature by what was done.

    Returns
    -------
    (samples, 512 + lines + 1) float64
        Morgan fingerprint, one-hot cell line (lines of the training part; zeros for others), log10 of the dose.
    """
    samples = problem.samples
    smiles, which = np.unique(samples["smiles"].to_numpy(dtype=str), return_inverse=True)
    fingerprints = morgan_fingerprints(smiles.tolist())[which]
    lines = np.unique(samples["cell_id"].iloc[problem.rows("train")].to_numpy(dtype=str))
    one_hot = samples["cell_id"].to_numpy(dtype=str)[:, None] == lines
    dose = np.log10(samples["dose_um"].to_numpy(float))[:, None]
    return np.hstack([fingerprints, one_hot, dose]).astype(np.float64)
