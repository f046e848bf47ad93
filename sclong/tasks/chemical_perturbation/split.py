"""Chemical perturbation, step split: by compound, drawn or as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from sclong.benchmark.options import check_policy, parse_options
from sclong.benchmark.problem import PARTS, SPLIT_COLUMNS
from sclong.config.cards import Strict
from sclong.errors import InputDataError, listing
from sclong.runlog import LOGGER
from sclong.seeding import rng
from sclong.tasks.chemical_perturbation.dataset import Signatures, published_parts


class SplitOptions(Strict):
    """Options of the split policy ``compound``."""

    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)


class PublishedSplitOptions(Strict):
    """The split policy ``published`` has no options."""


def split(dataset: Path, policy: str, options: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Split by compound: ``compound`` draws structures (without salts), ``published`` takes the files' parts.

    No structure stands in two parts: see :func:`.published_parts`.

    Parameters
    ----------
    dataset
        Prepared folder.
    policy, options
        "compound" with :class:`SplitOptions`, or "published" with none.
    seed
        Of the draw.

    Returns
    -------
    DataFrame
        One fold; columns fold, sample, part, scenario ("test" for every test signature).

    Raises
    ------
    CardError
        Another policy or option.
    InputDataError
        No published parts, or a part without signatures.
    """
    check_policy(policy, ["compound", "published"], "chemical_perturbation")
    samples = Signatures.read(dataset).samples
    if policy == "published":
        parse_options(PublishedSplitOptions, options, "chemical_perturbation, split published")
        part = _published(samples)
        samples, part = samples[part.notna()], part.dropna()
    else:
        chosen = parse_options(SplitOptions, options, "chemical_perturbation, split compound")
        part = _draw_compounds(samples["structure"], chosen, seed)
    scenario = np.where(part == "test", "test", "")
    return pd.DataFrame(
        {"fold": "0", "sample": samples["sample"], "part": part, "scenario": scenario}, columns=list(SPLIT_COLUMNS)
    )


def _published(samples: pd.DataFrame) -> pd.Series:
    """Return the published part of each signature; NaN for those that are left out, which is logged."""
    if not samples["published_part"].isin(PARTS).all():
        raise InputDataError(
            "the data set has no published parts",
            "data of the format deepce_csv",
            "write split: compound in the card",
        )
    part, facts = published_parts(samples)
    if part.isna().any():
        LOGGER.warning(
            "published: %d training and %d validation signatures are of structures that are also in a later part "
            "and are left out: %d compounds, the first %s",
            facts["published_train_signatures_left_out"],
            facts["published_validation_signatures_left_out"],
            facts["published_compounds_left_out"],
            listing(facts["some_published_compounds_left_out"]),
        )
    empty = [name for name in PARTS if not (part == name).any()]
    if empty:
        raise InputDataError(
            f"the published parts {listing(empty)} have no signatures that can be used",
            "signatures of compounds of its own in every part",
            "look at dataset.json for what was left out and why, or write split: compound in the card",
        )
    return part


def _draw_compounds(structures: pd.Series, chosen: SplitOptions, seed: int) -> np.ndarray:
    """Return the part of each signature: all signatures of a structure go together."""
    compounds = np.unique(structures.to_numpy(dtype=str))
    n_test, n_validation = (
        max(1, round(f * len(compounds))) for f in (chosen.test_fraction, chosen.validation_fraction)
    )
    if n_test + n_validation >= len(compounds):
        raise InputDataError(
            f"{len(compounds)} compounds: none left for training",
            "compounds enough for three parts",
            "use more data or smaller fractions in the card's split_options",
        )
    drawn = rng("compound split", seed).permutation(compounds)
    test, validation = set(drawn[:n_test]), set(drawn[n_test : n_test + n_validation])
    return np.array(["test" if s in test else "validation" if s in validation else "train" for s in structures])
