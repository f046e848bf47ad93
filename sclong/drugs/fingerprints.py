"""Drugs as names and fingerprints; as graphs: :mod:`sclong.drugs.molecules`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sclong.errors import InputDataError, listing

if TYPE_CHECKING:
    from rdkit import Chem


def _parsed(smiles: str) -> Chem.Mol | None:
    from rdkit import Chem, rdBase

    rdBase.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles) if smiles and isinstance(smiles, str) else None
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


def read_molecule(smiles: str) -> Chem.Mol:
    """Return the molecule that a SMILES writes; RDKit's own messages are silenced.

    Raises
    ------
    InputDataError
        RDKit cannot read it, or it has no atom.
    """
    molecule = _parsed(smiles)
    if molecule is None:
        raise InputDataError(
            f"SMILES {smiles!r} is not a molecule", "valid SMILES", "correct or remove this drug in the file of drugs"
        )
    return molecule


@lru_cache(maxsize=100_000)
def _canonical(smiles: str) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(read_molecule(smiles)))


@lru_cache(maxsize=100_000)
def _fingerprint(smiles: str, n_bits: int, radius: int) -> np.ndarray:
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    return generator.GetFingerprintAsNumPy(read_molecule(smiles)).astype(np.float32)


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


def standardise(smiles: Sequence[str]) -> tuple[list[str], pd.DataFrame]:
    """Return the canonical SMILES of each molecule's largest fragment, and a report.

    Parameters
    ----------
    smiles
        One SMILES per drug; what is not a molecule is reported, not an error.

    Returns
    -------
    standardised
        One per drug: salts, solvents and counter-ions are removed (of all fragments the one with the most heavy atoms
        stays; of equals the one whose canonical SMILES comes first); empty for what is not a molecule.
    report
        One row per drug: ``smiles`` as given, ``standardised``, ``what``: "salt removed", "invalid" or "".

    Notes
    -----
    Charges and tautomers stay as they are written.
    """
    rows = [(s, *_largest_fragment(s if isinstance(s, str) else "")) for s in smiles]
    report = pd.DataFrame(rows, columns=["smiles", "standardised", "what"])
    return report["standardised"].tolist(), report


def check_structures(drugs: Iterable[str], smiles: Iterable[str]) -> dict[str, Any]:
    """Report on the SMILES of a data set's drugs; nothing is changed: a salt stays the drug that the file has.

    Parameters
    ----------
    drugs, smiles
        Name and SMILES of each drug; pairs that stand more than once count once.

    Returns
    -------
    ``salts`` how many names have a SMILES of several fragments, ``names_of_salts`` which;
    ``salts_equal_to_another_drug`` those that would be one structure with another drug if salts were removed.

    Raises
    ------
    InputDataError
        Names every drug whose SMILES RDKit cannot read.
    """
    table = pd.DataFrame({"drug": list(drugs), "given": list(smiles)}).drop_duplicates()
    _, report = standardise(table["given"].tolist())
    table[["bare", "what"]] = report[["standardised", "what"]].to_numpy()
    wrong = table[table["what"] == "invalid"]
    if len(wrong):
        named = [d if d == s else f"{d}: {s}" for d, s in zip(wrong["drug"], wrong["given"].astype(str), strict=True)]
        raise InputDataError(
            f"SMILES that are not a molecule: {listing(named, 20)}",
            "valid SMILES",
            "correct or remove these drugs in the file of drugs",
        )
    table["structure"] = canonical_smiles(table["given"])
    salts = table[table["what"] == "salt removed"]
    several = table.groupby("bare")["structure"].transform("nunique") > 1
    return {
        "salts": salts["drug"].nunique(),
        "names_of_salts": sorted(set(salts["drug"])),
        "salts_equal_to_another_drug": sorted(set(salts.loc[several[salts.index], "drug"])),
    }


@lru_cache(maxsize=100_000)
def _largest_fragment(smiles: str) -> tuple[str, str]:
    from rdkit import Chem

    molecule = _parsed(smiles)
    if molecule is None:
        return "", "invalid"
    fragments = Chem.GetMolFrags(molecule, asMols=True)
    if len(fragments) == 1:
        return _canonical(smiles), ""
    named = [(-f.GetNumHeavyAtoms(), str(Chem.MolToSmiles(f))) for f in fragments]
    return min(named)[1], "salt removed"
