"""Files in HDF5 (h5ad, 10x, gctx) may point into other files. Such files are refused: only what was named is read."""

from __future__ import annotations

from pathlib import Path

import h5py

from sclong.errors import InputDataError, listing


def refuse_links(path: str | Path, file: h5py.File) -> None:
    """Refuse a file whose groups or data sets lie in other files: external links, external storage, virtual data sets.

    A file that somebody sends could otherwise put the bytes of any file that the reader may read into a result. Links
    within the file are followed; a link that leads nowhere is left to the reader of the file.

    Parameters
    ----------
    path
        How the file is called in messages.
    file
        The open file.

    Raises
    ------
    InputDataError
        Names the places.
    """
    found: list[str] = []
    pending: list[h5py.Group] = [file]
    seen: set[int] = set()
    while pending:
        group = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a link to a group above
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            place = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                found.append(f"{place} -> {link.filename}")
            elif isinstance(link, h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Group):
                    pending.append(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    others = [entry[0] for entry in item.external or ()]
                    found.append(f"{place} -> {', '.join(map(str, others)) or 'a virtual data set'}")
    if found:
        raise InputDataError(
            f"{path}: parts of it lie in other files: {listing(sorted(found))}",
            "a file that holds all of itself",
            "write it anew where the other files are: anndata.read_h5ad(FILE).write_h5ad(WHOLE_FILE)",
        )
