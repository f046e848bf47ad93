"""How pairs of drug and line are cut: at random, by drug, by line, by tissue; as published where files say so."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.config.cards import Strict
from sclong.drugs.fingerprints import standardise
from sclong.errors import InputDataError
from sclong.runlog import LOGGER
from sclong.seeding import rng

POLICIES = ("random_pairs", "leave_drug_out", "leave_cell_out", "leave_tissue_out")


class SplitOptions(Strict):
    """Options of every split policy; those about the test part do nothing where a published split is used."""

    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)


def units_of(pairs: pd.DataFrame, policy: str) -> pd.Series:
    """Return what may not be divided between parts: structure and line together, structure, line, or tissue.

    A salt and its base are one structure: that of the largest fragment, by the first SMILES that has it.
    """
    smiles = pairs["smiles"].unique()
    bare = pd.Series(standardise(smiles.tolist())[0], index=smiles)
    structure = pairs["smiles"].map(pd.Series(smiles, index=smiles).groupby(bare).transform("min"))
    return {
        "random_pairs": structure + "|" + pairs["cell_line"],
        "leave_drug_out": structure,
        "leave_cell_out": pairs["cell_line"],
        "leave_tissue_out": pairs["tissue"],
    }[policy]


def draw_parts(pairs: pd.DataFrame, policy: str, chosen: SplitOptions, seed: int) -> pd.Series:
    """Return the part of every pair; NaN for pairs that are left out (of lines without a tissue, where it matters).

    Random pairs are drawn within each tissue. Tissues are drawn until they hold the wanted share of pairs.

    Raises
    ------
    InputDataError
        Fewer than three tissues where they are held out.
    """
    units = units_of(pairs, policy)
    if policy == "leave_tissue_out":
        return _draw_tissues(units, chosen, seed)
    strata = pairs["tissue"] if policy == "random_pairs" else pd.Series("", index=pairs.index)
    part = pd.Series("train", index=pairs.index, dtype=object)
    for stratum, rows in pairs.groupby(strata):
        part[rows.index] = _draw(units[rows.index], chosen.test_fraction, chosen.validation_fraction, seed, stratum)
    return part


def published_parts(
    pairs: pd.DataFrame, published: pd.DataFrame, policy: str, chosen: SplitOptions, seed: int
) -> pd.Series:
    """Return the published part of every pair; NaN for pairs that are left out.

    Where the files have no validation part it is drawn from their training part. Training pairs of a structure and a
    line that are in the test part too (measured under another drug id) are left out.
    """
    part = pairs["sample"].map(published.set_index("sample")["part"])
    units = units_of(pairs, policy)
    leaked = (part != "test") & units.isin(set(units[part == "test"])) & part.notna()
    part[leaked] = np.nan
    LOGGER.info("%s: %d published training pairs are also test pairs and are left out", policy, int(leaked.sum()))
    if not (part == "validation").any():
        rows = part.index[part == "train"]
        for stratum, members in pairs.loc[rows].groupby("tissue"):
            part[members.index] = _draw(units[members.index], 0.0, chosen.validation_fraction, seed, stratum)
    leaked = (part == "train") & units.isin(set(units[part == "validation"]))
    part[leaked] = np.nan
    return part


def _draw(units: pd.Series, test_fraction: float, validation_fraction: float, seed: int, stratum: object) -> np.ndarray:
    """Return the part of each pair: those of a unit go together, and no part is empty if there are three units."""
    names = np.unique(units.to_numpy(dtype=str))
    drawn = rng("drug response split", seed, stratum).permutation(names)
    if len(names) < 3:
        return np.full(len(units), "train", dtype=object)
    n_test = max(1, round(test_fraction * len(names))) if test_fraction else 0
    n_validation = max(1, round(validation_fraction * len(names)))
    test, validation = set(drawn[:n_test]), set(drawn[n_test : n_test + n_validation])
    return np.array(
        ["test" if u in test else "validation" if u in validation else "train" for u in units], dtype=object
    )


def _draw_tissues(tissue: pd.Series, chosen: SplitOptions, seed: int) -> pd.Series:
    known = tissue[tissue != ""]
    sizes = known.value_counts()
    if len(sizes) < 3:
        raise InputDataError(
            f"{len(sizes)} tissues: {', '.join(map(str, sizes.index)) or 'none'}",
            "at least three: one part each",
            "use another split, or fill the column tissue",
        )
    order = rng("drug response tissues", seed).permutation(np.sort(sizes.index.to_numpy(dtype=str)))
    part: dict[str, str] = {}
    names = iter(order)
    for wanted, share in (("test", chosen.test_fraction), ("validation", chosen.validation_fraction)):
        held = 0
        while held < share * len(known) and len(order) - len(part) > (2 if wanted == "test" else 1):
            name = next(names)
            part[name] = wanted
            held += int(sizes[name])
    return tissue.map({name: part.get(name, "train") for name in order})
