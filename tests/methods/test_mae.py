import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.methods import mae
from hilum.methods.mae import MAE, Settings, normalised, patchify, pixel_error
from hilum.models.decoder import PatchDecoder, sine_positions
from hilum.models.encoder import Encoder
from hilum.models.masked import visible_tokens
from tests import toys

LIGHTLY = pytest.mark.filterwarnings("ignore")


def task_with(**settings) -> MAE:
    return MAE(toys.encoder(patches=True), **Settings(**settings).model_dump())


def batch_for(task: MAE):
    return toys.ToyLoader.of(task).batch(0).to("cpu", task.input)


def places(count: int, rows: int = 2) -> torch.Tensor:
    return torch.arange(count).expand(rows, -1)


class Drawn(torch.nn.Module):
    """A decoder that always draws the same."""

    def __init__(self, pixels: torch.Tensor) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        return self.pixels


def loss_of(task: MAE, batch) -> float:
    return float(task(batch)["loss"].detach())


def test_patches_and_their_pixels_are_in_reading_order():
    images = torch.randn(2, 1, 6, 4)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 4)
    for b in range(2):
        for n in range(6):
            top, left = 2 * (n // 2), 2 * (n % 2)
            for p in range(4):
                assert patches[b, n, p] == images[b, 0, top + p // 2, left + p % 2]


def test_a_patch_is_normalised_by_its_own_mean_and_deviation():
    patches = torch.randn(2, 3, 5)
    patches[0, 0] = 7.0  # black, or the collimator: no deviation at all
    for b in range(2):
        for n in range(3):
            values = patches[b, n].tolist()
            mean = sum(values) / 5
            deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 4 + 1e-6)
            expected = [(v - mean) / deviation for v in values]
            assert normalised(patches)[b, n].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("normalised_targets", [True, False])
def test_the_loss_is_the_mean_squared_error_of_hidden_patches(normalised_targets):
    task = task_with(normalised_targets=normalised_targets)
    batch = batch_for(task)
    drawn = torch.randn(16, 12, 256)
    task.decode = Drawn(drawn)
    image, u = batch.views[0], batch.uniforms(16)
    total = 0.0
    for b in range(16):
        by_u = sorted(range(16), key=lambda n, b=b: float(u[b, n]))
        for place, n in enumerate(by_u[4:]):
            patch = image[
                b, 0, 16 * (n // 4) : 16 * (n // 4) + 16, 16 * (n % 4) : 16 * (n % 4) + 16
            ].flatten()
            if normalised_targets:
                patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            total += sum((float(d) - float(t)) ** 2 for d, t in zip(drawn[b, place], patch, strict=True))
    assert loss_of(task, batch) == pytest.approx(total / (16 * 12 * 256), rel=1e-5)


def test_no_pixel_of_a_visible_patch_is_a_target(monkeypatch):
    task = task_with(normalised_targets=False)
    batch = batch_for(task)
    seen = visible_tokens(task.model, batch.views[0], places(4, rows=16))
    monkeypatch.setattr(mae, "visible_tokens", lambda *_: seen)  # what the encoder makes of them aside
    before = loss_of(task, batch)
    order = batch.uniforms(16).argsort(dim=1)
    for chosen, same in ((order[:, :4], True), (order[:, 4:], False)):
        image = batch.views[0].clone()
        for b, patches in enumerate(chosen.tolist()):
            for n in patches:
                image[b, :, 16 * (n // 4) :, 16 * (n % 4) :][:, :16, :16] += 1
        assert (loss_of(task, replace(batch, views=(image,))) == before) is same


@pytest.mark.parametrize(
    "arch", ["test_vit", "test_vit2", "deit_tiny_distilled_patch16_224", "convstem_vit_192"]
)
def test_with_all_patches_visible_the_encoder_is_its_plain_self(arch):
    torch.manual_seed(0)
    encoder = Encoder(arch, InputSpec(side=64)).eval()
    images = torch.randn(2, 1, 64, 64)
    plain = encoder.tokens(images)
    masked = visible_tokens(encoder, images, places(plain[1].shape[1]))
    assert torch.equal(masked[0], plain[0])
    assert torch.equal(masked[1], plain[1])


@pytest.mark.parametrize(("arch", "leaks"), [("test_vit", False), ("convstem_vit_192", True)])
def test_only_a_convolutional_stem_sees_pixels_of_hidden_patches(arch, leaks):
    torch.manual_seed(0)
    encoder = Encoder(arch, InputSpec(side=32)).eval()
    images = torch.randn(1, 1, 32, 32)
    changed = images.clone()
    changed[:, :, :16, :16] += 1  # test_vit's first patch of four, convstem's first four of sixteen
    edge = 32 // encoder.strides[-1]
    visible = torch.tensor([[n for n in range(edge**2) if n // edge >= edge // 2 or n % edge >= edge // 2]])
    before, after = (visible_tokens(encoder, x, visible)[1] for x in (images, changed))
    assert torch.equal(before, after) is not leaks


def test_an_encoder_that_sees_a_quarter_costs_a_quarter():
    encoder = Encoder("test_vit", InputSpec(side=128)).eval()
    images = torch.randn(1, 1, 128, 128)

    def cost(number: int) -> int:
        with FlopCounterMode(display=False) as counter:
            visible_tokens(encoder, images, places(number, rows=1))
        return counter.get_total_flops()

    embedding = 2 * 64 * 256 * 64  # of all patches into 64 channels, whatever is visible
    assert cost(16) - embedding < 0.27 * (cost(64) - embedding)  # with the class token


def test_a_mask_is_the_same_however_a_batch_is_split():
    task = task_with().eval()
    batch = batch_for(task)
    halves = [loss_of(task, batch.part(i, 2)) for i in range(2)]
    assert loss_of(task, batch) == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_what_is_drawn_depends_on_a_patch_s_place_and_not_on_the_order_of_the_mask():
    torch.manual_seed(0)
    decode = PatchDecoder(8, width=16, depth=2, heads=2, edge=3, pixels=4)
    prefix, visible = torch.randn(1, 1, 8), torch.randn(1, 2, 8)
    order = torch.tensor([[4, 7, 0, 1, 2, 3, 5, 6, 8]])
    turned = torch.tensor([[7, 4, 8, 6, 5, 3, 2, 1, 0]])
    drawn = decode(prefix, visible, order)
    assert torch.allclose(decode(prefix, visible.flip(1), turned), drawn.flip(1), atol=1e-5)
    elsewhere = decode(prefix, visible, torch.tensor([[7, 4, 0, 1, 2, 3, 5, 6, 8]]))
    assert not torch.allclose(elsewhere, drawn, atol=1e-3)


@pytest.mark.parametrize("ratio", [0.02, 0.98])
def test_a_mask_that_leaves_nothing_to_see_or_to_draw_is_refused(ratio):
    with pytest.raises(ConfigError, match="of 16 patches"):
        task_with(mask_ratio=ratio)


def test_an_encoder_without_patches_is_refused():
    with pytest.raises(ConfigError, match="is no ViT"):
        MAE(toys.encoder(), **Settings().model_dump())


def test_a_scorer_that_would_not_be_trained_is_refused():
    encoder = Encoder("test_vit", toys.PATCHES, pool="top_k", top_k=4)
    with pytest.raises(ConfigError, match="top_k"):
        MAE(encoder, **Settings().model_dump())


def test_a_decoder_whose_heads_do_not_divide_its_width_is_refused():
    with pytest.raises(ConfigError, match="decoder_width is 60"):
        task_with(decoder_width=60, decoder_heads=8)


@LIGHTLY
def test_patches_targets_positions_and_loss_agree_with_lightly():
    from lightly.models import utils

    images = torch.randn(2, 1, 64, 64)
    patches = patchify(images, 16)
    assert torch.equal(patches, utils.patchify(images, 16))
    assert torch.allclose(normalised(patches), utils.normalize_mean_var(patches), atol=1e-5)
    positions = torch.from_numpy(utils.get_2d_sine_cosine_positional_embedding(24, 5, cls_token=False))
    assert torch.allclose(sine_positions(5, 24), positions.float(), atol=1e-5)
    kept, hidden = utils.random_token_mask((2, 16), 0.75)
    task = task_with()
    assert kept.shape[1] == task.num_visible
    targets = utils.get_at_index(patches, hidden)
    drawn = torch.randn_like(targets)
    expected = torch.nn.functional.mse_loss(drawn, targets)
    assert torch.allclose(
        pixel_error(drawn, patches.gather(1, hidden[..., None].expand(-1, -1, 256))), expected
    )
