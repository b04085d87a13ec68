import pytest
import torch
import torch.nn.functional as F

from dfplan.nets.embeddings import LevelEmbedding
from dfplan.nets.recurrent import Recurrent
from dfplan.nets.transformer import Transformer, attention
from dfplan.train.config import ModelConfig


def transformer(causal, group=1):
    net = Transformer(3, 8, group, width=16, layers=2, heads=2, causal=causal)
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net.double().eval()


def reach(net, what, t=4):
    """(T,) largest change of each output when the input or level of token t changes."""
    x, level = torch.randn(2, 8, 3).double(), torch.rand(2, 8).double()
    before = net(x, level)
    (x if what == "input" else level)[:, t] += 0.3
    return (net(x, level) - before).abs().amax((0, 2))


@pytest.mark.parametrize("what", ["input", "level"])
def test_causal_networks_do_not_see_the_future(what):
    for net in (transformer(True), transformer(True, group=2), Recurrent(3, 16, 2).double()):
        change = reach(net, what)
        assert (change[:4] == 0).all() and (change[4:] > 1e-8).all()


@pytest.mark.parametrize("what", ["input", "level"])
def test_the_other_transformer_sees_everything(what):
    assert (reach(transformer(False), what) > 1e-8).all()


@pytest.mark.parametrize("net", [transformer(False), transformer(True), Recurrent(3, 16, 2).double()])
def test_samples_of_a_batch_do_not_mix(net):
    x, level = torch.randn(3, 8, 3).double(), torch.rand(3, 8).double()
    torch.testing.assert_close(net(x, level)[1:2], net(x[1:2], level[1:2]))


@pytest.mark.parametrize("cut", [1, 3, 7])
@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_the_state_of_a_causal_network_carries_the_whole_past(kind, cut):
    net = Recurrent(3, 16, 2).double() if kind == "recurrent" else transformer(True)
    x, level = torch.randn(2, 8, 3).double(), torch.rand(2, 8).double()
    whole = net(x, level)
    first, state = net.step(x[:, :5], level[:, :5], None, cut if cut < 5 else 5)
    torch.testing.assert_close(first, whole[:, :5])
    kept = min(cut, 5)
    rest, after = net.step(x[:, kept:], level[:, kept:], state, 8 - kept)
    torch.testing.assert_close(rest, whole[:, kept:])
    assert (net(x[:, kept:], level[:, kept:]) - whole[:, kept:]).abs().max() > 1e-4
    if kind == "transformer":  # keys and values can be cut back, a summary cannot
        shorter = net.cut(after, kept, 8)
        torch.testing.assert_close(net.step(x[:, kept:], level[:, kept:], shorter, 0)[0], whole[:, kept:])
    else:
        assert net.cut(after, kept, 8) is None and net.cut(after, 8, 8) is after


def test_transformer_knows_position_and_kind():
    net = transformer(False, group=2)
    same = net(torch.zeros(1, 8, 3).double(), torch.zeros(1, 8).double())[0]
    assert torch.cdist(same, same).fill_diagonal_(1).min() > 1e-6


def test_transformer_takes_fewer_tokens_and_refuses_more():
    net = transformer(True)
    x, level = torch.randn(1, 8, 3).double(), torch.rand(1, 8).double()
    torch.testing.assert_close(net(x[:, :5], level[:, :5]), net(x, level)[:, :5])
    with pytest.raises(ValueError, match="got 9 tokens, the network was built for at most 8"):
        net(torch.randn(1, 9, 3).double(), torch.rand(1, 9).double())


def test_transformer_refuses_odd_heads():
    with pytest.raises(ValueError, match="width=10, heads=4"):
        ModelConfig(width=10, heads=4)


@pytest.mark.parametrize("causal", [False, True])
def test_cpu_attention_is_torchs(causal):
    q, k, v = torch.randn(3, 2, 4, 7, 5)
    torch.testing.assert_close(
        attention(q, k, v, causal), F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    )
    last = attention(q[:, :, 4:], k, v, causal)  # the last tokens alone see all keys
    torch.testing.assert_close(last, attention(q, k, v, causal)[:, :, 4:])
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), attention(q, k, v, causal), rtol=0.1, atol=0.05)


def test_output_is_fp32_under_autocast():
    net = Transformer(3, 8, 1, width=16, layers=1, heads=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(1, 8, 3), torch.rand(1, 8)).dtype == torch.float32


def test_levels_are_told_apart():
    level = torch.linspace(0, 1, 64)[None]
    out = LevelEmbedding(16)(level)[0]
    assert out.shape == (64, 16)
    assert torch.cdist(out, out).fill_diagonal_(1).min() > 1e-4
