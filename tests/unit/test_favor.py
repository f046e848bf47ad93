from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from performer_pytorch import FastAttention
from torch.utils.flop_counter import FlopCounterMode

from sclong.nn.favor import FavorAttention
from sclong.nn.favor_features import key_features, n_random_features, query_features, random_features

MAXIMUM_OVER = {"per_head": (2, 3), "per_cell": (1, 2, 3), "global": (0, 1, 2, 3)}


KERNELS = ["oracle", "blocks"]


def attention_of(stabilizer: str, dim_head: int = 8, kernels: str = "oracle") -> Callable[..., torch.Tensor]:
    """Attention of q, k and v, each (B, H, N, D)."""
    torch.manual_seed(3)
    module = FavorAttention(dim_head, stabilizer, kernels).double()

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return module(torch.stack([q, k, v]).permute(1, 3, 0, 2, 4)).transpose(1, 2)

    attend.projection_matrix = module.projection_matrix
    return attend


def inputs(scale: float, shape: tuple[int, ...] = (2, 3, 20, 8)) -> list[torch.Tensor]:
    torch.manual_seed(4)
    q, k, v = torch.randn(3, *shape, dtype=torch.float64).unbind()
    q, k = scale * q, scale * k
    k[0, 0] *= 1.5  # heads and cells differ in size, so that it matters over what the maximum runs
    return [t.clone().requires_grad_() for t in (q, k, v)]


def written_out(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, omega: torch.Tensor, stabilizer: str
) -> torch.Tensor:
    """The published formula with explicit positions x positions weights."""
    m, d = omega.shape

    def features(x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
        s = torch.einsum("bhnd,md->bhnm", x, omega) * d**-0.25
        top = s.amax(over, keepdim=True)
        top = top.detach() if stabilizer == "per_head" else top
        return m**-0.5 * (torch.exp(s - (x**2).sum(-1, keepdim=True) / 2 * d**-0.5 - top) + 1e-4)

    weights = features(q, (3,)) @ features(k, MAXIMUM_OVER[stabilizer]).transpose(-1, -2)
    return (weights / weights.sum(-1, keepdim=True)) @ v


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("stabilizer", list(MAXIMUM_OVER))
def test_equal_to_the_formula_with_all_gradients(stabilizer: str, scale: float, kernels: str) -> None:
    attention = attention_of(stabilizer, kernels=kernels)
    mine, other = inputs(scale), inputs(scale)
    out = attention(*mine)
    expected = written_out(*other, attention.projection_matrix, stabilizer)
    assert torch.allclose(out, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(mine, other, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=1e-11 * float(b.grad.abs().max()))


@pytest.mark.parametrize("shape", [(2, 3, 70, 16), (1, 2, 300, 32)])
@pytest.mark.parametrize("stabilizer", list(MAXIMUM_OVER))
def test_blocks_in_bfloat16_are_as_near_to_exact_arithmetic_as_the_oracle(
    stabilizer: str, shape: tuple[int, ...]
) -> None:
    """On a processor exponents and their softmax are float32; the products with values are bfloat16."""

    def run(kernels: str, dtype: torch.dtype) -> list[torch.Tensor]:
        torch.manual_seed(3)
        module = FavorAttention(shape[-1], stabilizer, kernels).to(dtype)
        module.projection_matrix = module.projection_matrix.to(torch.bfloat16).to(dtype)
        q, k, v = (t.detach().to(torch.bfloat16).to(dtype).requires_grad_() for t in inputs(0.7, shape))
        out = module(torch.stack([q, k, v]).permute(1, 3, 0, 2, 4)).transpose(1, 2)
        torch.manual_seed(5)
        (out * torch.randn(out.shape, dtype=torch.float64).to(torch.bfloat16).to(dtype)).sum().backward()
        return [out.detach().double(), *(t.grad.double() for t in (q, k, v))]

    mine, oracle, exact = run("blocks", torch.bfloat16), run("oracle", torch.bfloat16), run("oracle", torch.float64)
    for name, value, other, expected in zip(("out", "dq", "dk", "dv"), mine, oracle, exact, strict=True):
        error, allowed = ((x - expected).norm() / expected.norm() for x in (value, other))
        assert error < 2 * allowed and error < 0.1, (name, error, allowed)


def test_the_comparison_has_power() -> None:
    """Attention here is far from a plain mean of the values, and the stabilisers are far from each other."""
    q, k, v = inputs(1.0)
    outs = {s: attention_of(s)(q, k, v) for s in MAXIMUM_OVER}
    mean = v.mean(2, keepdim=True)
    assert all((out - mean).norm() / out.norm() > 0.1 for out in outs.values())
    assert (outs["per_head"] - outs["per_cell"]).abs().max() > 1e-3
    assert (outs["per_cell"] - outs["global"]).abs().max() > 1e-3


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("stabilizer", ["per_cell", "global"])
def test_gradients_are_the_derivatives(stabilizer: str, kernels: str) -> None:
    """The gradient flows through the maximum; "per_head", as performer-pytorch, holds the maximum fixed."""
    attention = attention_of(stabilizer, dim_head=4, kernels=kernels)
    assert torch.autograd.gradcheck(attention, inputs(1.0, (2, 2, 5, 4)), atol=1e-7)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_per_head_equals_performer_pytorch_with_all_gradients(scale: float) -> None:
    module = FavorAttention(16, "per_head")
    theirs = FastAttention(dim_heads=16, nb_features=module.projection_matrix.shape[0], causal=False)
    theirs.projection_matrix.copy_(module.projection_matrix)

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return module(torch.stack([q, k, v]).permute(1, 3, 0, 2, 4)).transpose(1, 2)

    mine, other = ([t.detach().float().requires_grad_() for t in inputs(scale, (2, 3, 50, 16))] for _ in range(2))
    weight = torch.randn(2, 3, 50, 16)
    (ours(*mine) * weight).sum().backward()
    (theirs(*other) * weight).sum().backward()
    assert torch.allclose(ours(*mine), theirs(*other), atol=1e-6)
    for a, b in zip(mine, other, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5 * float(b.grad.abs().max()))


def test_what_a_cell_sees_of_its_batch() -> None:
    q, k, v = inputs(1.0)
    for stabilizer in ("per_head", "per_cell"):
        attention = attention_of(stabilizer)
        assert torch.allclose(attention(q, k, v)[1:], attention(q[1:], k[1:], v[1:]), atol=1e-12)
    batch, alone = attention_of("global")(q, k, v)[1:], attention_of("global")(q[1:], k[1:], v[1:])
    assert (batch - alone).abs().max() > 1e-4
    assert torch.allclose(alone, attention_of("per_cell")(q[1:], k[1:], v[1:]), atol=1e-12), "equal on one cell"


def test_without_the_floor_it_approximates_softmax_attention() -> None:
    """Small queries and keys: the features' variance grows exponentially with their norms."""
    q, k, v = (t.detach() for t in inputs(0.3))
    exact = torch.softmax(q @ k.mT / 8**0.5, dim=-1) @ v

    def error(n_features: int) -> float:
        omega = torch.randn(n_features, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        weights = random_features(q, omega, over=(3,), eps=0) @ random_features(k, omega, over=(2, 3), eps=0).mT
        return float(((weights / weights.sum(-1, keepdim=True)) @ v - exact).norm() / exact.norm())

    assert error(20_000) < 0.02 < 0.05 < float((v.mean(2, keepdim=True) - exact).norm() / exact.norm())
    assert error(20_000) < error(200) / 4


def test_work_is_linear_in_the_number_of_positions() -> None:
    def flops(n: int) -> int:
        attention = FavorAttention(16, "per_cell", "oracle")
        with FlopCounterMode(display=False) as counter:
            attention(torch.zeros(1, n, 3, 2, 16))
        return counter.get_total_flops()

    assert flops(400) == 2 * flops(200) > 0


@pytest.mark.parametrize(("dim_head", "expected"), [(64, 266), (16, 44), (8, 16)])
def test_number_of_random_features(dim_head: int, expected: int) -> None:
    assert n_random_features(dim_head) == expected


def test_random_directions_are_orthogonal_in_blocks_and_of_random_length() -> None:
    torch.manual_seed(0)
    omega = FavorAttention(64).projection_matrix.double()
    assert omega.shape == (266, 64)
    norms = omega.norm(dim=1)
    directions = omega / norms[:, None]
    for start in range(0, 266, 64):
        block = directions[start : start + 64]
        assert torch.allclose(block @ block.T, torch.eye(len(block), dtype=torch.float64), atol=1e-5)
    assert norms.mean() == pytest.approx(7.97, abs=0.15) and norms.std() == pytest.approx(0.70, abs=0.1)


def test_features_are_positive_for_extreme_inputs() -> None:
    omega = attention_of("per_cell").projection_matrix.float()
    for make in (query_features, key_features):
        for stabilizer in MAXIMUM_OVER:
            features = make(1e3 * torch.randn(1, 2, 10, 8), omega, stabilizer)
            assert features.isfinite().all() and (features > 0).all()
