"""Time and memory of importing a release of the published size: 1,006,086,461 parameters with Adam's moments.

    python benchmarks/import_checkpoint.py              # needs 17 GB of disk below --folder, which it frees again
    python benchmarks/import_checkpoint.py --tiny       # the same on a small model, to try the script

Writes a synthetic release (random numbers; names, shapes and types as released), runs ``sclong import-checkpoint`` on
one thread in a fresh process, and prints its time and peak memory: all resident pages, and those of them that are
anonymous, which the system cannot drop when memory is short (mapped pages of the file it can). Every tensor of the
release is a view of one short file, so that writing it takes little memory too.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from sclong.checkpoint.authors import PUBLISHED_1B, STORED_AS_FLOAT64, HyperParameters
from sclong.genes.go_graph import GoGraph
from sclong.nn.dual_encoder import DualEncoder

TINY = dict(zip(PUBLISHED_1B, (301, 64, 16, 2, 2, 8, 32, 3, 4, 8, 2, 2, 8), strict=True))
EDGES_PER_GENE = 14  # about 21 edges into each of 18,000 annotated genes
EVERY_S = 0.02


def view(like: torch.Tensor, numbers: dict[torch.dtype, Path], dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return a tensor of random numbers of the shape of another, mapped from a file."""
    dtype = dtype or like.dtype
    if not dtype.is_floating_point:
        return torch.zeros(like.shape, dtype=dtype)
    path, shared, size = str(numbers[dtype]), False, like.numel()
    return torch.from_file(path, shared=shared, size=size, dtype=dtype).view(like.shape)


def write_release(folder: Path, shape: dict[str, int]) -> dict[str, torch.Tensor]:
    """Write model.pth, hyper.pkl and genes.txt; return the weights, mapped."""
    draw = np.random.default_rng(0)
    n_genes = shape["max_seq_len"] - 1
    edges = torch.from_numpy(draw.integers(0, n_genes, (2, EDGES_PER_GENE * n_genes)))
    hyper = HyperParameters(shape, edges, torch.from_numpy(draw.uniform(0.1, 1, edges.shape[1]).astype(np.float32)))
    built_in = {
        "mask_token_thres": -1,
        "g2v_position_emb": True,
        "go_num_layers": 1,
        "device": "cuda",
        "go_use_gene2vec": True,
        "gene2vec_file": "/nowhere/gene2vec.npy",
        "G_go": edges,
        "G_go_weight": hyper.weights_E,
    }
    (folder / "hyper.pkl").write_bytes(pickle.dumps({**shape, **built_in}, protocol=5))
    (folder / "genes.txt").write_text("".join(f"ENSG{i:011d}\n" for i in range(n_genes)))
    empty = GoGraph(np.zeros(n_genes + 2, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    with torch.device("meta"):
        model = DualEncoder(hyper.architecture("per_cell", "gene_order"), n_genes, empty)
    wanted = model.state_dict()
    longest = max(tensor.numel() for tensor in wanted.values())
    numbers = {torch.float32: folder / "numbers32.bin", torch.float64: folder / "numbers64.bin"}
    for dtype, path in numbers.items():
        draw.normal(0, 0.02, longest).astype(str(dtype).removeprefix("torch.")).tofile(path)
    state = {name: view(t, numbers, torch.float64 if name == STORED_AS_FLOAT64 else None) for name, t in wanted.items()}
    names = [name for name, _ in model.named_parameters()]
    moments = {
        i: {
            "step": torch.tensor(100.0),
            "exp_avg": view(state[name], numbers),
            "exp_avg_sq": view(state[name], numbers),
        }
        for i, name in enumerate(names)
    }
    file = {
        "epoch": "2024-02-05_16-23-37",
        "model_state_dict": state,
        "optimizer_state_dict": {"state": moments, "param_groups": [{"lr": 5e-5, "params": list(moments)}]},
        "scheduler_state_dict": {"last_epoch": 0},
        "scaler_state_dict": {},
        "losses": 0.0021,
    }
    torch.save(file, folder / "model.pth")
    return state


def memory_kb(pid: int) -> dict[str, int]:
    """Return resident pages of a process: the most it had, anonymous ones now, those of files now (Linux).

    ru_maxrss is not asked: that of a process begins with what its parent held when it started it.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile"))}
    return {key: int(value) for key, value in found.items()}


def measure(folder: Path) -> dict[str, float]:
    """Run the import in a fresh process on one thread; return its time in s and its peak memory in GB."""
    given = ["--weights", "model.pth", "--hyperparameters", "hyper.pkl", "--genes", "genes.txt", "--output", "imported"]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "sclong.cli", "import-checkpoint", *given],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    peak: dict[str, int] = {}
    while process.poll() is None:
        for key, value in memory_kb(process.pid).items():
            peak[key] = max(peak.get(key, 0), value)
        time.sleep(EVERY_S)
    if process.returncode:
        sys.exit(process.returncode)
    took_s = time.monotonic() - start
    return {"seconds": took_s, **{key: value * 1024 / 1e9 for key, value in peak.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where 17 GB are free; default: the folder of temporary files")
    parser.add_argument("--tiny", action="store_true", help="a small model instead of the published one")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="release-", dir=args.folder))
    try:
        start = time.monotonic()
        state = write_release(folder, TINY if args.tiny else PUBLISHED_1B)
        size = (folder / "model.pth").stat().st_size
        took_s, anonymous_gb = time.monotonic() - start, memory_kb(os.getpid())["RssAnon"] * 1024 / 1e9
        print(
            f"release of {size / 1e9:.3f} GB written in {took_s:.0f} s with {anonymous_gb:.2f} GB of anonymous memory"
        )
        found = measure(folder)
        with safe_open(folder / "imported/model.safetensors", "pt") as file:
            assert set(file.keys()) == set(state)
            wrong = [n for n, t in state.items() if not torch.equal(file.get_tensor(n), t.to(file.get_tensor(n).dtype))]
        assert not wrong, wrong
        weights = (folder / "imported/model.safetensors").stat().st_size
        print(f"| imported tensors | {len(state)}, all equal |\n| weights written | {weights / 1e9:.3f} GB |")
        for label, key in [
            ("time", "seconds"),
            ("peak resident (VmHWM)", "VmHWM"),
            ("of it anonymous (RssAnon)", "RssAnon"),
            ("of it mapped files (RssFile)", "RssFile"),
        ]:
            print(f"| {label} | {found[key]:.2f} {'s' if key == 'seconds' else 'GB'} |")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
