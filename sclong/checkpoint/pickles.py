"""Pickles that others wrote, read without running anything in them."""

from __future__ import annotations

import collections
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sclong.errors import CheckpointError
from sclong.runlog import LOGGER

ZIP_MAGIC = b"PK\x03\x04"
REFUSED = "it names {}, which may run code; nothing of it was run"


class AllowListUnpickler(pickle.Unpickler):
    """Unpickles built-in values, ordered dicts and CPU tensors; every other name in the file is refused.

    The names are the three that a pickled dict of tensors needs. The last of them would read the bytes of a storage
    with the unrestricted loader: here a weights-only load takes its place.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        # functions of this object alone: a pickle can set attributes of what it names
        self._allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _tensor(*args),
            ("torch.storage", "_load_from_bytes"): lambda data: _storage(data),
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what an allowed name stands for.

        Raises
        ------
        pickle.UnpicklingError
            Any other name.
        """
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(REFUSED.format(f"{module}.{name}"))
        return self._allowed[module, name]


def _storage(data: bytes) -> torch.storage.TypedStorage:
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError(f"the bytes of a tensor hold a {type(storage).__name__}")
    return storage


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> torch.Tensor:
    """Return a tensor over its storage; flags and hooks of the file are dropped."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError(f"a tensor without storage, but with a {type(storage).__name__}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    stored = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if all(size) and last >= stored:
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(size)} over {stored} stored numbers")
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of built-in values and tensors.

    Raises
    ------
    CheckpointError
        Not such a pickle, truncated, or one that names anything else; nothing of it was run.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(len(ZIP_MAGIC))
        file.seek(0)
        try:
            return AllowListUnpickler(file).load()
        except Exception as error:  # a damaged or hostile pickle can end in any of them
            if not head:
                found = "an empty file"
            elif head == ZIP_MAGIC:
                found = "a zip archive, as files of weights (.pth) are"
            else:
                found = _reason(error)
            raise CheckpointError(
                f"{path}: {found}",
                "a pickled dict of hyper-parameters: built-in values and tensors, nothing else",
                "give the .pkl that belongs to the weights, or copy it again; do not unpickle a file that was refused",
            ) from error


def read_torch(path: str | Path) -> Any:
    """Read what ``torch.save`` wrote, weights only; tensors stay in the file until they are looked at.

    Files in the format from before torch 1.6 cannot be mapped: they are read into memory whole.

    Raises
    ------
    CheckpointError
        Truncated, damaged (checksums of the archive), not written by ``torch.save``, or one that names anything but
        tensors and built-in values; nothing of it was run.
    """
    path = Path(path)
    with path.open("rb") as file:
        mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    try:
        if mapped:
            _check_archive(path)
        else:
            LOGGER.warning("%s is not in the zip format of torch: it is read into memory whole", path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile file can end in any of them
        raise CheckpointError(
            f"{path}: {_reason(error)}",
            "a file of torch.save with tensors and built-in values only",
            "copy it again; if it holds other objects and you trust it, load it elsewhere and save "
            "{'model_state_dict': ...} anew",
        ) from error


def _reason(error: Exception) -> str:
    """Return what was wrong, in a line: torch's own message advises to load what was refused without restrictions."""
    text = str(error).strip()
    name = re.search(r"GLOBAL (\S+)", text)
    if name:
        return REFUSED.format(name[1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and "Weights only load failed" in lines[0]:
        lines = [line for line in lines if line.startswith(("Unsupported", "Trying"))] or ["not weights only"]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'it ends too early'}"


def _check_archive(path: Path) -> None:
    """Check what mapping the file would not notice: checksums of its entries, and that none is compressed."""
    with zipfile.ZipFile(path) as archive:
        packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        damaged = packed[0] if packed else archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{path}: its entry {damaged!r} is {'compressed' if packed else 'damaged (CRC-32 differs)'}",
            "the file as torch.save wrote it",
            "copy it again, as it is",
        )
