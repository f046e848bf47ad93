"""Write a part in a process that is killed at the n-th time it touches the disk below its folder: for tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from corpus_files import ANY

from sclong.cells import matrix
from sclong.config.sections import CellFilters
from sclong.corpus.part import write_part
from sclong.corpus.source import file_dataset
from sclong.genes.vocabulary import Vocabulary

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def main(folder: Path, sources: list[str], events: int) -> None:
    """Write ``folder/out`` from h5ad files of two data sets; kill the process after so many events (0: never)."""
    left = [events]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS and str(folder) in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    matrix.BLOCK_ENTRIES = 60  # pieces of some seven cells
    vocabulary = Vocabulary.read(folder / "vocabulary.tsv")
    datasets = [file_dataset(folder / f"{name}.h5ad", ANY.model_copy(update={"name": name})) for name in sources]
    filters = CellFilters(minimum_genes=2, cells_per_shard=10)
    sys.addaudithook(count)
    write_part(datasets, folder / "out", folder / "unfinished", vocabulary, filters, {"sources": sources})
    print(-left[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]))
