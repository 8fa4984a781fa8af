import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.rollout import attention_rollout, attention_weights


def classifier(arch, pool):
    torch.manual_seed(0)
    model = Classifier(Encoder(arch, InputSpec(side=64), pool=pool), ("Edema", "Nodule"), exclusive=False)
    for name, weight in model.encoder.net.named_parameters():
        if "qkv" in name:
            nn.init.normal_(weight, std=0.3)  # far from even attention
    nn.init.normal_(model.head.weight)
    return model.eval()


def slow_attention(block, tokens):
    """One head and one token at a time."""
    attention = block.attn
    seen = block.norm1(tokens)
    batch, num, width = seen.shape
    heads, per = attention.num_heads, width // attention.num_heads
    out = torch.zeros(batch, heads, num, num)
    for b in range(batch):
        vectors = seen[b] @ attention.qkv.weight.T + attention.qkv.bias
        for h in range(heads):
            query = attention.q_norm(vectors[:, h * per : (h + 1) * per])
            key = attention.k_norm(vectors[:, width + h * per : width + (h + 1) * per])
            for i in range(num):
                alike = torch.stack([query[i] @ key[j] / per**0.5 for j in range(num)])
                out[b, h, i] = alike.exp() / alike.exp().sum()
    return out


def blocks_of(model, images):
    """The tokens that each block is given, by running timm's model step by step."""
    net = model.encoder.net
    tokens = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
    for block in net.blocks:
        yield block, tokens
        tokens = block(tokens)


@pytest.mark.parametrize(
    ("arch", "pool"), [("test_vit", "token"), ("test_vit", "mean"), ("test_vit2", "mean")]
)
def test_rollout_is_the_product_of_attentions_and_residuals(arch, pool):
    model = classifier(arch, pool)
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        rolled = None
        for block, tokens in blocks_of(model, images):
            weights = slow_attention(block, tokens).mean(1)
            step = torch.stack([0.5 * one + 0.5 * torch.eye(len(one)) for one in weights])
            step = step / step.sum(-1, keepdim=True)
            rolled = (
                step if rolled is None else torch.stack([a @ b for a, b in zip(step, rolled, strict=True)])
            )
        expected_logits = model(images)
    prefix = rolled.shape[1] - 16
    row = rolled[:, 0] if pool == "token" else rolled[:, prefix:].mean(1)
    found = attention_rollout(model, images, 0)
    assert np.allclose(found.scores.flatten(1), row[:, prefix:], atol=1e-5)
    assert torch.allclose(found.logits, expected_logits, atol=1e-5)
    assert found.scores.flatten(1).std(1).min() > 1e-4
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_attention_times_values_is_what_the_fused_kernel_gives():
    model = classifier("test_vit", "token")
    block, tokens = next(iter(blocks_of(model, torch.randn(2, 1, 64, 64))))
    attention, seen = block.attn, block.norm1(tokens)
    with torch.no_grad():
        weights = attention_weights(attention, seen)
        values = attention.qkv(seen).reshape(2, seen.shape[1], 3, attention.num_heads, -1)[:, :, 2]
        joined = torch.einsum("bmij,bjmd->bimd", weights, values).flatten(2)
        assert torch.allclose(attention.proj(attention.norm(joined)), attention(seen), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(2, attention.num_heads, seen.shape[1]), atol=1e-5)


def test_a_network_without_attention_is_refused():
    model = Classifier(Encoder("test_resnet", InputSpec(side=32)), ("Edema",), exclusive=False)
    with pytest.raises(ConfigError, match=r"test_resnet is no ViT.*try method grad_cam"):
        attention_rollout(model.eval(), torch.randn(1, 1, 32, 32), 0)
