"""Faults that people and machines make, on the real functions and processes; docs/reliability.md is the table."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from toy_training import toy_corpus

from sclong.config.load import load_config
from sclong.corpus.shards import ShardStore
from sclong.errors import ConfigError, InputDataError
from sclong.io.files import move_dir, write_text
from sclong.plan.advice import in_the_future
from sclong.train.launch import TrainingFailedError, alone_in


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": [0, 0]}, ["seeds must differ"]),
        ({"seeds": [-1]}, ["seeds are from 0 to"]),
        ({"seeds": [99999999999999999999999]}, ["seeds are from 0 to"]),
        ({"pretrain": {"learning_rate": float("inf")}}, ["pretrain.learning_rate", "finite"]),
        ({"pretrain": {"learning_rate": float("nan")}}, ["pretrain.learning_rate"]),
        ({"pretrain": {"seed": 1, "second_seed": 1}}, ["second_seed must differ"]),
        ({"cards_dir": "not_there"}, ["not_there/presets/demo.yaml", "cards_dir"]),
        ({"results_dir": "x" * 260}, ["results_dir", "at most 200"]),
        ({"results_dir": "br{a}ce"}, ["results_dir", "braces"]),
        ({"results_dir": "two\nlines"}, ["results_dir"]),
        ({"results_dir": ""}, ["results_dir"]),
        ({"data_dir": "~nobody_of_this_name/x"}, ["data_dir"]),
        ({"preset": "dem"}, ["preset: demo"]),
        ({"benchmark": ["norman"]}, ["benchmarks"]),
    ],
)
def test_mistakes_in_the_configuration(root: Path, settings: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(settings, root)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert len(text) < 700 and "correct ''" not in text


def test_home_is_expanded_in_one_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    config = load_config({"results_dir": "~/x", "data_dir": "d/"}, root)
    assert (config.results_dir, config.data_dir) == ("/home/of/somebody/x", "d")


def test_a_folder_trains_once_at_a_time(tmp_path: Path) -> None:
    hold = "import sys, time; from pathlib import Path; from sclong.train.launch import alone_in\n"
    hold += "with alone_in(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        refused = pytest.raises(TrainingFailedError, match=f"process {other.pid} on .* trains in .* already")
        with refused, alone_in(tmp_path):
            pass
    finally:
        other.send_signal(signal.SIGKILL)  # the lock goes with the process
        other.wait()
    with alone_in(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def _read_damaged(folder: str, queue: multiprocessing.Queue) -> None:
    try:
        store = ShardStore(folder)
        store.rows(np.arange(len(store)))
        queue.put("read")
    except InputDataError as error:
        queue.put(str(error))


def test_an_index_outside_the_genes_is_an_error_and_no_crash(tmp_path: Path) -> None:
    store, _, _ = toy_corpus(tmp_path)
    folder = store.folder
    path = next(folder.glob("shard_*/indices.npy"))
    indices = np.load(path)
    indices[1] = 60000
    np.save(path, indices)
    queue: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_read_damaged, args=(str(folder), queue))
    process.start()
    assert "a gene index of 60000" in queue.get(timeout=60)
    process.join()
    assert process.exitcode == 0


def test_files_of_the_future_are_named(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}"
        path.touch()
        os.utime(path, (time.time() + 400 * 86400,) * 2)
    said = in_the_future([*map(str, tmp_path.iterdir()), str(tmp_path / "missing")])
    assert "(400.0 days ahead)" in said and "and 2 more" in said
    os.utime(tmp_path / "0")
    assert in_the_future([str(tmp_path / "0")]) == ""


def test_a_command_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM while a file is half written: the file is not there, and neither is what was written of it."""
    program = (
        "import sys, time; from sclong import cli; from sclong.io.files import atomic_path\n"
        "def run(args):\n"
        "    with atomic_path(sys.argv[1]) as tmp:\n"
        "        tmp.write_text('half'); print('half', flush=True); time.sleep(60)\n"
        "cli._verify = run\n"
        "sys.exit(cli.main(['verify', 'x']))"
    )
    out = tmp_path / "out.txt"
    process = subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_python_m_sclong_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "sclong", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: sclong" in done.stdout


def test_no_advice_of_a_message_removes_results(root: Path) -> None:
    """Every advice is safe to follow: what is finished is set aside or kept in another folder, never removed."""
    import ast

    wrong = []
    for path in sorted((root / "sclong").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not getattr(node.func, "id", "").endswith("Error"):
                continue
            for argument in node.args[2:3]:
                text = " ".join(ast.unparse(argument).split()).lower()
                dangerous = (
                    "rm -r",
                    "remove results",
                    "remove {work_dir",
                    "remove {config.results_dir",
                    "delete results",
                )
                if any(word in text for word in dangerous):
                    wrong.append(f"{path}:{node.lineno}: {text}")
    assert not wrong


def test_an_output_that_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/null")):
        before = place.stat().st_mode
        with pytest.raises(InputDataError, match="name another file"):
            write_text(place, "x")
        assert place.stat().st_mode == before
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "new").symlink_to(tmp_path / "not_yet")
    write_text(tmp_path / "link", "x")
    write_text(tmp_path / "new", "y")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "x"
    assert (tmp_path / "not_yet").read_text() == "y"
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system here")
def test_a_part_is_put_on_another_file_system(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "x").write_text("x")
        (tmp_path / "parts").symlink_to(other)
        move_dir(tmp_path / "part", tmp_path / "parts" / "blood")
        assert (Path(other) / "blood" / "x").read_text() == "x"
        assert not (tmp_path / "part").exists() and os.listdir(other) == ["blood"]
