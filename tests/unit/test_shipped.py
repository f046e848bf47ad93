"""The checkpoint that comes with the package: small, honest about itself, and enough to embed."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest

from sclong.checkpoint.folder import load_checkpoint
from sclong.checkpoint.shipped import shipped
from sclong.cli import main
from sclong.genes.vocabulary import Vocabulary


def test_it_is_small_and_its_card_says_what_it_is() -> None:
    folder = shipped()["base"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12_000_000
    config = json.loads((folder / "config.json").read_text())
    card, text = config["card"], (folder / "README.md").read_text()
    assert config["stored"]["dtype"] == "float16" and config["architecture"]["precision"] == "float32"
    assert card["held_out_loss_replaced"] < card["baseline_low_rank"] < card["baseline_gene_mean"]
    for fact in ("trained_on", "held_out", "not_for"):
        assert card[fact] in text
    assert "--checkpoint base" in text


@pytest.mark.slow
def test_embed_works_without_a_checkpoint_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = Vocabulary.read(shipped()["base"] / "vocabulary.tsv")
    draw = np.random.default_rng(0)
    symbols = [s for s in vocabulary.table["symbol"] if s][:2000]
    adata = anndata.AnnData(draw.poisson(0.5, (3, len(symbols))).astype(np.float32))
    adata.var_names = symbols
    adata.write_h5ad(tmp_path / "my.h5ad")
    assert main(["check", str(tmp_path / "my.h5ad")]) in (0, None)
    assert "sclong embed" in capsys.readouterr().out
    assert main(["embed", str(tmp_path / "my.h5ad"), "--output", str(tmp_path / "out.h5ad")]) in (0, None)
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert out.obsm["X_sclong"].shape == (3, 32) and np.isfinite(out.obsm["X_sclong"]).all()
    assert out.uns["X_sclong"]["checkpoint"] == load_checkpoint("base").hash
