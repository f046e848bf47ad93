"""Train: ``python -m sclong.train --config JOB.json``, alone or as one of the processes that torchrun starts."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from sclong import runlog
from sclong.errors import SclongError
from sclong.train.job import train
from sclong.train.stop import RETRY, TrainingStoppedError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 (error), 75 (asked to stop: start it again)."""
    parser = argparse.ArgumentParser(prog="python -m sclong.train", description="Pretrain a model.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file: paths, architecture, pretrain")
    given = parser.parse_args(arguments)
    rank = int(os.environ.get("RANK", 0))
    log = runlog.start(label="" if rank == 0 else f"process {rank}", level=logging.WARNING if rank else logging.INFO)
    try:
        train(given.config)
    except TrainingStoppedError as stopped:
        log.log(logging.DEBUG if rank else logging.WARNING, "%s", stopped)
        return RETRY
    except SclongError as error:
        log.error("%s", error if rank == 0 else error.found)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
