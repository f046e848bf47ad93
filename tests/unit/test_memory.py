"""Memory of a training process by formula: counts are the model's own, bytes are what autograd and FSDP really hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_training import toy_graph, toy_vocabulary

from sclong.config.load import load_architecture
from sclong.config.sections import Architecture
from sclong.nn.dual_encoder import DualEncoder
from sclong.nn.favor import n_random_features
from sclong.nn.performer import PreNorm
from sclong.plan.training import GPU_GB
from sclong.train.memory import cells_that_fit, count_parameters, training_memory

ARCH = Architecture(
    name="narrow",
    top_genes=200,
    base_dim=16,
    value_hidden_dim=8,
    mini_depth=1,
    mini_heads=2,
    mini_dim_head=8,
    large_dim=64,
    large_depth=3,
    large_heads=4,
    large_dim_head=16,
    decoder_depth=1,
    decoder_heads=2,
    decoder_dim_head=8,
)
N_GENES = 500


def model(arch: Architecture) -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(arch, N_GENES, toy_graph(toy_vocabulary(N_GENES)))


def test_published_model_has_the_published_number_of_parameters() -> None:
    assert count_parameters(load_architecture("1b"), 27_874).total == 1_006_086_461


def test_parameters_are_those_of_the_model_and_of_its_parts() -> None:
    built, count = model(ARCH), count_parameters(ARCH, N_GENES)
    sublayers = [sum(p.numel() for p in m.fn.parameters()) for m in built.modules() if isinstance(m, PreNorm)]
    assert count.total == sum(p.numel() for p in built.parameters())
    assert count.go == sum(p.numel() for p in built.go_conv.parameters())
    assert (count.sublayers, count.largest_sublayer) == (sum(sublayers), max(sublayers))


def kept_bytes(arch: Architecture, cells: int) -> int:
    """What autograd keeps for the backward pass, each storage once, without parameters."""
    built = model(arch)
    values = torch.relu(torch.randn(cells, N_GENES + 1))
    own = {p.untyped_storage().data_ptr() for p in [*built.parameters(), *built.buffers()]}
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage
        return tensor

    with built.go_conv.once(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = built(values).reconstruction_BN.sum()
        total = sum(storage.nbytes() for storage in seen.values())
        loss.backward()
    return total


@pytest.mark.parametrize("precision, depth", [("float32", 1), ("float32", 3), ("bfloat16", 3)])
def test_cells_keep_what_the_formula_says(precision: str, depth: int) -> None:
    arch = ARCH.model_copy(update={"precision": precision, "large_depth": depth})
    measured = kept_bytes(arch, 5) - kept_bytes(arch, 2)
    formula = [training_memory(arch, N_GENES, cells, device="cpu").activations for cells in (5, 2)]
    assert (formula[0] - formula[1]) / measured == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_further_layer_keeps_what_the_formula_says(precision: str) -> None:
    deeper = [ARCH.model_copy(update={"large_depth": depth, "precision": precision}) for depth in (1, 2)]
    measured = kept_bytes(deeper[1], 3) - kept_bytes(deeper[0], 3)
    formula = [training_memory(arch, N_GENES, 3, device="cpu").activations for arch in deeper]
    assert (formula[1] - formula[0]) / measured == pytest.approx(1, abs=0.01)


def test_recomputed_layers_keep_their_input_alone() -> None:
    plain, lean = (
        training_memory(ARCH.model_copy(update={"recompute_layers": value}), N_GENES, 10) for value in (False, True)
    )
    assert lean.activations < 0.4 * plain.activations and lean.peak < plain.peak


def test_shards_get_smaller_with_processes_and_ddp_holds_buckets() -> None:
    count = count_parameters(ARCH, N_GENES)
    one = training_memory(ARCH, N_GENES, 1)
    ddp = training_memory(ARCH, N_GENES, 1, "ddp", 4)
    fsdp = training_memory(ARCH, N_GENES, 1, "fsdp", 4)
    assert (one.weights, one.optimizer, one.exchange) == (4 * count.total, 8 * count.total, 0)
    assert (ddp.weights, ddp.exchange) == (4 * count.total, 4 * count.total)
    assert fsdp.weights == 4 * ((count.sublayers + count.rest) // 4 + count.go)
    assert training_memory(ARCH, N_GENES, 1, "fsdp", 1) == one


def test_several_passes_keep_whole_gradients() -> None:
    count = count_parameters(ARCH, N_GENES)
    once, twice = (training_memory(ARCH, N_GENES, 1, "fsdp", 4, passes) for passes in (1, 2))
    assert twice.gradients == 4 * count.total > once.gradients and twice.peak > once.peak


def test_cells_that_fit_are_the_most_that_fit() -> None:
    limit = training_memory(ARCH, N_GENES, 7, passes=2).peak
    assert cells_that_fit(ARCH, N_GENES, limit) == 7
    assert cells_that_fit(ARCH, N_GENES, limit - 1) == 6
    assert cells_that_fit(ARCH, N_GENES, 1000) == 0


@pytest.mark.parametrize("dim", [8, 16, 64])
def test_random_features_are_counted_as_the_model_makes_them(dim: int) -> None:
    arch = ARCH.model_copy(update={"large_dim_head": dim, "top_attention": "favor"})
    exact = ARCH.model_copy(update={"large_dim_head": dim, "top_attention": "exact"})
    more = training_memory(arch, N_GENES, 1).activations - training_memory(exact, N_GENES, 1).activations
    heads, n = arch.large_heads, arch.top_genes
    assert more == arch.large_depth * heads * (5 * n + 4 * n_random_features(dim) * (dim + 1))


def test_table_of_the_page_is_the_formula(root: Path) -> None:
    published = load_architecture("1b")
    table = (root / "docs/scale.md").read_text().split("<!-- training-memory -->\n")[1].split("<!-- /")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) == 12
    for how, precision, held, first, further, *fit in rows:
        parallel, processes = ("none", 1) if how == "one" else (how.split()[0], int(how.split()[1]))
        change = {"precision": precision.split(",")[0], "recompute_layers": "recomputed" in precision}
        arch = published.model_copy(update=change)
        one, few, more = (training_memory(arch, 27_874, cells, parallel, processes, 2) for cells in (1, 20, 21))
        figures = [one.weights + one.optimizer + one.gradients + one.exchange, one.peak, more.peak - few.peak]
        said = [float(cell) for cell in (held, first, further)]
        assert said == pytest.approx([figure / 1e9 for figure in figures], abs=0.051)
        limits = [0.9e9 * size for size in GPU_GB.values()]
        assert [int(cell) for cell in fit] == [cells_that_fit(arch, 27_874, x, parallel, processes) for x in limits]
