"""The perceptron: exact about its window, blind to padding."""

import pytest
import torch

from dfplan.nets.mlp import Perceptron


def net():
    valid = torch.tensor([[True, True, False], [True, False, False]]).repeat(2, 1)
    torch.manual_seed(0)
    made = Perceptron(valid, 16, 2)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made, valid


def test_padding_goes_in_and_out_as_nothing():
    made, valid = net()
    x, level = torch.randn(5, 4, 3), torch.rand(5, 4)
    out = made(x, level)
    assert out.shape == x.shape and (out[:, ~valid] == 0).all() and (out[:, valid] != 0).any()
    torch.testing.assert_close(made(torch.where(valid, x, x + 9), level), out, rtol=0, atol=0)


def test_every_token_and_level_matters_and_samples_do_not_mix():
    made, _ = net()
    x, level = torch.randn(3, 4, 3), torch.rand(3, 4)
    out = made(x, level)
    for t in range(4):
        other = level.clone()
        other[0, t] = 1 - other[0, t]
        moved = made(x, other)
        assert not torch.equal(moved[0], out[0])
        torch.testing.assert_close(moved[1:], out[1:])


def test_another_number_of_tokens_is_refused():
    made, _ = net()
    with pytest.raises(ValueError, match="got 3 tokens, this network was built for exactly 4"):
        made(torch.zeros(1, 3, 3), torch.zeros(1, 3))


def test_fine_inputs_tell_small_values_apart():
    valid = torch.tensor([[True, True]])
    torch.manual_seed(0)
    plain, fine = Perceptron(valid, 32, 1), Perceptron(valid, 32, 1, fine=20.0)
    assert fine.enter.in_features == plain.enter.in_features + 2
    a, b, level = torch.zeros(1, 1, 2), torch.full((1, 1, 2), 0.01), torch.zeros(1, 1)

    def change(net):
        return (net(b, level) - net(a, level)).norm().item()

    for net in (plain, fine):
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(1))
    assert change(fine) > 3 * change(plain)
