"""Gene regulatory networks: scale at 17,735 genes, and tables on real files.

    python benchmarks/grn.py scale                            # time and memory of measures and rows; simulated numbers
    SCLONG_MIRROR=FOLDER python benchmarks/grn.py tables CARD [--models M ...] [--published] [--seeds N]
    python benchmarks/grn.py report                           # benchmarks/results/grn.md from what was run

`tables` runs a benchmark card of preset small on the files of a mirror (laid out as <id>/<file>), with every model that
answers by itself, five seeds each, one thread. `--published` trains DeepSEM as published instead (preset paper).
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

import numpy as np
import pandas as pd

from sclong.cards import BenchmarkCard, ModelCard, load_card, load_cards
from sclong.io.files import write_text
from sclong.metrics import grn
from sclong.metrics.statistics import mean_interval
from sclong.tasks.base import Predictions
from sclong.tasks.run import load_adapter, load_task

HERE = Path(__file__).resolve().parent
CARDS = HERE.parent / "config"
ROWS = HERE / "results" / "grn.tsv"
SCALE = HERE / "results" / "grn_scale.json"
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


def own_models(card: BenchmarkCard) -> dict[str, ModelCard]:
    """Return the models that answer a benchmark without an embedding, in the order of a report."""
    cards = load_cards(CARDS / "models", ModelCard).values()
    chosen = [m for m in cards if card.needs[0] in m.provides and m.features_of is None]
    return {m.name: m for m in sorted(chosen, key=lambda m: (ORDER.index(m.role), m.name))}


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


def tables(name: str, mirror: Path, only: list[str] | None, published: bool, n_seeds: int) -> None:
    """Run a card's rows and keep them."""
    card = load_card(CARDS / "benchmarks" / f"{name}.yaml", BenchmarkCard)
    task = load_task(card.task)
    folder, facts = prepared(card, mirror)
    print(name, {k: facts[k] for k in ("cells", "genes_judged", "regulators", "edges", "candidate_pairs")}, flush=True)
    split = task.split(folder, "none", {}, 1)
    for model in own_models(card).values():
        if only and model.name not in only:
            continue
        used = model.for_preset("paper" if published else "small")
        (problem,) = task.problems(folder, split, sees_truth=model.sees_truth)
        found, spent = [], []
        for seed in range(1 if model.deterministic else n_seeds):
            begun = time.process_time()
            answer = np.asarray(load_adapter(used).predict(problem, seed), dtype=np.float32)
            spent.append(time.process_time() - begun)
            ids = np.array(problem.test_samples)
            predictions = Predictions(np.array(["0"] * len(ids)), ids, answer, np.array(problem.outputs))
            found.append(task.score(folder, split, predictions).set_index("metric")["value"])
        label = model.name + ("_published" if published else "")
        row = {
            "card": name,
            "model": label,
            "role": model.role,
            "seeds": len(found),
            "cpu_s": round(float(np.mean(spent)), 1),
        }
        for metric in task.metrics:
            mean, _, low, high = mean_interval(np.array([f[metric] for f in found]))
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        row |= {k: facts[k] for k in ("cells", "genes_judged", "regulators", "edges", "positive_rate")} | {
            "commit": commit()
        }
        keep(row)
        print(
            f"{label:28s} aupr_ratio {row['aupr_ratio']:.3f} epr {row['epr']:.3f} p {row['p_value']:.3f} {row['cpu_s']} s",
            flush=True,
        )


def keep(row: dict) -> None:
    """Add a row to the kept ones."""
    rows = pd.read_csv(ROWS, sep="\t") if ROWS.exists() else pd.DataFrame(columns=list(row))
    rows = rows[~((rows["card"] == row["card"]) & (rows["model"] == row["model"]))]
    out = pd.concat([rows, pd.DataFrame([row])], ignore_index=True) if len(rows) else pd.DataFrame([row])
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
    from sclong.models import regulation

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
    lines += [
        "## Real files",
        "",
        "`SCLONG_MIRROR=FOLDER python benchmarks/grn.py tables CARD`. Options of preset small; `_published`: DeepSEM as published"
        " (preset paper). ±: half the 95 % interval over the seeds. p: against 199 networks whose genes exchanged names. Rows that need an embedding are not here: they need a checkpoint.",
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
        for _, r in table.sort_values(
            ["role", "model"], key=lambda c: c.map(ORDER.index) if c.name == "role" else c
        ).iterrows():
            lines.append(
                f"| {r['model']} | {r['role']} | {int(r['seeds'])} | {interval(r, 'aupr_ratio')} | {interval(r, 'epr')} | {interval(r, 'auroc')} | "
                f"{r['aupr_ratio_published']:.3f} | {r['aupr_ratio_beeline']:.3f} | {r['epr_beeline']:.3f} | {r['p_value']:.3f} | {r['cpu_s']} |"
            )
        lines.append("")
    write_text(HERE / "results" / "grn.md", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scale", "tables", "report", "step"])
    parser.add_argument("name", nargs="?", help="a benchmark card, or a step")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if given.what == "step":
        print(json.dumps(step(given.name)))
    elif given.what == "scale":
        scale()
    elif given.what == "report":
        report()
    else:
        tables(given.name, Path(os.environ["SCLONG_MIRROR"]), given.models, given.published, given.seeds)


if __name__ == "__main__":
    main()
