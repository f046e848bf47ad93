from __future__ import annotations

import io
import json
import logging
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import SGConv

from sclong.checkpoint.authors import go_graph, import_checkpoint, read_hyperparameters
from sclong.checkpoint.folder import FILES, load_checkpoint
from sclong.checkpoint.gene_list import read_gene_ids, vocabulary_of
from sclong.checkpoint.pickles import read_pickle, read_torch
from sclong.cli import main
from sclong.errors import CheckpointError, InputDataError
from sclong.genes.align import align_genes
from sclong.io.files import sha256_tree
from sclong.nn.gene_encoder import GoEncoder

TINY = Path(__file__).parents[1] / "golden/tiny_a"
NAMES = {"weights": "model.pth", "hyperparameters": "hyper.pkl", "genes": "genes.txt"}


class WritesAFile:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.mkdir, (self.path,)


class CallsLoadFromBytes:
    """Unpickled without care, it loads the bytes with the unrestricted loader."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, ...]]:
        return torch.storage._load_from_bytes, (self.data,)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "release"))


def options(release: Path) -> dict[str, Path]:
    return {key: release / name for key, name in NAMES.items()}


def change_hyper(release: Path, **changes: Any) -> None:
    raw = {**read_pickle(release / "hyper.pkl"), **changes}
    with (release / "hyper.pkl").open("wb") as file:
        pickle.dump({key: value for key, value in raw.items() if value is not ...}, file, protocol=5)


def change_weights(release: Path, change: Callable[[dict], Any], **options: Any) -> None:
    file = torch.load(release / "model.pth", weights_only=True)
    out = change(file)
    torch.save(file if out is None else out, release / "model.pth", **options)


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


# hostile files


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_weights_run_nothing(release: Path, tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "trap"
    change_weights(release, lambda file: file.update(losses=WritesAFile(trap)), _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"mkdir.*nothing of it was run") as caught:
        read_torch(release / "model.pth")
    assert not trap.exists()
    assert "weights_only" not in str(caught.value), "no advice to load it without care"
    torch.load(release / "model.pth", weights_only=False)
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("inside", ["", "zip", "legacy", "bytes of bytes"])
def test_hostile_hyperparameters_run_nothing(release: Path, tmp_path: Path, inside: str) -> None:
    trap = tmp_path / "trap"
    hostile: Any = WritesAFile(trap)
    if inside == "bytes of bytes":
        hostile = CallsLoadFromBytes(saved(CallsLoadFromBytes(saved(hostile))))
    elif inside:
        hostile = CallsLoadFromBytes(saved(hostile, _use_new_zipfile_serialization=inside == "zip"))
    change_hyper(release, device=hostile)
    with pytest.raises(CheckpointError, match="do not unpickle") as caught:
        read_hyperparameters(release / "hyper.pkl")
    assert not trap.exists()
    assert "weights_only" not in str(caught.value), "no advice to load it without care"
    pickle.loads((release / "hyper.pkl").read_bytes())
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "torch load",
        "torch.storage _load_from_bytes.__globals__",
        "torch._utils _rebuild_parameter",
        "collections namedtuple",
        "sclong.checkpoint.pickles read_pickle",
    ],
)
def test_no_other_name_is_allowed(tmp_path: Path, name: str) -> None:
    module, attribute = name.split()
    code = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(x)]) + x.encode() for x in (module, attribute)) + b"\x93."
    (tmp_path / "x.pkl").write_bytes(code)
    with pytest.raises(CheckpointError, match=f"names {module}.{attribute}"):
        read_pickle(tmp_path / "x.pkl")


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path: Path) -> None:
    storage = torch.zeros(4).storage()

    class Wide:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (storage, 0, (1000, 1000), (1000, 1), False, None)

    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Wide()))
    with pytest.raises(CheckpointError, match="over 4 stored numbers"):
        read_pickle(tmp_path / "x.pkl")


def test_damaged_pickles_end_in_one_kind_of_error(tmp_path: Path) -> None:
    whole = (TINY / "hyper.pkl").read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "x.pkl").write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        try:
            read_hyperparameters(tmp_path / "x.pkl")
        except CheckpointError:
            refused += 1
    assert refused > 150


# hyper-parameters


def test_missing_and_unexpected_keys_are_named(release: Path) -> None:
    change_hyper(release, large_dim=..., top_seq_len=..., top_sequence_len=16)
    with pytest.raises(CheckpointError, match=r"2 keys missing \('top_seq_len', 'large_dim'\), 1 unexpected"):
        read_hyperparameters(release / "hyper.pkl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"large_dim": 32.0}, "large_dim is 32.0"),
        ({"dec_depth": True}, "dec_depth is True"),
        ({"large_enc_depth": 10**9}, "from 1 to 1000"),
        ({"base_dim": 0}, "base_dim is 0"),
        ({"top_seq_len": 62}, "at most max_seq_len, 61"),
        ({"mask_token_thres": -5}, "only value"),
        ({"g2v_position_emb": 1}, "g2v_position_emb is 1"),
        ({"go_num_layers": 2}, "only value"),
        ({"device": 3}, "device is 3"),
        ({"G_go": torch.zeros(3, 4, dtype=torch.int64)}, r"G_go is a tensor of shape \(3, 4\)"),
        ({"G_go": "graph.csv"}, "G_go is a str"),
        ({"G_go_weight": torch.ones(5)}, r"float32 of shape \(287,\)"),
        ({"G_go_weight": torch.full((287,), float("nan"))}, "undefined"),
        ({"G_go": torch.full((2, 287), 60)}, "287 edges of G_go leave the genes, as 60 -> 60"),
        ({"G_go": torch.full((2, 287), -1)}, "from 0 to 59"),
    ],
)
def test_wrong_values_are_named(release: Path, change: dict, said: str) -> None:
    change_hyper(release, **change)
    with pytest.raises(CheckpointError, match=said):
        read_hyperparameters(release / "hyper.pkl")


def test_edges_that_stand_twice_act_as_in_torch_geometric(release: Path) -> None:
    hyper = read_hyperparameters(TINY / "hyper.pkl")
    edges = torch.cat([hyper.edges_2E, hyper.edges_2E[:, 20:50]], dim=1)
    weights = torch.cat([hyper.weights_E, torch.linspace(0.1, 0.9, 30)])
    change_hyper(release, G_go=edges, G_go_weight=weights)
    graph = go_graph(read_hyperparameters(release / "hyper.pkl"), {})
    assert graph.metadata["repeated_edges_summed"] == 30 and graph.n_edges == 287
    mine = GoEncoder(61, 16, graph)
    theirs = SGConv(16, 16, K=1, add_self_loops=False)
    theirs.load_state_dict(mine.sim_layers[0].state_dict())
    assert torch.allclose(mine(), theirs(mine.emb.weight, edges, weights), atol=1e-6)


# weights


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_prefixes_of_wrappers_are_taken_off(release: Path, tmp_path: Path, prefix: str) -> None:
    def rename(file: dict) -> None:
        file["model_state_dict"] = {prefix + name: t for name, t in file["model_state_dict"].items()}

    change_weights(release, rename)
    import_checkpoint(**options(release), output=tmp_path / "out")
    import_checkpoint(**options(TINY), output=tmp_path / "expected")
    assert load_checkpoint(tmp_path / "out").hash == load_checkpoint(tmp_path / "expected").hash


def edit(change: Callable[[dict], Any]) -> Callable[[dict], None]:
    return lambda file: change(file["model_state_dict"]) and None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            edit(lambda s: [s.pop("mask_emb.weight"), s.pop("exp_to_out.bias"), s.update(stranger=torch.ones(1))]),
            r"2 weights missing \('exp_to_out.bias', 'mask_emb.weight'\), 1 unexpected \('stranger'\)",
        ),
        (
            edit(lambda s: s.update({"token_norm.bias": torch.zeros(17), "exp_to_out.bias": torch.zeros(2)})),
            r"token_norm.bias is a tensor of shape \(17,\).*exp_to_out.bias is a tensor of shape \(2,\)",
        ),
        (edit(lambda s: s.update({"token_norm.bias": torch.zeros(16, dtype=torch.float64)})), "type float64, not"),
        (edit(lambda s: s.update({"token_norm.bias": torch.full((16,), torch.inf)})), "infinite .*'token_norm.bias'"),
        (edit(lambda s: s.update({"token_norm.bias": 3})), "'token_norm.bias' is a int"),
        (edit(lambda s: s.update({"module.token_norm.bias": s["token_norm.bias"]})), "stands there twice"),
        (lambda file: file.pop("model_state_dict") and None, "a dict with the keys 'epoch'"),
        (lambda file: [1, 2], "a list"),
    ],
)
def test_wrong_weights_are_named(release: Path, tmp_path: Path, change: Callable[[dict], Any], said: str) -> None:
    change_weights(release, change)
    with pytest.raises(CheckpointError, match=said):
        import_checkpoint(**options(release), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_missing_weight_is_named(release: Path, tmp_path: Path) -> None:
    change_weights(release, edit(lambda s: [s.pop(name) for name in list(s) if "large_encoder" in name]))
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(**options(release), output=tmp_path / "out")
    assert caught.value.found.count("large_encoder.") == 43


def test_files_from_before_the_zip_format_are_read(release: Path, tmp_path: Path) -> None:
    import_checkpoint(**options(release), output=tmp_path / "zip")
    change_weights(release, lambda file: None, _use_new_zipfile_serialization=False)
    import_checkpoint(**options(release), output=tmp_path / "legacy")
    assert load_checkpoint(tmp_path / "legacy").hash == load_checkpoint(tmp_path / "zip").hash


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.999])
def test_truncated_weights(release: Path, share: float, legacy: bool) -> None:
    if legacy:
        change_weights(release, lambda file: None, _use_new_zipfile_serialization=False)
    path = release / "model.pth"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"model\.pth") as caught:
        read_torch(path)
    assert "copy it again" in caught.value.action


def test_a_flipped_bit_and_a_compressed_archive_are_seen(release: Path) -> None:
    path = release / "model.pth"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC-32"):
        read_torch(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch(path)


# genes and symbols


def test_gene_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "genes.txt"
    path.write_text("ENSG00000000003.15\nENSG00000000001.2\n\nENSG00000000002\nPAD\n")
    assert read_gene_ids(path, 3) == ["ENSG00000000003", "ENSG00000000001", "ENSG00000000002"]
    path.write_text("ENSG00000000003.15\nENSG00000000003.15_PAR_Y\nENSG00000000002.1\n")
    logging.getLogger("sclong").propagate = True
    with caplog.at_level(logging.WARNING, logger="sclong"):
        assert read_gene_ids(path, 3) == ["ENSG00000000003.15", "ENSG00000000003.15_PAR_Y", "ENSG00000000002"]
    assert "keep it" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ENSG00000000001\nENSG00000000002\n", "2 gene ids"),
        ("ENSG00000000001\nPAD\nENSG00000000002\n", "'PAD' stands in place 2"),
        ("ENSG00000000001\nENSG00000000001\nENSG00000000002\n", "appear twice"),
        ("TP53\nMYC\nGATA1\n", "3 of 3 lines are no Ensembl gene ids"),
        ("", "no gene"),
        ("\x00\x80", "UTF-8"),
    ],
)
def test_wrong_gene_lists(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "genes.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputDataError, match=said):
        read_gene_ids(tmp_path / "genes.txt", 3)


IDS = ["ENSG00000141510", "ENSG00000136997", "ENSG00000102145", "ENSG00000999999"]
ANNOTATION = (
    "gene_id,gene_name,biotype,chromosome,start,end\nENSG00000102145.9,GATA1,protein_coding,chrX,1,2\n"
    "ENSG00000141510.1,TP53,protein_coding,chr17,1,2\nENSG00000136997.1,MYC,protein_coding,chr8,1,2\n"
)
HGNC = (
    "Approved symbol\tAlias symbols\tPrevious symbols\tNCBI Gene ID(supplied by NCBI)\tEnsembl gene ID\tStatus\n"
    "TP53\tp53, LFS1\t\t7157\tENSG00000141510\tApproved\nMYC\tc-Myc, LFS1\t\t4609\tENSG00000136997\tApproved\n"
    "GATA1\t\tGF1\t2623\tENSG00000102145\tApproved\n"
)
PAIRS = "symbol,ensembl\nTP53,ENSG00000141510.5\np53,ENSG00000141510\nMYC,ENSG00000136997\nGATA1,ENSG00000102145\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("genes.csv", ANNOTATION),
        ("genes.tsv", ANNOTATION.replace(",", "\t")),
        ("hgnc.tsv", HGNC),
        ("pairs.csv", PAIRS),
        ("pairs.txt", "\n".join("\t".join(line.split(",")[::-1]) for line in PAIRS.splitlines()[1:])),
    ],
)
def test_symbols_come_from_each_kind_of_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    (tmp_path / name).write_text(text)
    vocabulary = vocabulary_of(IDS, tmp_path / "ids.txt", tmp_path / name)
    assert vocabulary.ensembl_ids == IDS
    assert vocabulary.hash == vocabulary_of(IDS, tmp_path / "ids.txt", None).hash
    assert vocabulary.table["symbol"].tolist() == ["TP53", "MYC", "GATA1", ""]
    alignment = align_genes(["GATA1", "MYC", "nobody"], vocabulary)
    assert alignment.positions.tolist() == [2, 1, -1]
    if name in ("hgnc.tsv", "pairs.csv", "pairs.txt"):
        assert align_genes(["p53"], vocabulary).positions.tolist() == [0]
    vocabulary.write(tmp_path / "vocabulary.tsv")
    assert vocabulary.read(tmp_path / "vocabulary.tsv").table.equals(vocabulary.table)


def test_a_name_of_several_genes_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    (tmp_path / "pairs.csv").write_text(PAIRS + "MYC,ENSG00000123456\np53,ENSG00000123457\n")
    table = vocabulary_of(IDS, tmp_path / "ids.txt", tmp_path / "pairs.csv").table
    assert table["symbol"].tolist() == ["TP53", "", "GATA1", ""]
    assert table["aliases"].tolist() == ["", "", "", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c\n1,2,3\n", "its columns are 'a', 'b', 'c'"),
        ("a,b\nTP53,unknown\n", "neither of its two columns"),
        ("TP53,ENSG00000999998\n", "names 0 of the 4 genes"),
        ("", "pairs.csv"),
    ],
)
def test_wrong_tables_of_symbols(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputDataError, match=said):
        vocabulary_of(IDS, tmp_path / "ids.txt", tmp_path / "pairs.csv")


# the whole import


def command(release: Path, output: Path, *more: str) -> int:
    given = [text for key, path in options(release).items() for text in (f"--{key}", str(path))]
    return main(["import-checkpoint", *given, "--output", str(output), *more])


BREAK: dict[str, Callable[[Path], Any]] = {
    "truncated weights": lambda r: (r / "model.pth").write_bytes((r / "model.pth").read_bytes()[:-100]),
    "no weights": lambda r: (r / "model.pth").unlink(),
    "weights of another model": lambda r: change_hyper(r, large_enc_depth=4),
    "text as hyper-parameters": lambda r: (r / "hyper.pkl").write_text("max_seq_len: 61\n"),
    "empty hyper-parameters": lambda r: (r / "hyper.pkl").write_bytes(b""),
    "weights as hyper-parameters": lambda r: shutil.copy(r / "model.pth", r / "hyper.pkl"),
    "hyper-parameters as weights": lambda r: shutil.copy(r / "hyper.pkl", r / "model.pth"),
    "no hyper-parameters": lambda r: (r / "hyper.pkl").unlink(),
    "a gene too few": lambda r: (r / "genes.txt").write_text("\n".join((r / "genes.txt").read_text().split()[:-1])),
    "no genes": lambda r: (r / "genes.txt").unlink(),
}


@pytest.mark.parametrize("case", BREAK)
def test_a_failure_says_three_things_and_leaves_what_was_there(
    release: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "place" / "out"
    import_checkpoint(**options(release), output=out)
    before = sha256_tree(out)
    BREAK[case](release)
    capsys.readouterr()
    assert command(release, out) == 1
    said = capsys.readouterr().err
    assert "expected:" in said and "what to do:" in said and "Traceback" not in said
    assert sha256_tree(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"], "nothing half-written"
    assert command(release, tmp_path / "place" / "new") == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_files_saved_on_a_gpu_are_read_without_one(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_checkpoint(**options(release), output=tmp_path / "cpu")
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    change_weights(release, lambda file: None)
    change_hyper(release)
    monkeypatch.undo()
    assert all(b"cuda:3" in (release / name).read_bytes() for name in ("model.pth", "hyper.pkl"))
    import_checkpoint(**options(release), output=tmp_path / "gpu")
    for name in ("model.safetensors", "vocabulary.tsv"):
        assert (tmp_path / "gpu" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes()
    graphs = [np.load(tmp_path / kind / "go_graph.npz") for kind in ("cpu", "gpu")]
    assert all(np.array_equal(graphs[0][key], graphs[1][key]) for key in ("indptr", "indices", "weights"))


def test_what_is_no_checkpoint_is_not_replaced(release: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years of work")
    for output, said in ((tmp_path / "thesis", "'chapter.tex'"), (release / "genes.txt", "a file")):
        with pytest.raises(CheckpointError, match=said):
            import_checkpoint(**options(release), output=output)
    assert (tmp_path / "thesis/chapter.tex").read_text() == "years of work"


def test_the_folder_says_where_it_comes_from(release: Path, tmp_path: Path) -> None:
    change_weights(release, lambda file: file.update(epoch="2024\n# a heading", losses=float("nan")))
    (tmp_path / "pairs.csv").write_text("TP53,ENSG00000000001\nMYC,ENSG00000000002\nGATA1,ENSG00000000003\n")
    more = ["--symbols", str(tmp_path / "pairs.csv"), "--tie-rule", "torch_topk", "--stabilizer", "global"]
    assert command(release, tmp_path / "out", *more) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1, "others may read the weights too"
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architecture"]["tie_rule"] == "torch_topk"
    assert config["architecture"]["stabilizer"] == "global"
    card = (tmp_path / "out/README.md").read_text()
    for said in ("licence of the weights: not stated by the authors", "epoch: 2024 # a heading", "losses: nan"):
        assert f"- {said}\n" in card
    assert "model.pth, SHA-256" in card and "imported with sclong" in card
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.vocabulary.table["symbol"].tolist()[:4] == ["TP53", "MYC", "GATA1", ""]
    graph = np.load(tmp_path / "out/go_graph.npz")
    metadata = json.loads(str(graph["metadata"]))
    assert metadata["source"] == "hyper.pkl" and metadata["vocabulary_hash"] == loaded.vocabulary.hash


def test_facts_that_are_no_plain_numbers_are_left_out(release: Path, tmp_path: Path) -> None:
    change_weights(release, lambda file: file.update(epoch=3, losses=torch.zeros(1000)))
    import_checkpoint(**options(release), output=tmp_path / "out")
    card = json.loads((tmp_path / "out/config.json").read_text())["card"]
    assert card["epoch"] == 3 and "losses" not in card


def test_per_head_is_warned_against(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(release, tmp_path / "out", "--stabilizer", "per_head") == 0
    assert "prefer per_cell" in capsys.readouterr().err
