"""Blocked attention against the oracle: forward, and the gradients of queries, keys and values apart.

Weights of a whole model at random initialisation would be a weak test: attention is then almost a plain mean of the
values, and the gradient is nearly all the values' own. Here queries and keys are scaled so that attention is peaked.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix

from sclong.nn import favor_blocks
from sclong.nn.favor import favor_attention
from sclong.nn.favor_features import n_random_features, oracle_attention

STABILIZERS = ["per_head", "per_cell", "global"]


def inputs(cells: int, n: int, heads: int, dim: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Merged q, k, v in double precision, heads and cells of different size, and random directions."""
    draw = torch.Generator().manual_seed(seed)
    qkv = torch.randn(cells, n, 3, heads, dim, dtype=torch.float64, generator=draw)
    qkv[:, :, :2] *= scale
    qkv[:, :, 1] *= 0.6 + 0.4 * torch.rand(cells, 1, heads, 1, dtype=torch.float64, generator=draw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return qkv, gaussian_orthogonal_random_matrix(n_random_features(dim), dim, 0)


def results(
    qkv: torch.Tensor, directions: torch.Tensor, stabilizer: str, kernels: str, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    leaf = qkv.to(dtype).clone().requires_grad_()
    out = favor_attention(leaf, directions.to(dtype), stabilizer, kernels)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype))
    return {"out": out.detach().double()} | {
        name: leaf.grad[:, :, i].double() for i, name in enumerate(("dq", "dk", "dv"))
    }


def worst(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float((found[name] - e).norm() / e.norm()) for name, e in expected.items()}


def share_of_attention(out: torch.Tensor, qkv: torch.Tensor) -> float:
    """How far the result is from a plain mean of the values."""
    return float((out - qkv[:, :, 2].mean(1, keepdim=True)).norm() / out.norm())


@settings(max_examples=60, deadline=None)
@given(
    cells=st.integers(1, 3),
    n=st.integers(1, 90),
    heads=st.integers(1, 4),
    dim=st.sampled_from([2, 4, 8, 16]),
    scale=st.floats(0.1, 2.0),
    stabilizer=st.sampled_from(STABILIZERS),
    rows_per_block=st.integers(1, 100),
    seed=st.integers(0, 10_000),
)
def test_any_shape_in_double_precision(
    cells: int, n: int, heads: int, dim: int, scale: float, stabilizer: str, rows_per_block: int, seed: int
) -> None:
    qkv, directions = inputs(cells, n, heads, dim, scale, seed)
    expected = results(qkv, directions, stabilizer, "oracle", torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(favor_blocks.BLOCK_BYTES, "cpu", 4 * rows_per_block * heads * n_random_features(dim))
        found = results(qkv, directions, stabilizer, "blocks", torch.float64)
    for name, e in expected.items():  # the gradient of a single position's query is zero up to rounding
        assert (found[name] - e).abs().max() <= 1e-9 * max(float(e.abs().max()), 1e-3), name


@pytest.mark.parametrize("stabilizer", STABILIZERS)
@pytest.mark.parametrize(
    ("cells", "n", "heads", "dim", "scale"), [(2, 70, 3, 16, 1.5), (1, 700, 2, 64, 1.0), (3, 130, 4, 32, 1.2)]
)
def test_single_precision_is_as_good_as_the_oracle_s(
    stabilizer: str, cells: int, n: int, heads: int, dim: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(favor_blocks.BLOCK_BYTES, "cpu", 100_000)
    qkv, directions = inputs(cells, n, heads, dim, scale)
    truth = results(qkv, directions, stabilizer, "oracle", torch.float64)
    assert share_of_attention(truth["out"], qkv) > 0.05, "attention would not be tested"
    found = worst(results(qkv, directions, stabilizer, "blocks", torch.float32), truth)
    oracle = worst(results(qkv, directions, stabilizer, "oracle", torch.float32), truth)
    assert all(error <= max(1e-5, 3 * oracle[name]) for name, error in found.items()), (found, oracle)


@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_bfloat16_is_as_good_as_the_oracle_s(stabilizer: str) -> None:
    qkv, directions = inputs(2, 300, 4, 32, 1.0)
    truth = results(qkv, directions, stabilizer, "oracle", torch.float64)
    found = worst(results(qkv, directions, stabilizer, "blocks", torch.bfloat16), truth)
    oracle = worst(results(qkv, directions, stabilizer, "oracle", torch.bfloat16), truth)
    assert all(error <= 1.2 * oracle[name] for name, error in found.items()), (found, oracle)
    assert max(found.values()) < 0.1


@pytest.mark.parametrize("stabilizer", ["per_cell", "global"])
def test_equal_maxima_share_their_gradient(stabilizer: str) -> None:
    """Two keys that are the largest of all, of two heads (and of two cells): the maximum is reached several times."""
    qkv, directions = inputs(2, 9, 2, 8, 1.0)
    qkv[0, 3, 1, 0] = qkv[0, 7, 1, 1] = qkv[1, 2, 1, 1] = 4 * directions[5].double() / directions[5].norm()
    expected = results(qkv, directions, stabilizer, "oracle", torch.float64)
    found = results(qkv, directions, stabilizer, "blocks", torch.float64)
    assert max(worst(found, expected).values()) < 1e-9


def test_a_strided_view_of_a_merged_projection_is_not_copied_wrongly() -> None:
    qkv, directions = inputs(2, 40, 3, 8, 1.0)
    wide = torch.randn(2, 40, 3, 3, 16, dtype=torch.float64)
    wide[..., :8] = qkv
    found, expected = (favor_attention(x, directions.double(), "per_cell", "blocks") for x in (wide[..., :8], qkv))
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)


def test_extreme_inputs_stay_finite() -> None:
    for scale in (1e-6, 30.0, 300.0):
        qkv, directions = inputs(1, 60, 2, 16, scale)
        for stabilizer in STABILIZERS:
            found = results(qkv, directions, stabilizer, "blocks", torch.float32)
            assert all(torch.isfinite(t).all() for t in found.values()), (scale, stabilizer)


def test_features_of_all_positions_are_never_held() -> None:
    """The largest tensor that a pass makes is far smaller than positions x features x heads."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            nonlocal largest
            out = func(*args, **(kwargs or {}))  # type: ignore[operator]
            sizes = [t.numel() for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
            largest = max([largest, *sizes])
            return out

    qkv, directions = inputs(1, 20_000, 2, 64, 1.0)
    leaf = qkv.float().requires_grad_()
    with Largest():
        favor_attention(leaf, directions, "per_cell", "blocks").sum().backward()
    assert largest == leaf.numel() < 20_000 * 2 * 266 * np.float64(0.8)


@pytest.mark.parametrize("stabilizer", ["per_head", "per_cell", "global"])
@pytest.mark.parametrize("cells_together", [1, 2, 5])
def test_cells_together_and_apart_are_the_same(
    stabilizer: str, cells_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five cells, in groups of one, of two (and one left over), of five: values and the gradient of all inputs."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 13, 3, 2, 8, generator=generator, dtype=torch.float64)
    directions = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 13, 2, 8, generator=generator, dtype=torch.float64)
    monkeypatch.setitem(favor_blocks.BLOCK_BYTES, "cpu", cells_together * 2 * 13 * 16 * 4)
    mine = qkv.clone().requires_grad_()
    out = favor_blocks.blocked_attention(mine, directions, stabilizer)
    (out * weight).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(out, favor_blocks.blocked_attention(qkv, directions, stabilizer))
    q, k, v = (x.requires_grad_() for x in qkv.permute(2, 0, 3, 1, 4).contiguous().unbind())
    (oracle_attention(q, k, v, directions, stabilizer).transpose(1, 2) * weight).sum().backward()
    expected = torch.stack([q.grad, k.grad, v.grad]).permute(1, 3, 0, 2, 4)
    torch.testing.assert_close(mine.grad, expected, rtol=1e-6, atol=1e-9)
