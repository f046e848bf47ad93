from __future__ import annotations

import performer_pytorch
import pytest
import torch

from sclong.nn.performer import Performer, PerformerOptions


def ours(stabilizer: str = "per_head", **options: object) -> Performer:
    torch.manual_seed(0)
    return Performer(24, depth=2, heads=3, dim_head=8, options=PerformerOptions(stabilizer=stabilizer, **options))


def x_of(n: int = 30) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, n, 24)


def test_equal_to_performer_pytorch_with_all_gradients() -> None:
    """The same weights, by the same names, in performer-pytorch's own Performer."""
    model = ours()
    theirs = performer_pytorch.Performer(
        24, depth=2, heads=3, dim_head=8, ff_mult=4, qkv_bias=False, auto_check_redraw=False
    )
    weights = {name: t for name, t in model.state_dict().items() if name != "calls_since_last_redraw"}
    names = {name for name in theirs.state_dict() if name.startswith("net.")}
    assert names == set(weights)
    theirs.load_state_dict(weights, strict=False)
    x, y = x_of().requires_grad_(), x_of().requires_grad_()
    out, expected = model(x), theirs(y)
    assert torch.allclose(out, expected, atol=1e-6)
    out.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    gradients = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        reference = gradients[name].grad
        assert (parameter.grad - reference).norm() <= 1e-5 * reference.norm(), name


@pytest.mark.parametrize("stabilizer", ["per_head", "per_cell", "global"])
def test_the_order_of_positions_does_not_matter(stabilizer: str) -> None:
    model, x = ours(stabilizer), x_of()
    order = torch.randperm(x.shape[1])
    assert torch.allclose(model(x[:, order]), model(x)[:, order], atol=1e-5)


def test_every_position_sees_every_other() -> None:
    x = x_of().requires_grad_()
    ours()(x)[0, 0].sum().backward()
    assert (x.grad[0].abs().sum(-1) > 0).all()
    assert (x.grad[1] == 0).all(), "and no other cell"


def test_queries_keys_and_values_have_no_bias() -> None:
    names = {name.rsplit(".", 2)[-2] for name, _ in ours().named_parameters() if name.endswith(".bias")}
    assert names == {"norm", "to_out", "w1", "w2"}


def test_training_draws_no_random_features() -> None:
    model = ours().train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    model(x_of())
    assert len(before) == 3 and all(torch.equal(b, before[name]) for name, b in model.named_buffers())
