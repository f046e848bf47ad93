"""Drugs made of scaffolds and substituents, and what they do: every substituent acts on TFs of one module."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from sclong.world.world import N_MODULES, World

SCAFFOLDS = {
    "benzene": "c1({a})ccc({b})cc1",
    "pyridine": "c1({a})ccc({b})nc1",
    "indole": "c1({a})ccc2[nH]cc({b})c2c1",
    "quinoline": "c1({a})ccc2nc({b})ccc2c1",
    "biphenyl": "c1({a})ccc(cc1)-c1ccc({b})cc1",
}
SUBSTITUENTS = {
    "fluoro": "F",
    "chloro": "Cl",
    "methoxy": "OC",
    "amino": "N",
    "trifluoromethyl": "C(F)(F)F",
    "cyano": "C#N",
    "carboxy": "C(=O)O",
    "sulfonamide": "S(N)(=O)=O",
}
PAIR_OFFSETS = (1, 2, 3, 5, 6)  # per scaffold: substituents i and i + offset meet, so each is in ten drugs
TISSUES = ("blood", "liver", "kidney", "lung")
LINES_PER_TISSUE = 6

N_LANDMARKS = 200
N_SIGNATURE_LINES = 14
DOSES_UM = (1.11, 10.0)
SIGNATURE_UNIT = 0.35  # log expression change that makes a z-score of 1
SIGNATURE_NOISE = 0.7
N_COMBINED_DRUGS, LINES_PER_PAIR = 20, 6


@dataclass(frozen=True)
class Pharmacy:
    """Drugs, lines and mechanisms that all drug files share.

    Attributes
    ----------
    drugs
        drug_id, smiles, scaffold, first and second (substituents), gain (of the scaffold), ec50_um.
    contains : (drugs, substituents) float64
        1 where a drug carries a substituent.
    mechanism : (substituents, tfs) float64
        Shift of each TF's activity by each substituent; negative: inhibits.
    complementarity : (substituents, substituents) float64
        Symmetric; positive: synergistic.
    lines
        cell_line, tissue.
    intrinsic : (lines, tfs) float64
        TF activities of the lines before regulation among TFs.
    silent : (lines, genes) bool
    """

    drugs: pd.DataFrame
    contains: np.ndarray
    mechanism: np.ndarray
    complementarity: np.ndarray
    lines: pd.DataFrame
    intrinsic: np.ndarray
    silent: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """Shift of each TF by each drug at saturating dose in a line where the TF is fully active, (drugs, tfs)."""
        return self.drugs["gain"].to_numpy()[:, None] * (self.contains @ self.mechanism)


def pharmacy(world: World) -> Pharmacy:
    """Draw drugs, mechanisms and lines."""
    generator = world.rng("pharmacy")
    gain = dict(zip(SCAFFOLDS, generator.uniform(0.7, 1.3, len(SCAFFOLDS)), strict=True))
    names = list(generator.permutation(list(SUBSTITUENTS)))
    n = len(names)
    rows = [
        (scaffold, names[i], names[(i + offset) % n])
        for scaffold, offset in zip(SCAFFOLDS, PAIR_OFFSETS, strict=True)
        for i in range(n)
    ]
    drugs = pd.DataFrame(rows, columns=["scaffold", "first", "second"])
    drugs = drugs.iloc[generator.permutation(len(drugs))].reset_index(drop=True)
    drugs.insert(0, "drug_id", [f"DRG{i + 1:03d}" for i in range(len(drugs))])
    drugs.insert(1, "smiles", [_smiles(r.scaffold, r.first, r.second) for r in drugs.itertuples()])
    drugs["gain"] = drugs["scaffold"].map(gain)
    drugs["ec50_um"] = np.exp(generator.normal(np.log(1.5), 0.5, len(drugs)))
    substituents = list(SUBSTITUENTS)
    contains = np.array([[float(s in pair) for s in substituents] for pair in drugs[["first", "second"]].to_numpy()])

    mechanism = np.zeros((n, len(world.tfs)))
    for substituent, module in enumerate(generator.permutation(N_MODULES)):
        members = generator.permutation(np.flatnonzero(world.tf_module == module))
        sign = 1.0 if substituent % 4 == 3 else -1.0  # one in four activates
        mechanism[substituent, members[0]] = sign * generator.uniform(1.4, 2.0)
        mechanism[substituent, members[1]] = sign * generator.uniform(0.6, 1.0)
    upper = np.triu(generator.choice([-1.0, 0.0, 1.0], size=(n, n), p=[0.4, 0.2, 0.4]))
    lines, intrinsic, silent = _lines(world)
    return Pharmacy(drugs, contains, mechanism, upper + np.triu(upper, 1).T, lines, intrinsic, silent)


def _smiles(scaffold: str, first: str, second: str) -> str:
    from rdkit import Chem

    written = SCAFFOLDS[scaffold].format(a=SUBSTITUENTS[first], b=SUBSTITUENTS[second])
    return str(Chem.MolToSmiles(Chem.MolFromSmiles(written)))


def _lines(world: World) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    generator = world.rng("cell lines")
    tissues = np.repeat(TISSUES, LINES_PER_TISSUE)
    names = [f"HL{101 + i}" for i in range(len(tissues))]
    ranks = np.tile(np.arange(LINES_PER_TISSUE), len(TISSUES))
    contexts = [world.context(t, n, int(r)) for t, n, r in zip(tissues, names, ranks, strict=True)]
    intrinsic = np.stack([c.intrinsic for c in contexts])
    intrinsic = intrinsic + generator.normal(0, 0.5, intrinsic.shape)
    return pd.DataFrame({"cell_line": names, "tissue": tissues}), intrinsic, np.stack([c.silent for c in contexts])


def drug_files(world: World) -> dict[str, Any]:
    """Return the drugs and, as the answer, what they are made of and do."""
    shop = pharmacy(world)
    shifts = pd.DataFrame(shop.shift, columns=world.tf_symbols)
    substituents = pd.DataFrame(shop.mechanism, columns=world.tf_symbols)
    substituents.insert(0, "substituent", list(SUBSTITUENTS))
    matrix = pd.DataFrame(shop.complementarity, columns=list(SUBSTITUENTS))
    matrix.insert(0, "substituent", list(SUBSTITUENTS))
    return {
        "drugs.tsv": shop.drugs[["drug_id", "smiles"]],
        "answer_key/drug_mechanisms.tsv": pd.concat([shop.drugs, shifts], axis=1),
        "answer_key/substituent_effects.tsv": substituents,
        "answer_key/substituent_complementarity.tsv": matrix,
    }


def cell_lines(world: World) -> dict[str, Any]:
    """Bulk-like expression of the lines, log1p of counts per ten thousand, and their TF activities."""
    shop, generator = pharmacy(world), world.rng("cell_lines.h5ad")
    activity = world.settle(shop.intrinsic)
    log_means = world.log_means(activity) + generator.normal(0, 0.05, shop.silent.shape)
    level = np.where(shop.silent, 0, np.exp(log_means))
    expression = np.log1p(1e4 * level / level.sum(axis=1, keepdims=True)).astype(np.float32)
    obs = shop.lines[["tissue"]].set_index(pd.Index(shop.lines["cell_line"], name="cell_line"))
    activities = pd.DataFrame(activity, columns=world.tf_symbols)
    return {
        "cell_lines.h5ad": ad.AnnData(expression, obs=obs, var=pd.DataFrame(index=world.genes["gene_id"].to_numpy())),
        "answer_key/cell_line_activities.tsv": pd.concat([shop.lines, activities], axis=1),
    }


def signatures(world: World) -> dict[str, Any]:
    """Answers of landmark genes to each drug, in some lines, at two doses.

    An inhibitor can only take what is there: its shift is scaled by how active the TF is in the line. Dose follows a
    Hill curve with exponent 1.
    """
    shop, generator = pharmacy(world), world.rng("signatures.h5ad")
    regulated = np.flatnonzero(np.abs(world.target_weights).sum(axis=1) > 0)
    n_tfs_as_landmarks = N_LANDMARKS // 10
    landmarks = np.sort(
        np.concatenate(
            [
                generator.choice(world.tfs, n_tfs_as_landmarks, replace=False),
                generator.choice(regulated, N_LANDMARKS - n_tfs_as_landmarks, replace=False),
            ]
        )
    )
    chosen = np.sort(generator.choice(len(shop.lines), N_SIGNATURE_LINES, replace=False))
    grid = np.meshgrid(np.arange(len(shop.drugs)), chosen, np.arange(len(DOSES_UM)), indexing="ij")
    drug, line, dose = (axis.ravel() for axis in grid)

    concentration = np.array(DOSES_UM)[dose]
    hill = concentration / (concentration + shop.drugs["ec50_um"].to_numpy()[drug])
    intrinsic = shop.intrinsic[line]
    active = 1 / (1 + np.exp(-1.5 * world.settle(intrinsic)))
    shift = shop.shift[drug] * hill[:, None] * (0.4 + 0.9 * active)
    change = world.log_means(world.settle(intrinsic + shift)) - world.log_means(world.settle(intrinsic))
    clean = (np.where(shop.silent[line], 0, change)[:, landmarks] / SIGNATURE_UNIT).astype(np.float32)
    noisy = clean + generator.normal(0, SIGNATURE_NOISE, clean.shape).astype(np.float32)
    obs = pd.DataFrame(
        {
            "pert_id": shop.drugs["drug_id"].to_numpy()[drug],
            "smiles": shop.drugs["smiles"].to_numpy()[drug],
            "cell_id": shop.lines["cell_line"].to_numpy()[line],
            "dose_um": concentration,
        },
        index=pd.Index([f"SIG{i + 1:05d}" for i in range(len(drug))], name="sig_id"),
    )
    symbols = world.symbols[landmarks].astype(str)
    return {
        "signatures.h5ad": ad.AnnData(noisy, obs=obs, var=pd.DataFrame(index=symbols)),
        "answer_key/signatures_without_noise.npz": {"z": clean, "sig_id": np.array(obs.index, str), "genes": symbols},
    }


def drug_response(world: World) -> dict[str, Any]:
    """Return ln IC50 of every drug in every line, about one pair in ten missing.

    ``ln_ic50 = potency(drug) + resistance(line) - activity(drug's targets in the line) + noise``: a line in which an
    inhibited TF is active dies at a lower dose; for activators it is the other way round.
    """
    shop, generator = pharmacy(world), world.rng("drug_response.tsv")
    n_drugs, n_lines = len(shop.drugs), len(shop.lines)
    of_substituent = generator.normal(0, 0.8, len(SUBSTITUENTS))
    of_scaffold = dict(zip(SCAFFOLDS, generator.normal(0, 0.5, len(SCAFFOLDS)), strict=True))
    potency = 1.5 + shop.contains @ of_substituent + shop.drugs["scaffold"].map(of_scaffold).to_numpy()
    resistance = generator.normal(0, 0.5, n_lines)
    activity = world.settle(shop.intrinsic)
    activity = (activity - activity.mean(axis=0)) / activity.std(axis=0)
    weights = shop.shift / np.abs(shop.shift).sum(axis=1, keepdims=True)
    interaction = 1.2 * weights @ activity.T
    clean = potency[:, None] + resistance + interaction
    table = pd.DataFrame(
        {
            "drug_id": np.repeat(shop.drugs["drug_id"].to_numpy(), n_lines),
            "cell_line": np.tile(shop.lines["cell_line"].to_numpy(), n_drugs),
            "tissue": np.tile(shop.lines["tissue"].to_numpy(), n_drugs),
            "ln_ic50": (clean + generator.normal(0, 0.35, clean.shape)).ravel(),
        }
    )
    truth = table[["drug_id", "cell_line"]].assign(
        potency=np.repeat(potency, n_lines), resistance=np.tile(resistance, n_drugs), interaction=interaction.ravel()
    )
    measured = np.sort(generator.choice(len(table), int(0.9 * len(table)), replace=False))
    return {
        "drug_response.tsv": table.iloc[measured],
        "answer_key/drug_response_parts.tsv": truth,
    }


def drug_combination(world: World) -> dict[str, Any]:
    """Pairs of drugs in lines, 1 where they are synergistic.

    The score is the mean complementarity of their substituents, scaled up where the TFs that both drugs act on are
    active in the line, plus noise; the label says whether it is above the median.
    """
    shop, generator = pharmacy(world), world.rng("drug_combination.tsv")
    chosen = np.sort(generator.choice(len(shop.drugs), N_COMBINED_DRUGS, replace=False))
    pairs = np.array(list(combinations(chosen, 2)))
    n_lines = len(shop.lines)
    line = np.concatenate([np.sort(generator.choice(n_lines, LINES_PER_PAIR, replace=False)) for _ in pairs])
    pair = np.repeat(np.arange(len(pairs)), LINES_PER_PAIR)
    first, second = pairs[pair].T

    complementarity = np.einsum("nk,kl,nl->n", shop.contains[first], shop.complementarity, shop.contains[second]) / 4
    activity = world.settle(shop.intrinsic)
    activity = (activity - activity.mean(axis=0)) / activity.std(axis=0)
    reach = np.abs(shop.shift[first]) + np.abs(shop.shift[second])
    sensitivity = (reach * activity[line]).sum(axis=1) / np.sqrt((reach**2).sum(axis=1))
    score = complementarity + 0.5 * sensitivity + 0.5 * complementarity * sensitivity
    score = score + generator.normal(0, 0.15, len(score))
    label = (score > np.median(score)).astype(int)
    smiles, names = shop.drugs["smiles"].to_numpy(), shop.lines["cell_line"].to_numpy()
    table = pd.DataFrame({"drug1": smiles[first], "drug2": smiles[second], "cell": names[line], "label": label})
    truth = table.assign(complementarity=complementarity, sensitivity=sensitivity, score=score)
    return {"drug_combination.tsv": table, "answer_key/combination_scores.tsv": truth}
