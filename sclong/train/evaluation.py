"""How well hidden values of held-out donors are reconstructed: by the model, and by four controls.

Shapes: B cells of a pass, N positions (genes and PAD), T tissues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sclong.config.sections import PretrainConfig
from sclong.io.files import read_json, write_json
from sclong.seeding import derive_seed, rng
from sclong.train import low_rank, nearest
from sclong.train.dataset import PretrainingCells
from sclong.train.masking import Masked, mask_values
from sclong.train.parallel import Replica, World
from sclong.train.step import ErrorSums, cells_per_pass, means, squared_errors

BASELINE_CELLS = 10_000
"""Training cells, drawn at random, whose means are the baselines (all, where there are fewer)."""
MINIMUM_ENTRIES = 5
"""A gene has a correlation when at least so many of its held-out values are hidden, and not all are equal."""
CELLS_PER_READ = 256


class Moments:
    """Sums over hidden expressed entries, gene by gene, from which correlations follow."""

    def __init__(self, n_positions: int, device: torch.device) -> None:
        self.sums_6N = torch.zeros(6, n_positions, dtype=torch.float64, device=device)

    def add(self, predicted_BN: torch.Tensor, true_BN: torch.Tensor, entries_BN: torch.Tensor) -> None:
        """Count the entries of some cells."""
        p_BN, t_BN = (x.double().masked_fill(~entries_BN, 0.0) for x in (predicted_BN, true_BN))
        for row, part_BN in enumerate((entries_BN.double(), p_BN, t_BN, p_BN * p_BN, t_BN * t_BN, p_BN * t_BN)):
            self.sums_6N[row] += part_BN.sum(0)


def mean_correlation(sums_6N: torch.Tensor) -> tuple[float | None, int]:
    """Return the mean over genes of Pearson's correlation between predicted and true values, and how many genes count.

    A gene counts when it has at least `MINIMUM_ENTRIES` entries whose true values are not all equal. Where the
    predicted ones are all equal, its correlation is 0. None: no gene counts.
    """
    n, p, t, pp, tt, pt = sums_6N.cpu().numpy()
    n_or_1 = np.maximum(n, 1)
    spread_p, spread_t, joint = pp - p * p / n_or_1, tt - t * t / n_or_1, pt - p * t / n_or_1
    counts = (n >= MINIMUM_ENTRIES) & (spread_t > 1e-9 * np.maximum(tt, 1e-30))
    if not counts.any():
        return None, 0
    varies = spread_p > 1e-9 * np.maximum(pp, 1e-30)
    scale = np.sqrt(np.where(varies, spread_p, 1.0) * np.where(counts, spread_t, 1.0))
    return float(np.where(varies, joint / scale, 0.0)[counts].mean()), int(counts.sum())


def held_out_parts(
    cells: PretrainingCells, config: PretrainConfig, world: World
) -> Iterator[tuple[np.ndarray, Masked]]:
    """Give this process's held-out cells, always masked the same way, pass by pass.

    Every process gets as many passes, since with FSDP all take part in each; one that has no cell left gets a cell
    without values, in which nothing is chosen.

    Yields
    ------
    rows
        Store positions of the cells; -1 for the cell without values.
    masked
        The cells.
    """
    per_pass = cells_per_pass(config)
    seed = derive_seed("validation", config.seed)
    for start in range(0, len(cells.validation), per_pass * world.size):
        places = np.arange(start, start + per_pass * world.size)[world.share(per_pass * world.size)]
        places = places[places < len(cells.validation)]
        rows = cells.validation[places]
        values_BN = cells.values(rows) if len(rows) else torch.zeros(1, cells.store.n_genes + 1)
        masked = mask_values(
            values_BN,
            seed,
            0,
            config.mask_fraction,
            config.replace_fraction,
            zero_fraction=config.mask_zero_fraction if len(rows) else 0.0,
            places=places.tolist() if len(rows) else None,
        )
        yield rows if len(rows) else np.array([-1]), masked


@torch.no_grad()
def evaluate(
    replica: Replica, cells: PretrainingCells, config: PretrainConfig, stop: object = False
) -> dict[str, float | None]:
    """Return the loss on held-out donors: always the same cells and the same mask, random features as they are.

    `stop` is true from when this process was asked to stop on; it is read before every pass.

    Returns
    -------
    dict
        ``held_out_loss`` over all chosen entries, ``held_out_loss_replaced`` over the hidden expressed ones,
        ``held_out_loss_zeros`` over hidden zeros (where zeros are hidden), ``held_out_gene_correlation`` (see
        :func:`mean_correlation`) over ``held_out_genes`` genes.

    Raises
    ------
    StopNowError
        A process was asked to stop.
    """
    model, world = replica.model, replica.world
    model.eval()
    sums = ErrorSums(world.device)
    moments = Moments(cells.store.n_genes + 1, world.device)
    for _, masked in held_out_parts(cells, config, world):
        world.check(stop)
        errors = squared_errors(model, masked, world.device)
        sums.add(errors)
        moments.add(errors.prediction_BN, errors.labels_BN, errors.replaced_BN)
    loss, replaced, _, zeros = means(world.total(sums.sums_32))
    correlation, genes = mean_correlation(world.total(moments.sums_6N))
    return {
        "held_out_loss": loss,
        "held_out_loss_replaced": replaced,
        **({"held_out_loss_zeros": zeros} if config.mask_zero_fraction else {}),
        "held_out_gene_correlation": correlation,
        "held_out_genes": genes,
    }


class ControlScore:
    """Error and correlation of a control over hidden expressed entries."""

    def __init__(self, n_positions: int) -> None:
        self.error, self.entries = 0.0, 0
        self.moments = Moments(n_positions, torch.device("cpu"))

    def add(self, predicted_BN: torch.Tensor, true_BN: torch.Tensor, entries_BN: torch.Tensor) -> None:
        """Count the entries of some cells."""
        self.error += float((predicted_BN - true_BN)[entries_BN].double().square().sum())
        self.entries += int(entries_BN.sum())
        self.moments.add(predicted_BN, true_BN, entries_BN)

    def result(self, world: World) -> tuple[float | None, float | None]:
        """Return the mean squared error and the mean correlation over the cells of all processes; None: no entry."""
        error, entries = world.total(torch.tensor([self.error, float(self.entries)]).double()).tolist()
        correlation = mean_correlation(world.total(self.moments.sums_6N))[0]
        return (error / entries if entries else None), correlation


def baselines(
    cells: PretrainingCells, config: PretrainConfig, world: World, path: Path, stop: object = False
) -> dict[str, float | None]:
    """Return how four controls do on the held-out donors' hidden expressed values.

    The gene mean is the mean of a gene's expressed values over a sample of `BASELINE_CELLS` training cells: hidden
    values are expressed ones, so that this is the best constant. The tissue mean is the same over the sample's cells
    of the held-out cell's tissue; where the gene is expressed in none of them, the gene mean; where it is expressed
    nowhere, the mean of all expressed values. The low-rank fit is :mod:`sclong.train.low_rank`, the nearest
    training cells :mod:`sclong.train.nearest`.

    Computed once for a training, and read from `path` when it goes on. `stop` is read as by :func:`evaluate`.

    Returns
    -------
    dict
        ``baseline_gene_mean``, ``baseline_tissue_mean``, ``baseline_low_rank``, ``baseline_nearest_cells``: mean
        squared errors, to be compared with ``held_out_loss_replaced``; the same names with ``_correlation``: mean
        correlation over genes (the gene mean's is 0); ``baseline_low_rank_components``,
        ``baseline_nearest_cells_number``: the selected rank and number of neighbours.
    """
    known = world.by_first(lambda: read_json(path) if path.is_file() else None)
    if known is not None and "baseline_nearest_cells" in known:
        return known
    tissue = cells.store.obs["tissue"].astype("category")  # codes: text for every cell of a large corpus would not fit
    tissue_of = tissue.cat.codes.to_numpy()
    tissues, sums_2TN = tissue_sums(cells, config, world, tissue_of)
    tables_TN = mean_tables(sums_2TN).float()
    linear = world.by_first(lambda: low_rank.fit(cells, config))
    memory = world.by_first(lambda: nearest.fit(cells, config))
    fitted = {"low_rank": linear.predict, "nearest_cells": memory.predict}
    scores = {name: ControlScore(cells.store.n_genes + 1) for name in ("gene_mean", "tissue_mean", *fitted)}
    for rows, masked in held_out_parts(cells, config, world):
        world.check(stop)
        labels_BN = masked.labels_BN
        entries_BN = masked.replaced_BN & (labels_BN != 0)
        places = [tissues.get(int(tissue_of[row]), 0) if row >= 0 else 0 for row in rows]
        scores["gene_mean"].add(tables_TN[0].expand_as(labels_BN), labels_BN, entries_BN)
        scores["tissue_mean"].add(tables_TN[places], labels_BN, entries_BN)
        for name, predict in fitted.items():
            scores[name].add(predict(masked.masked_BN), labels_BN, entries_BN)
    found = {name: score.result(world) for name, score in scores.items()}
    result = {
        **{f"baseline_{name}": error for name, (error, _) in found.items()},
        **{f"baseline_{name}_correlation": found[name][1] for name in ("tissue_mean", *fitted)},
        "baseline_low_rank_components": linear.rank,
        "baseline_nearest_cells_number": memory.neighbours,
    }
    world.by_first(lambda: write_json(path, result))
    return dict(sorted(result.items()))  # as the file has them


def beats_low_rank(line: Mapping[str, Any]) -> bool | None:
    """Return whether the model's error on hidden expressed values is below that of the low-rank fit; None: unknown.

    Parameters
    ----------
    line
        Scores of :func:`evaluate` and :func:`baselines`.
    """
    model, control = line["held_out_loss_replaced"], line["baseline_low_rank"]
    return None if model is None or control is None else model < control


def tissue_sums(
    cells: PretrainingCells, config: PretrainConfig, world: World, tissue_of: np.ndarray
) -> tuple[dict[int, int], torch.Tensor]:
    """Return the sums and numbers of expressed values in a sample of training cells, by tissue and gene.

    Returns
    -------
    tissues
        Code of a tissue -> its place in the tables, from 1 on.
    sums_2TN : (2, tissues + 1, N) float64
        Sums and numbers; place 0 is over all tissues.
    """
    training = cells.order.rows
    count = min(BASELINE_CELLS, len(training))
    chosen = rng("baseline cells", config.seed).choice(len(training), count, replace=False, shuffle=False)
    sample = np.sort(training[chosen])
    tissues = {int(code): place for place, code in enumerate(np.unique(tissue_of[sample]), start=1)}
    sums_2TN = torch.zeros(2, len(tissues) + 1, cells.store.n_genes + 1, dtype=torch.float64)
    bounds = np.linspace(0, count, world.size + 1).astype(int)[world.rank : world.rank + 2]
    for start in range(int(bounds[0]), int(bounds[1]), CELLS_PER_READ):
        rows = sample[start : min(start + CELLS_PER_READ, int(bounds[1]))]
        values_BN = cells.values(rows).double()
        place_B = torch.tensor([tissues[int(t)] for t in tissue_of[rows]])
        for into_TN, part_BN in zip(sums_2TN, (values_BN, (values_BN != 0).double()), strict=True):
            into_TN.index_add_(0, place_B, part_BN)
    sums_2TN[:, 0] = sums_2TN[:, 1:].sum(1)
    return tissues, world.total(sums_2TN).cpu()


def mean_tables(sums_2TN: torch.Tensor) -> torch.Tensor:
    """Return the means of sums and numbers, (T, N); where a tissue has no value, row 0's, where that has none, all."""
    sums_TN, numbers_TN = sums_2TN
    everything = sums_TN[0].sum() / numbers_TN[0].sum().clamp(min=1)
    overall_N = torch.where(numbers_TN[0] > 0, sums_TN[0] / numbers_TN[0].clamp(min=1), everything)
    table_TN = torch.where(numbers_TN > 0, sums_TN / numbers_TN.clamp(min=1), overall_N)
    table_TN[0] = overall_N
    return table_TN
