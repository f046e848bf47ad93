"""Gene regulatory networks: scale at 17,735 genes, and tables on real files.

    python benchmarks/grn.py scale                            # time and memory of measures and rows; simulated numbers
    SCLONG_MIRROR=FOLDER python benchmarks/grn.py tables CARD ... [--models M ...] [--checkpoints FOLDER] [--from MODEL]
                                                                   [--cells N] [--seeds N]
    python benchmarks/grn.py report                           # benchmarks/results/grn.md from what was run

`tables` runs benchmark cards of preset small on the files of a mirror (laid out as <id>/<file>), with every model that
answers by itself, five seeds each, one thread. With `--checkpoints`, a folder of checkpoints by name (sclong,
sclong_random; results/checkpoints of a run), embedding models and rows that start from an embedding run too; `--from`
gives rows that start from scLong the embedding of another model, sclong_random for example; `--cells` embeds fewer cells.
Rows are kept in benchmarks/results/grn.tsv; running a row again replaces it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import anndata
import numpy as np
import pandas as pd

from sclong.benchmark.features import read_features
from sclong.benchmark.problem import Features, Predictions
from sclong.benchmark.run import embed_dataset, load_adapter, load_task
from sclong.benchmark.statistics import mean_interval
from sclong.config.cards import BenchmarkCard, ModelCard, load_card, load_cards, meets, missing_input
from sclong.io.files import read_json, sha256_file, write_text
from sclong.tasks.grn_inference import metrics as grn

HERE = Path(__file__).resolve().parent
CARDS = HERE.parent / "config"
ROWS = HERE / "results" / "grn.tsv"
SCALE = HERE / "results" / "grn_scale.json"
NOTES = HERE / "results" / "grn_notes.md"  # what the tables say, by hand
ORDER = ["floor", "ceiling", "classical", "ablation", "model"]
GENES, REGULATORS, CELLS, EDGES = 17_735, 1_563, 758, 200_000


def commit() -> str:
    """Return where the tree stands."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()


def machine() -> str:
    """Return the processor, in words."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next(
        (line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    return f"{os.cpu_count()} x {name}, one thread; Python {platform.python_version()}, numpy {np.__version__}"


def models_of(card: BenchmarkCard, checkpoints: Path | None) -> dict[str, ModelCard]:
    """Return the models of a benchmark in the order of a report; without checkpoints those that need no embedding."""
    cards = load_cards(CARDS / "models", ModelCard).values()
    spec = card.alternatives("small")[0]
    able = [m for m in cards if meets(card, m) and missing_input(spec, m) is None]
    chosen = [m for m in able if checkpoints or not (m.features_of or m.checkpoint)]
    return {m.name: m for m in sorted(chosen, key=lambda m: (ORDER.index(m.role), m.name))}


def embedded(name: str, folder: Path, checkpoints: Path | None, cells: int | None) -> tuple[Features, dict]:
    """Return the embedding of a data set, or of its first cells, by a model, and its facts; made once per checkpoint."""
    card = load_card(CARDS / "models" / f"{name}.yaml", ModelCard)
    checkpoint, key = None, "no_checkpoint"
    if card.checkpoint is not None:
        assert checkpoints is not None
        checkpoint = (checkpoints / card.checkpoint).resolve()
        weights = checkpoint / "model.safetensors"
        key = sha256_file(weights)[:16] if weights.exists() else checkpoint.name
    out = folder / "features" / f"{name}_{key}_{cells or 'all'}"
    if not out.exists():
        shown = folder if cells is None else folder / f"first_{cells}"
        if not (shown / "expression.h5ad").exists():
            shown.mkdir()
            anndata.read_h5ad(folder / "expression.h5ad")[:cells].copy().write_h5ad(shown / "expression.h5ad")
        embed_dataset(card, shown, checkpoint, out, batch_size=8, device="cpu")
    features = read_features(out)
    weights = read_json(out / "metadata.json")["facts"].get("checkpoint", "")
    return features, {"source": name, "checkpoint": weights, "embedded_cells": len(features.cells)}


def prepared(card: BenchmarkCard, mirror: Path) -> tuple[Path, dict]:
    """Prepare a benchmark's data once; return its folder and facts."""
    spec = card.alternatives("small")[0]
    out = Path(tempfile.gettempdir()) / "sclong_grn" / spec.dataset
    inputs = {role: _in_mirror(mirror, str(address)) for role, address in spec.inputs.items()}
    if not (out / "facts.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        facts = load_task(card.task).prepare(inputs, spec.options, out)
        (out / "facts.json").write_text(json.dumps(facts))
    return out, json.loads((out / "facts.json").read_text())


def _in_mirror(mirror: Path, address: str) -> Path:
    path = mirror / address.removeprefix("source:")
    return path if path.exists() else path.with_name(path.name + ".gz")


def tables(name: str, mirror: Path, given: argparse.Namespace) -> None:
    """Run a card's rows and keep them."""
    card = load_card(CARDS / "benchmarks" / f"{name}.yaml", BenchmarkCard)
    task = load_task(card.task)
    folder, facts = prepared(card, mirror)
    print(name, {k: facts[k] for k in ("cells", "genes_judged", "regulators", "edges", "candidate_pairs")}, flush=True)
    split = task.split(folder, "none", {}, 1)
    for model in models_of(card, given.checkpoints).values():
        if given.models and model.name not in given.models:
            continue
        used, how = model.for_preset("small"), meets(card, model)
        source = model.features_of if how == "native" else model.name
        if source == "sclong" and given.start:
            source = given.start
        features, facts_of_it = None, {"source": "", "checkpoint": "", "embedded_cells": 0}
        if model.features_of or how == "embedding":
            assert source is not None
            features, facts_of_it = embedded(source, folder, given.checkpoints, given.cells)
        (problem,) = task.problems(folder, split, sees_truth=model.sees_truth)
        found, spent = [], []
        for seed in range(1 if model.deterministic or how == "embedding" else given.seeds):
            begun = time.process_time()
            if features is None:
                answer = load_adapter(used).predict(problem, seed)
            elif how == "embedding":
                answer = task.solve(problem, features, seed)
            else:
                answer = load_adapter(used).predict_from(problem, features, seed)
            spent.append(time.process_time() - begun)
            answer = np.asarray(answer, dtype=np.float32)
            ids, genes = np.array(problem.test_samples), np.array(problem.outputs)
            names = genes if answer.shape[1] == len(genes) else np.arange(answer.shape[1]).astype(str)
            predictions = Predictions(np.array(["0"] * len(ids)), ids, answer, names)
            found.append(task.score(folder, split, predictions).set_index("metric")["value"])
        other = how == "native" and source != model.features_of
        label = f"{model.name}, from {source}" if other else model.name
        row = {
            "card": name,
            "model": label,
            "role": "ablation" if other else model.role,
            "protocol": model.protocol,
            "seeds": len(found),
            "cpu_s": round(float(np.mean(spent)), 1),
        }
        for metric in task.metrics:
            mean, _, low, high = mean_interval(np.array([f[metric] for f in found]))
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        row |= {k: facts[k] for k in ("cells", "genes_judged", "regulators", "edges", "positive_rate")}
        keep(row | {"commit": commit(), **facts_of_it})
        print(
            f"{label:36s} aupr_ratio {row['aupr_ratio']:.3f} epr {row['epr']:.3f} p {row['p_value']:.3f} {row['cpu_s']} s",
            flush=True,
        )


def keep(row: dict) -> None:
    """Add a row to the kept ones."""
    rows = pd.read_csv(ROWS, sep="\t") if ROWS.exists() else pd.DataFrame(columns=list(row))
    rows = rows[~((rows["card"] == row["card"]) & (rows["model"] == row["model"]))]
    out = pd.concat([rows, pd.DataFrame([row])], ignore_index=True) if len(rows) else pd.DataFrame([row])
    out["protocol"] = out["protocol"].fillna("strict")
    out.to_csv(ROWS, sep="\t", index=False, float_format="%.6g")


def peak() -> float:
    """Return this process's peak memory in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def simulated(regulators: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, scores and candidate pairs at full size."""
    draw = np.random.default_rng(0)
    names = [f"gene{i}" for i in range(GENES)]
    pairs = grn.candidate_pairs(names[:regulators], names)
    truth = np.zeros((regulators, GENES), dtype=bool)
    truth[draw.integers(regulators, size=EDGES), draw.integers(GENES, size=EDGES)] = True
    return truth & pairs, draw.random((regulators, GENES), dtype=np.float32), pairs


def step(name: str) -> dict:
    """Measure one step in this process."""
    from sclong.tasks.grn_inference import classical as regulation

    begun, cpu = time.perf_counter(), time.process_time()
    if name.startswith("measures"):
        regulators = REGULATORS if name.endswith("regulators") else GENES
        truth, scores, pairs = simulated(regulators)
        begun, cpu = time.perf_counter(), time.process_time()
        ranking = grn.Ranking.of(truth, scores, pairs)
        grn.measures(truth, scores, pairs, ranking)
        sorted_s = time.process_time() - cpu
        null = grn.relabelled_average_precision(
            truth, scores, ranking, np.arange(regulators), np.random.default_rng(0), 199
        )
        return {
            "pairs": int(pairs.sum()),
            "measures_s": sorted_s,
            "null_s": time.process_time() - cpu - sorted_s,
            "wall_s": time.perf_counter() - begun,
            "peak_gb": peak(),
            "null_mean_ratio": float(null.mean() / ranking.positive_rate),
        }
    values = np.random.default_rng(0).poisson(0.5, (CELLS, GENES)).astype(np.float32)
    rows = np.arange(REGULATORS)
    begun, cpu = time.perf_counter(), time.process_time()
    if name == "mutual information":
        regulation.mutual_information(regulation.value_classes(values, 5), rows, 6)
    else:
        regulation.absolute_correlation(values, rows, name)  # type: ignore[arg-type]
    return {
        "pairs": REGULATORS * GENES,
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": peak(),
    }


def scale() -> None:
    """Measure every step in a process of its own."""
    found = {}
    for name in ("measures, regulators", "measures, all genes", "pearson", "spearman", "mutual information"):
        done = subprocess.run([sys.executable, __file__, "step", name], capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    SCALE.write_text(json.dumps({"commit": commit(), "steps": found}, indent=1) + "\n")


def interval(row: pd.Series, metric: str) -> str:
    """Return mean and half width of the interval."""
    mean, low, high = row[metric], row[f"{metric}_low"], row[f"{metric}_high"]
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} ± {(high - low) / 2:.3f}"


def report() -> None:
    """Write the page of results."""
    lines = ["# Gene regulatory networks: tables and scale", "", f"Machine: {machine()}.", ""]
    if SCALE.exists():
        kept = json.loads(SCALE.read_text())
        lines += [
            "## Scale",
            "",
            f'`python benchmarks/grn.py scale`, tree after {kept["commit"]}. {GENES:,} genes, {REGULATORS:,} regulators ("all genes":'
            f" every gene is one), {CELLS} cells, {EDGES:,} edges; one thread, each step in a process of its own.",
            "",
            "| step | pairs | processor time | peak memory |",
            "|---|---|---|---|",
        ]
        for name, s in kept["steps"].items():
            cpu = (
                f"{s['measures_s']:.1f} s, null (199 networks) {s['null_s']:.1f} s"
                if "null_s" in s
                else f"{s['cpu_s']:.1f} s"
            )
            lines.append(f"| {name} | {s['pairs']:,} | {cpu} | {s['peak_gb']:.1f} GB |")
        lines.append("")
    rows = pd.read_csv(ROWS, sep="\t")
    rows["shown"] = rows["model"] + np.where(rows["protocol"] == "paper", " (paper's protocol)", "")
    lines += [
        "## Real files",
        "",
        "`SCLONG_MIRROR=FOLDER python benchmarks/grn.py tables CARD ... --checkpoints FOLDER`. Options of preset small. ±: half the 95 %"
        " interval over the seeds. p: against 199 networks whose genes exchanged names; 0.005 is the least."
        f"{checkpoint_note(rows)}",
        "",
        *(NOTES.read_text(encoding="utf-8").splitlines() if NOTES.exists() else []),
        "",
        "### aupr_ratio at a glance",
        "",
        "Bold: p of 0.05 or less (mean over seeds). Empty: not run.",
        "",
        *glance(rows),
        "",
    ]
    for name, table in rows.groupby("card", sort=False):
        first = table.iloc[0]
        lines += [
            f"### {name}",
            "",
            f"{int(first['cells']):,} cells, {int(first['regulators']):,} regulators, {int(first['genes_judged']):,} genes judged, "
            f"{int(first['edges']):,} edges, positive rate {first['positive_rate']:.4f}; tree after {', '.join(sorted(set(table['commit'])))}.",
            "",
            "| model | role | seeds | aupr_ratio | epr | auroc | aupr_ratio_published | aupr_ratio_beeline | epr_beeline | p | processor s |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for _, r in in_order(table).iterrows():
            lines.append(
                f"| {r['shown']} | {r['role']} | {int(r['seeds'])} | {interval(r, 'aupr_ratio')} | {interval(r, 'epr')} | {interval(r, 'auroc')} | "
                f"{r['aupr_ratio_published']:.3f} | {r['aupr_ratio_beeline']:.3f} | {r['epr_beeline']:.3f} | {r['p_value']:.3f} | {r['cpu_s']} |"
            )
        lines.append("")
    write_text(HERE / "results" / "grn.md", "\n".join(lines))


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows in the order of a report."""
    return table.sort_values(["role", "model"], key=lambda c: c.map(ORDER.index) if c.name == "role" else c)


def checkpoint_note(rows: pd.DataFrame) -> str:
    """Say which checkpoints were embedded with."""
    used = rows.dropna(subset=["checkpoint"]).drop_duplicates(["source", "checkpoint"]).sort_values("source")
    return "".join(f" Weights of {r.source}: `{r.checkpoint}`." for r in used.itertuples() if r.source)


def glance(rows: pd.DataFrame) -> list[str]:
    """Return the aupr_ratio of every model on every card as a Markdown table."""
    cards = list(dict.fromkeys(rows["card"]))
    lines = ["| model | " + " | ".join(c.removeprefix("grn_") for c in cards) + " |", "|---|" + "---|" * len(cards)]
    for model in dict.fromkeys(in_order(rows)["shown"]):
        cells = []
        for card in cards:
            found = rows[(rows["card"] == card) & (rows["shown"] == model)]
            mark = "**" if len(found) and found["p_value"].iloc[0] <= 0.05 else ""
            cells.append(f"{mark}{found['aupr_ratio'].iloc[0]:.2f}{mark}" if len(found) else "")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scale", "tables", "report", "step"])
    parser.add_argument("names", nargs="*", help="benchmark cards, or a step")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--from", dest="start")
    parser.add_argument("--cells", type=int, help="embed so many of the cells that the card shows to embedding models")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if given.what == "step":
        print(json.dumps(step(given.names[0])))
    elif given.what == "scale":
        scale()
    elif given.what == "report":
        report()
    else:
        for name in given.names:
            tables(name, Path(os.environ["SCLONG_MIRROR"]), given)


if __name__ == "__main__":
    main()
