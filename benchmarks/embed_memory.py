"""Peak memory of embedding: does it grow with the cells, and does loading take the weights once or twice?

    python benchmarks/embed_memory.py                        # CSR, 1,000 and 20,000 cells, architecture tiny
    python benchmarks/embed_memory.py --layout dense csc --model toy --pooling reconstruction_profile
    python benchmarks/embed_memory.py --load                 # loading a larger checkpoint, mapped and copied

Every measurement is a fresh process on one thread that does what ``sclong embed`` does; its peak resident memory is
printed, with what the process needs before it reads the file, and the size of the matrix in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))
ROOT = Path(__file__).parents[1]
N_GENES, LISTED = 600, 40


def peak_mb() -> float:
    """Peak resident memory of this process (Linux; ru_maxrss would count that of the parent too)."""
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 1024


def make_file(path: Path, n_cells: int, layout: str) -> None:
    """Write a simulated h5ad, some cells at a time."""
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    from anndata.io import write_elem
    from scipy import sparse
    from toy_training import toy_counts, toy_vocabulary

    names = toy_vocabulary(N_GENES).ensembl_ids
    obs = pd.DataFrame({"type": "a"}, index=[f"cell{i}" for i in range(n_cells)])
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=names)).write_h5ad(path)
    counts = np.concatenate([toy_counts(min(1000, n_cells), seed, N_GENES) for seed in range(-(-n_cells // 1000))])
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[layout](counts)
    with h5py.File(path, "r+") as file:
        write_elem(file, "X", matrix, dataset_kwargs={"compression": "gzip", "compression_opts": 1})


def embed(folder: Path, source: Path, out: Path, pooling: str, contextual: bool) -> None:
    """Embed in this process and print what it took."""
    import torch

    torch.set_num_threads(1)
    from sclong import load_checkpoint
    from sclong.embed import embedding

    loaded = load_checkpoint(folder)
    before, start = peak_mb(), time.monotonic()
    options = {"contextual": out / "out.zarr", "genes": out / "genes.txt"} if contextual else {}
    embedding.embed_file(source, loaded, out / "out.h5ad", pooling=pooling, progress=False, **options)
    print(json.dumps({"before": before, "peak": peak_mb(), "seconds": time.monotonic() - start}))


def load(folder: Path, how: str) -> None:
    """Load in this process, by mapping or as a copy into a model that exists, use every weight, and print the peak."""
    import torch
    from safetensors.torch import load_file

    from sclong.checkpoint.folder import load_checkpoint, read_config
    from sclong.genes.go_graph import GoGraph
    from sclong.genes.vocabulary import Vocabulary
    from sclong.nn.dual_encoder import DualEncoder

    before, start = peak_mb(), time.monotonic()
    if how == "mapped":
        model = load_checkpoint(folder).model
    else:
        _, arch = read_config(folder / "config.json")
        n_genes = len(Vocabulary.read(folder / "vocabulary.tsv"))
        model = DualEncoder(arch, n_genes, GoGraph.read(folder / "go_graph.npz"))
        model.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.inference_mode():
        sum(float(p.sum()) for p in model.parameters())
    print(json.dumps({"before": before, "peak": peak_mb(), "seconds": time.monotonic() - start}))


def child(*args: object) -> dict[str, float]:
    """Run this script in a fresh process."""
    command = [sys.executable, __file__, *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout or "{}")


def main() -> None:
    """Parse the command line; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--layout", nargs="+", choices=["csr", "csc", "dense"], default=["csr"])
    parser.add_argument("--model", choices=["tiny", "toy"], default="tiny", help="toy: smaller than tiny, faster")
    parser.add_argument("--pooling", default="nonzero_mean")
    parser.add_argument("--contextual", action="store_true", help=f"contextual embeddings of {LISTED} genes too")
    parser.add_argument("--load", action="store_true", help="measure loading instead")
    args = parser.parse_args()

    from toy_training import ARCH, toy_graph, toy_vocabulary

    from sclong.checkpoint.folder import initialise
    from sclong.config.load import load_architecture

    arch = ARCH if args.model == "toy" else load_architecture("tiny", ROOT / "config")
    if args.load:
        arch = arch.model_copy(update={"large_dim": 1024, "large_depth": 8, "name": "wide"})
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        vocabulary = toy_vocabulary(N_GENES)
        toy_graph(vocabulary).write(work / "go_graph.npz")
        initialise(work / "model", arch, vocabulary, work / "go_graph.npz", 0)
        if args.load:
            size = (work / "model" / "model.safetensors").stat().st_size / 2**20
            for how in ("mapped", "copied"):
                took = child("_load", work / "model", how)
                more = took["peak"] - took["before"]
                print(f"{how}: weights {size:.0f} MiB, peak {more:.0f} MiB above the imports, {took['seconds']:.2f} s")
            return
        (work / "genes.txt").write_text("\n".join(vocabulary.ensembl_ids[:LISTED]))
        print("layout\tcells\tfile_mib\tbefore_mib\tpeak_mib\tcells_per_s")
        for layout in args.layout:
            for n_cells in args.cells:
                child("_make", work / "in.h5ad", n_cells, layout)
                took = child("_embed", work / "model", work / "in.h5ad", work, args.pooling, int(args.contextual))
                size = (work / "in.h5ad").stat().st_size / 2**20
                figures = f"{size:.1f}\t{took['before']:.0f}\t{took['peak']:.0f}\t{n_cells / took['seconds']:.0f}"
                print(f"{layout}\t{n_cells}\t{figures}", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["_make", path, n_cells, layout]:
            make_file(Path(path), int(n_cells), layout)
        case ["_embed", folder, source, out, pooling, contextual]:
            embed(Path(folder), Path(source), Path(out), pooling, contextual == "1")
        case ["_load", folder, how]:
            load(Path(folder), how)
        case _:
            main()
