"""Drugs as fingerprints: what the benchmarks know of a molecule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sclong.errors import InputDataError

if TYPE_CHECKING:
    from rdkit import Chem


def _molecule(smiles: str) -> Chem.Mol:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles) if smiles and isinstance(smiles, str) else None
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise InputDataError(
            f"SMILES {smiles!r} is not a molecule", "valid SMILES", "correct or remove this drug in the file of drugs"
        )
    return molecule


@lru_cache(maxsize=100_000)
def _canonical(smiles: str) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(_molecule(smiles)))


@lru_cache(maxsize=100_000)
def _fingerprint(smiles: str, n_bits: int, radius: int) -> np.ndarray:
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    return generator.GetFingerprintAsNumPy(_molecule(smiles)).astype(np.float32)


def canonical_smiles(smiles: Iterable[str]) -> list[str]:
    """Return the canonical SMILES of each, so that one molecule has one name however it was written.

    Splits that hold drugs out need it: the same molecule, written in two ways, must not be on both sides.

    Raises
    ------
    InputDataError
        Names the first SMILES that RDKit cannot read.
    """
    return [_canonical(s) for s in smiles]


def morgan_fingerprints(smiles: Sequence[str], n_bits: int = 512, radius: int = 2) -> np.ndarray:
    """Return Morgan fingerprints (0/1), one row per SMILES; equal SMILES are computed once.

    Parameters
    ----------
    smiles
        One SMILES per drug.
    n_bits, radius
        Length and radius (2: ECFP4).

    Returns
    -------
    (drugs, n_bits) float32

    Raises
    ------
    InputDataError
        Names the first SMILES that RDKit cannot read.
    """
    if len(smiles) == 0:
        return np.zeros((0, n_bits), dtype=np.float32)
    return np.stack([_fingerprint(s, n_bits, radius) for s in smiles])
