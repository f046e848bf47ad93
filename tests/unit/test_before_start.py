"""What is looked at before a run: bytes of fetched files, and what jobs will read of configuration and cards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sclong.errors import FetchError
from sclong.io.files import read_json
from sclong.plan.inputs import CHECKED, require_right_bytes
from sclong.plan.plan import Plan, make_plan
from sclong.plan.snapshot import plan_of_run, settings_of_run, take_snapshot


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(root / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_row(place: Path, text: bytes) -> Plan:
    """A plan whose table of sources has a row for these bytes."""
    import hashlib

    table = place / "config/sources.tsv"
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    row = ["own", "tf.txt", "public", "https://example.org/tf.txt", digest, str(len(text)), "none", "none"]
    table.write_text(table.read_text().rstrip("\n") + "\n" + "\t".join(row) + "\n")
    return make_plan({})


def test_a_file_put_there_by_hand_is_compared_with_its_row(place: Path) -> None:
    plan = with_row(place, b"A\nB\n")
    file = place / "data/sources/own/tf.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"B\nA\n")  # of the same size
    path = "data/sources/own/tf.txt"
    with pytest.raises(FetchError, match=r"(?s)not the file of row own/tf.txt.*expected:   4 bytes.*mv .*file:PATH"):
        require_right_bytes(plan, [path])
    file.write_bytes(b"A\n")
    with pytest.raises(FetchError, match="found 2 bytes, expected 4: not the file"):
        require_right_bytes(plan, [path])
    file.write_bytes(b"A\nB\n")
    require_right_bytes(plan, [path, "results/other.tsv", "data/sources/own/not_here.txt"])
    assert list(read_json(place / "data/sources" / CHECKED)) == ["own/tf.txt"]


def test_a_file_is_read_again_only_when_it_changed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sclong.plan import inputs

    plan, path = with_row(place, b"A\nB\n"), place / "data/sources/own/tf.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"A\nB\n")
    require_right_bytes(plan, ["data/sources/own/tf.txt"])
    asked: list[str] = []
    monkeypatch.setattr(inputs, "fault", lambda file, _: asked.append(str(file)) or "another file")
    require_right_bytes(plan, ["data/sources/own/tf.txt"])
    assert not asked
    os.utime(path, ns=(1, 1))
    with pytest.raises(FetchError):
        require_right_bytes(plan, ["data/sources/own/tf.txt"])
    (place / "data/sources" / CHECKED).write_text('{"own/tf.txt": [4, ')  # cut: it only saves time
    with pytest.raises(FetchError):
        require_right_bytes(plan, ["data/sources/own/tf.txt"])


def test_jobs_read_what_the_run_was_started_with(place: Path) -> None:
    user: dict[str, object] = {"seeds": [3], "results_dir": "r"}
    assert settings_of_run(user) == user  # no run yet
    take_snapshot(make_plan(user), user)
    card = place / "config/models/controls/train_mean.yaml"
    preset = place / "config/presets/demo.yaml"
    title = make_plan(user).models["train_mean"].title
    card.write_text("name: [not a card")
    preset.write_text("{")
    plan = plan_of_run({"results_dir": "r"})
    assert plan.config.seeds == [3] and plan.models["train_mean"].title == title
    assert plan.paths.result("x") == "r/x"
