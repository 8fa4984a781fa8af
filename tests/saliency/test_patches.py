import numpy as np
import pytest
import torch

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.overlay import overlay, with_boxes, with_legend
from hilum.saliency.patches import patch_maps, patch_overlays
from hilum.saliency.placement import best_patches, heat_map, peak

RANDOM = np.random.default_rng(0)


def film(height, width):
    return RANDOM.integers(0, 256, (height, width)).astype(np.uint8)


def test_the_heat_map_of_a_square_film_is_bilinear():
    scores = RANDOM.normal(size=(3, 4)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None, None].double(), (30, 37), mode="bilinear", align_corners=False
    )
    assert np.allclose(heat_map(scores, (30, 37), fit="squash"), expected[0, 0].numpy(), atol=1e-12)


def test_what_a_crop_cuts_off_has_no_heat():
    heat = heat_map(np.ones((2, 2)), (10, 16), fit="crop")
    assert np.isnan(heat[:, :3]).all()
    assert np.isnan(heat[:, 13:]).all()
    assert (heat[:, 3:13] == 1).all()


def test_a_padded_film_shows_the_middle_of_the_map():
    scores = np.repeat(
        np.arange(4.0)[:, None], 4, 1
    )  # rows 0 to 3; the film is the middle half of the height
    heat = heat_map(scores, (20, 40), fit="pad")
    assert np.allclose(heat[[0, 19], 0], [0.55, 2.45])
    assert np.allclose(best_patches(scores, (20, 40), k=5, fit="pad")[0, [1, 3]], [20, 20])  # in the border


@pytest.mark.parametrize(
    ("fit", "expected"), [("squash", [24, 6, 36, 9]), ("crop", [24, 6, 27, 9]), ("pad", [24, 6, 36, 12])]
)
def test_a_patch_lies_on_the_film_where_the_encoder_saw_it(fit, expected):
    scores = np.zeros((4, 4))
    scores[2, 2] = 1
    # The square is 12 pixels wide and starts at x = 18 (crop), or 48 and starts at y = -18 (pad).
    assert best_patches(scores, (12, 48), k=1, fit=fit).tolist() == [expected]


def test_the_best_patches_come_best_first():
    scores = RANDOM.permutation(16).reshape(4, 4).astype(float)
    boxes = best_patches(scores, (4, 4), k=3, fit="squash").astype(int)
    assert [scores[y1, x1] for x1, y1, _, _ in boxes] == [15, 14, 13]


def test_an_overlay_colours_the_film_and_outlines_the_chosen():
    shown, scores = film(64, 64), np.zeros((4, 4))
    scores[1, 2] = 1
    drawn = overlay(shown, scores, k=1, fit="crop", alpha=0.5, colours="gray", outline=(1, 255, 3))
    assert (drawn.dtype, drawn.shape) == (np.uint8, (64, 64, 3))
    outlined = (drawn == (1, 255, 3)).all(2)
    rows, columns = outlined.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 31, 32, 47)
    assert outlined.sum() == 4 * 15
    # The lowest score is black in the colour map gray, so half of the film is left.
    assert np.abs(drawn[50:, :20] - shown[50:, :20, None] / 2).max() <= 0.5
    assert (drawn[24, 40] >= shown[24, 40] / 2).all()


def test_an_overlay_leaves_the_film_and_what_was_not_seen_alone():
    shown = film(16, 40)
    before = shown.copy()
    drawn = overlay(shown, np.arange(16.0).reshape(4, 4), k=0, fit="crop")
    assert (shown == before).all()
    assert (drawn[:, :12] == shown[:, :12, None]).all()
    assert (drawn[:, 28:] == shown[:, 28:, None]).all()


def test_equal_scores_and_unknown_colours_are_no_surprise():
    assert overlay(film(8, 8), np.ones((2, 2)), k=2, fit="crop").shape == (8, 8, 3)
    with pytest.raises(ConfigError, match="colours is 'infrared'"):
        overlay(film(8, 8), np.ones((2, 2)), k=2, fit="crop", colours="infrared")


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_films_are_shown_at_their_own_size_with_the_scores_of_their_own_view(fit):
    encoder = Encoder("test_vit", InputSpec(side=64, fit=fit), pool="top_k", top_k=2)
    films = [film(64, 64), film(80, 64), film(50, 90)]
    drawn = list(patch_overlays(encoder, films))
    assert [one.shape for one in drawn] == [(*one.shape, 3) for one in films]
    images = (torch.from_numpy(films[0])[None, None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        scores = encoder.patch_scores(images)[0].numpy()
    assert (drawn[0] == overlay(films[0], scores, k=2, fit=fit)).all()


def test_an_encoder_without_scores_is_refused():
    with pytest.raises(ConfigError, match="scores no patches"):
        next(patch_overlays(Encoder("test_vit", InputSpec(side=64)), [film(64, 64)]))


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(48, 48), (40, 90), (90, 40), (31, 64)])
def test_the_peak_is_where_the_map_is_highest(size, fit):
    for _ in range(5):
        scores = RANDOM.normal(size=(5, 5))
        x, y = peak(scores, size, fit=fit)
        fine = heat_map(scores, tuple(8 * side for side in size), fit=fit)
        assert 0 <= x <= size[1]
        assert 0 <= y <= size[0]
        row, column = (min(int(8 * at), 8 * length - 1) for at, length in ((y, size[0]), (x, size[1])))
        # The finer grid has no pixel exactly at the peak.
        assert fine[row, column] == pytest.approx(np.nanmax(fine), abs=0.15)


def test_the_peak_of_a_square_film_is_the_middle_of_its_best_cell():
    scores = np.zeros((4, 4))
    scores[1, 3] = 1
    assert peak(scores, (40, 80), fit="squash") == (70, 15)
    assert peak(scores, (40, 40), fit="crop") == (35, 15)
    top = np.zeros((4, 4))
    top[0, 1] = 1  # in the border above the film, which shows the two middle rows
    assert peak(top, (20, 40), fit="pad") == (15, 0)


def test_a_legend_stands_beside_the_film_and_says_what_was_enlarged():
    scores = np.arange(9.0).reshape(3, 3)
    drawn = overlay(film(200, 300), scores, fit="squash")
    sheet = with_legend(drawn, scores, words=["Edema 0.83"], box="box")
    assert (sheet[:200, :300] == drawn).all()
    assert sheet.shape[1] > 300
    assert sheet.shape[0] > 200
    bar = sheet[60:120, 310:324]
    assert (bar[0, 0].astype(int).sum()) > bar[-1, 0].astype(int).sum()  # high is on top, and bright
    small = with_legend(overlay(film(32, 32), scores, fit="squash"), scores, words=["Edema"])
    assert (small[32:100, :32] == 255).all()


def test_boxes_are_outlined():
    drawn = with_boxes(np.zeros((40, 50, 3), np.uint8), np.array([[5.0, 10, 20, 30]]))
    rows, columns, _ = drawn.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 5, 19)


def test_patch_scores_are_maps_too():
    torch.manual_seed(0)
    encoder = Encoder("test_vit", InputSpec(side=64), pool="top_k", top_k=2)
    model = Classifier(encoder, ("Edema",), exclusive=False).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(patch_maps(model, images, 0).scores, encoder.patch_scores(images))
