"""Genetic perturbations on the public slice of Norman et al.: every row of the preset small, seed by seed.

    SCLONG_MIRROR=FOLDER python benchmarks/norman.py run --work FOLDER [--models M ...] [--seeds N]
        [--checkpoint FOLDER] [--untrained FOLDER]
    python benchmarks/norman.py report --work FOLDER [--note TEXT]

`run` goes through the steps of sclong/benchmark/run.py on the files of a mirror (laid out as <id>/<file>), one thread; what
was predicted before is kept. Rows on scLong need `--checkpoint` (a trained model), those on the untrained network
`--untrained`; without them they are left out. `report` scores all predictions and writes benchmarks/results/norman.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

from sclong.benchmark.run import embed_dataset, make_split, predict, prepare_dataset, read_split, score
from sclong.io.files import read_json, write_text
from sclong.io.tables import read_tsv, write_tsv
from sclong.plan.plan import Plan, make_plan
from sclong.report.tables import ROLE_ORDER, summarize
from sclong.tasks.genetic_perturbation.scores import SCENARIOS

NAME = "norman"
ROOT = Path(__file__).resolve().parent.parent
TABLES = {
    "Mean squared error, 20 genes (lower is better)": "mse_top20_de_non_dropout",
    "Pearson of the change, 20 genes (higher is better)": "pearson_delta_top20_de_non_dropout",
    "Pearson around the mean of training, all genes: the training mean has nothing": "pearson_around_train_mean_all_genes",
    "Discrimination, cosine of the change, all genes: one answer to everything has 0.5 over all conditions": "discrimination_cosine_delta_all_genes",
}


def small() -> Plan:
    """Return the plan of preset small."""
    return make_plan({"preset": "small"}, ROOT)


def input_paths(plan: Plan, mirror: Path) -> dict[str, Path]:
    """Return the files of the slice; a mirror may hold a file compressed."""
    found = {role: mirror / str(address).removeprefix("source:") for role, address in plan.data[NAME].inputs.items()}
    return {role: path if path.exists() else path.with_name(path.name + ".gz") for role, path in found.items()}


def run(work: Path, mirror: Path, only: list[str] | None, seeds: int, checkpoints: dict[str, Path | None]) -> None:
    """Prepare, split, embed and predict what is not there yet."""
    plan = small()
    card, spec = plan.benchmarks[NAME], plan.data[NAME]
    dataset, split = work / "dataset", work / "split.tsv"
    if not dataset.is_dir():
        prepare_dataset(card, spec, input_paths(plan, mirror), dataset)
    if not split.is_file():
        make_split(card, spec, dataset, split)
    for name in only or plan.models_of(NAME):
        model = plan.models[name]
        source = model.features_of or (name if plan.how(NAME, name) == "embedding" else None)
        features = None
        if source is not None:
            embedder = plan.models[source]
            checkpoint = checkpoints.get(embedder.checkpoint or "")
            if embedder.checkpoint and checkpoint is None:
                print(f"{name:26s} left out: no checkpoint {embedder.checkpoint}", flush=True)
                continue
            features = work / "features" / source
            if not features.is_dir():
                features.parent.mkdir(exist_ok=True)
                embed_dataset(embedder, dataset, checkpoint, features, batch_size=4, device="cpu")
        for seed in range(1 if model.deterministic else seeds):
            out = work / "predictions" / name / f"seed{seed}.npz"
            if out.is_file():
                continue
            out.parent.mkdir(parents=True, exist_ok=True)
            begun = time.process_time()
            predict(card, model, dataset, split, features, seed, out)
            spent = time.process_time() - begun
            write_text(out.with_suffix(".json"), json.dumps({"cpu_s": round(spent, 2)}))
            print(f"{name:26s} seed {seed}: {spent:.1f} s", flush=True)


def mean_and_half(row: pd.Series) -> str:
    """Return a mean, and half the width of its interval where there are seeds."""
    if pd.isna(row["ci95_low"]):
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} ± {(row['ci95_high'] - row['ci95_low']) / 2:.3f}"


def report(work: Path, note: str) -> None:
    """Score everything and write the page."""
    plan = small()
    card, spec = plan.benchmarks[NAME], plan.data[NAME]
    files = sorted((work / "predictions").glob("*/seed*.npz"))
    protocols = {model.name: model.protocol for model in plan.models.values()}
    score(
        card,
        spec,
        work / "dataset",
        work / "split.tsv",
        files,
        "",
        work / "metrics.tsv",
        protocols=protocols,
        units=work / "conditions.tsv",
    )
    metrics = read_tsv(work / "metrics.tsv", dtype={"scenario": str, "code_hash": str})
    roles = {model.name: model.role for model in plan.models.values()}
    table = summarize(metrics, plan.benchmarks, plan.data, roles)
    write_tsv(table, work / "summary.tsv")
    facts = read_json(work / "dataset" / "dataset.json")["facts"]
    split = read_split(work / "split.tsv")
    tested = split["scenario"].value_counts()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    rows = table.drop_duplicates("model")
    order = sorted(rows["model"], key=lambda m: (ROLE_ORDER.index(roles[m]), protocols[m] != "strict", m))
    lines = [
        "# Genetic perturbations on the public slice",
        "",
        f"`python benchmarks/norman.py run`, then `report`; tree after {commit.strip()}; torch {torch.__version__}, one thread."
        f" {facts['cells']:,} cells of {facts['conditions']} perturbations ({facts['singles']} single) and {facts['control_cells']}"
        f" control cells, {facts['genes']} genes; {(split['part'] == 'train').sum()} conditions train,"
        f" {(split['part'] == 'validation').sum()} validate, {(split['part'] == 'test').sum()} are tested. ±: half the 95 %"
        " interval over training seeds. Options of preset small.",
        "",
        *([note, ""] if note else []),
    ]
    for title, metric in TABLES.items():
        part = table[table["metric"] == metric].set_index(["model", "scenario"])
        lines += [f"## {title}", "", f"`{metric}`", ""]
        heads = [f"{s} ({tested[s]})" for s in SCENARIOS]
        lines += [f"| model | role | seeds | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(SCENARIOS)]
        for model in order:
            cells = [mean_and_half(part.loc[(model, s)]) if (model, s) in part.index else "" for s in SCENARIOS]
            seeds = part.loc[model, "seeds"].max()
            label = model + (" (paper's protocol)" if protocols[model] == "paper" else "")
            lines.append(f"| {label} | {roles[model]} | {seeds} | {' | '.join(cells)} |")
        lines.append("")
    spent = {m: [read_json(p)["cpu_s"] for p in (work / "predictions" / m).glob("*.json")] for m in order}
    lines += [
        "Processor seconds of a training and its answers: "
        + ", ".join(f"{m} {sum(s) / len(s):.0f}" for m, s in spent.items() if s and max(s) >= 1)
        + ".",
        "",
    ]
    write_text(ROOT / "benchmarks" / "results" / "norman.md", "\n".join(lines))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--untrained", type=Path)
    parser.add_argument("--note", default="", help="a paragraph for the page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "report":
        report(given.work, given.note)
        return
    given.work.mkdir(parents=True, exist_ok=True)
    checkpoints = {"sclong": given.checkpoint, "sclong_random": given.untrained}
    run(given.work, Path(os.environ["SCLONG_MIRROR"]), given.models, given.seeds, checkpoints)


if __name__ == "__main__":
    main()
