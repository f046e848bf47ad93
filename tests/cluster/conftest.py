"""The virtual cluster, once for all tests of this folder, and runs of Snakemake on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual_cluster import FAULTS, SLURM, Run, Start, call

PARTS = ("Snakefile", "config", "workflow", "profiles", "envs", "resources", "slurm")


def why_not() -> str:
    """Say what keeps the cluster from being started; "" where nothing does."""
    if os.environ.get("SCLONG_CLUSTER") not in ("1", "all"):
        return "starts a SLURM cluster on this machine: ask for it with SCLONG_CLUSTER=1"
    if os.geteuid() != 0:
        return "a SLURM cluster is started by root"
    if missing := missing_packages():
        return f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(missing)}"
    with tempfile.TemporaryDirectory(prefix="sclong_cluster_") as folder:
        try:
            os.mknod(f"{folder}/gpu", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            Path(f"{folder}/gpu").read_bytes()
        except OSError as error:
            return f"pretended GPUs are device files, which cannot be made here (a container): {error}"
    return ""


def missing_packages(accounting: str = "0") -> list[str]:
    """Return the Debian packages that the cluster lacks."""
    environment = {**os.environ, "ACCOUNTING": accounting}
    said = subprocess.run([SLURM, "missing"], capture_output=True, text=True, check=True, env=environment)
    return said.stdout.split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == SLURM.parent]
    reason = why_not() if here else ""
    for item in here:
        item.add_marker(pytest.mark.xdist_group("cluster"))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A running cluster: one that `slurm up` has started and that is up is used, and left as it is."""
    if re.search(r"ClusterName *= virtual\b", call("scontrol", "show", "config", check=False)):
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="sclong_cluster_"))  # pytest's own folders are closed to munge's user
    accounting = "0" if os.environ.get("ACCOUNTING") == "0" or missing_packages("1") else "1"
    environment = {**os.environ, "CPUS_PER_NODE": "8", "MEMORY_PER_NODE": "32000", "ACCOUNTING": accounting}
    try:
        up = subprocess.run([SLURM, "up", folder], capture_output=True, text=True, env=environment)
        assert up.returncode == 0, up.stdout + up.stderr
        yield
    finally:
        subprocess.run([SLURM, "down", folder], check=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def start(cluster: None, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start Snakemake with the profile, in a copy of the workflow; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, folder: Path | None = None, profile: bool = True, faults: bool = True) -> Run:
        if folder is None:
            folder = tmp_path_factory.mktemp("clone")
            for part in PARTS:
                source = root / part
                copy = shutil.copytree if source.is_dir() and not source.is_symlink() else shutil.copy2
                copy(source, folder / part, **({} if copy is shutil.copytree else {"follow_symlinks": False}))
        command = [sys.executable, "-m", "snakemake"]
        if profile:
            command += ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "3"]
        command += ["--snakefile", str(FAULTS)] if faults else []
        log = folder / f"said_{len(processes)}.txt"
        with log.open("w") as file:
            environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            process = subprocess.Popen(
                [*command, *arguments], cwd=folder, stdout=file, stderr=subprocess.STDOUT, text=True, env=environment
            )
        processes.append(process)
        return Run(folder, process, log)

    yield run
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
