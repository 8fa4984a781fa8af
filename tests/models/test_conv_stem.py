import pytest
import torch
from torch import nn

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.weights import load, to_bytes

SPEC = InputSpec(side=48)
SMALL = {"depth": "2"}


def original(arch, side=48, **options):
    """torch's own layers with the weights of ours."""
    torch.manual_seed(0)
    encoder = Encoder(arch, InputSpec(side=side), options=options).eval()
    net = encoder.net
    d, depth = net.embed_dim, len(net.blocks)
    with torch.no_grad():
        for weight in net.parameters():  # biases and norms too, or their places could be swapped unseen
            weight.add_(0.1 * torch.randn_like(weight))
    stem = nn.Sequential(
        nn.Conv2d(1, d // 2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(d // 2, d, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(d, d, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    stem.load_state_dict(net.patch_embed.proj.state_dict())
    layer = nn.TransformerEncoderLayer(
        d, 6, 4 * d, dropout=0.1, activation="relu", batch_first=True, norm_first=False
    )
    transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
    for theirs, ours in zip(transformer.layers, net.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data.copy_(ours.attn.qkv.weight)
        theirs.self_attn.in_proj_bias.data.copy_(ours.attn.qkv.bias)
        theirs.self_attn.out_proj.load_state_dict(ours.attn.proj.state_dict())
        theirs.linear1.load_state_dict(ours.mlp.fc1.state_dict())
        theirs.linear2.load_state_dict(ours.mlp.fc2.state_dict())
        theirs.norm1.load_state_dict(ours.norm1.state_dict())
        theirs.norm2.load_state_dict(ours.norm2.state_dict())

    def forward(images):
        patches = stem(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.cls_token.expand(len(images), -1, -1), patches], 1) + net.pos_embed
        return transformer(tokens)

    return encoder, forward


@pytest.mark.parametrize(
    ("arch", "options"), [("convstem_vit_192_original", {}), ("convstem_vit_384_original", SMALL)]
)
def test_the_original_is_torchs_own_transformer_after_three_convolutions(arch, options):
    encoder, forward = original(arch, **options)
    images = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        expected = forward(images)
        assert torch.allclose(encoder.net.forward_features(images), expected, atol=1e-5)
        prefix, patches = encoder.tokens(images)
    assert torch.allclose(prefix[:, 0], expected[:, 0], atol=1e-5)
    assert torch.allclose(patches, expected[:, 1:], atol=1e-5)


def test_the_original_drops_where_torch_does():
    net = Encoder("convstem_vit_192_original", SPEC).net
    block = net.blocks[0]
    rates = [block.attn.attn_drop.p, block.attn.proj_drop.p, block.mlp.drop1.p, block.mlp.drop2.p]
    assert rates == [0.1] * 4
    assert isinstance(net.norm, nn.Identity)
    assert len(net.blocks) == 12
    assert block.attn.num_heads == 6
    assert abs(float(net.cls_token.detach().std()) - 0.02) < 0.005


def test_the_original_at_224_pixels_has_its_size():
    with torch.device("meta"):
        encoder = Encoder("convstem_vit_384_original", InputSpec())
    assert encoder.net.pos_embed.shape == (1, 785, 384)
    d, width = 384, 192
    stem = (9 * 1 * width + width) + (9 * width * d + d) + (9 * d * d + d)
    block = (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    assert sum(weight.numel() for weight in encoder.parameters()) == stem + 786 * d + 12 * block


def test_the_default_is_pre_norm_with_gelu_and_a_last_norm():
    net = Encoder("convstem_vit_192", SPEC, options=SMALL).eval().net
    block, x = net.blocks[0], torch.randn(2, 5, 192)
    y = x + block.attn(block.norm1(x))
    hidden = nn.functional.gelu(block.mlp.fc1(block.norm2(y)))
    assert torch.allclose(block(x), y + block.mlp.fc2(hidden), atol=1e-6)
    assert isinstance(net.norm, nn.LayerNorm)


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize("act", ["relu", "gelu"])
def test_the_stem_is_what_is_asked_for(norm, act, tmp_path):
    kinds = {"batch": nn.BatchNorm2d, "layer": nn.LayerNorm, "group": nn.GroupNorm}
    options = {**SMALL, "stem_norm": norm, "stem_act": act}
    encoder = Encoder("convstem_vit_192", SPEC, options=options)
    step = [nn.Conv2d, *([] if norm == "none" else [kinds[norm]]), nn.ReLU if act == "relu" else nn.GELU]
    stem = encoder.net.patch_embed.proj
    assert all(isinstance(layer, kind) for layer, kind in zip(stem, step * 3, strict=True))
    assert [layer.out_channels for layer in stem if isinstance(layer, nn.Conv2d)] == [96, 192, 192]
    encoder(torch.randn(2, 1, 48, 48)).sum().backward()
    assert stem[0].weight.grad.any()
    (tmp_path / "model.safetensors").write_bytes(to_bytes(encoder.eval()))
    again, images = load(tmp_path), torch.randn(2, 1, 48, 48)
    assert again.options == options
    assert torch.equal(again(images), encoder(images))


@pytest.mark.parametrize("arch", ["convstem_vit_192", "convstem_vit_192_original"])
def test_all_of_the_encoder_works_on_it(arch):
    encoder = Encoder(arch, SPEC, options=SMALL, pool="top_k", top_k=4).eval()
    assert encoder.has_patches
    for height, width in [(48, 48), (24, 24), (40, 64)]:
        images = torch.randn(2, 1, height, width)
        maps = encoder.feature_maps(images)
        assert [one.shape for one in maps] == [(2, 192, height // 8, width // 8)] * 2
        prefix, patches = encoder.tokens(images)
        assert prefix.shape == (2, 1, 192)
        assert torch.equal(patches.transpose(1, 2).reshape(maps[-1].shape), maps[-1])
        assert torch.equal(encoder(images), encoder.pool(maps[-1]))
        assert encoder.patch_scores(images).shape == (2, height // 8, width // 8)
    assert encoder.strides == (8, 8)


@pytest.mark.parametrize("arch", ["convstem_vit_192", "convstem_vit_192_original", "test_vit"])
def test_a_masked_autoencoder_can_take_it_apart(arch):
    encoder = Encoder(arch, SPEC).eval()
    net, images = encoder.net, torch.randn(2, 1, 48, 48)
    grid = net.patch_embed(images)
    side, d = 48 // net.patch_embed.patch_size[0], encoder.num_channels
    assert grid.shape == (2, side, side, d)
    tokens = grid.flatten(1, 2) + net.pos_embed[:, net.num_prefix_tokens :]
    prefix = (net.cls_token + net.pos_embed[:, :1]).expand(2, -1, -1)
    whole = net.norm(net.blocks(torch.cat([prefix, tokens], 1)))
    assert torch.allclose(whole, net.forward_features(images), atol=1e-6)
    some = net.norm(net.blocks(torch.cat([prefix, tokens[:, ::3]], 1)))
    assert some.shape == (2, 1 + -(-side * side // 3), d)


def test_unknown_options_and_sizes_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"stem_norm is 'bach'.*did you mean 'batch'"):
        Encoder("convstem_vit_192", SPEC, options={"stem_norm": "bach"})
    with pytest.raises(ConfigError, match="convstem_vit_192: it has no option 'stem'"):
        Encoder("convstem_vit_192", SPEC, options={"stem": "batch"})
    with pytest.raises(
        ConfigError, match="image_size is 100; convstem_vit_192 has patches of 8 pixels: try 96 or 104"
    ):
        Encoder("convstem_vit_192", InputSpec(side=100), options=SMALL)
    with pytest.raises(ConfigError, match="did you mean 'convstem_vit_192'"):
        Encoder("conv_stem_vit_192", SPEC)
    with pytest.raises(ConfigError, match="nobody has published weights"):
        Encoder("convstem_vit_192", SPEC, pretrained=True)
