import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import ConfigError
from hilum.images.spec import InputSpec
from hilum.models.classifier import Classifier
from hilum.models.encoder import Encoder
from hilum.saliency.occlusion import grid, occlusion


def classifier(arch="test_resnet", side=32):
    torch.manual_seed(0)
    model = Classifier(Encoder(arch, InputSpec(side=side)), ("Edema", "Nodule"), exclusive=False)
    nn.init.normal_(model.head.weight)
    return model.eval()


def test_maps_are_those_of_a_square_that_is_moved_by_hand():
    model, images = classifier(), torch.randn(2, 1, 32, 32)
    found = occlusion(model, images, 1, patch=8, stride=4)
    expected = np.zeros((2, 32, 32))
    with torch.no_grad():
        for b in range(2):
            before, falls, times = (
                model(images[b : b + 1])[0, 1].item(),
                np.zeros((32, 32)),
                np.zeros((32, 32)),
            )
            for top in range(0, 25, 4):
                for left in range(0, 25, 4):
                    hidden = images[b : b + 1].clone()
                    hidden[..., top : top + 8, left : left + 8] = images[b].mean()
                    falls[top : top + 8, left : left + 8] += before - model(hidden)[0, 1].item()
                    times[top : top + 8, left : left + 8] += 1
            expected[b] = falls / times
    assert found.scores.shape == (2, 8, 8)
    # Every pixel of a cell is hidden by the same squares.
    assert np.allclose(found.scores.numpy().repeat(4, 1).repeat(4, 2), expected, atol=1e-5)


def test_of_a_linear_model_the_fall_is_what_the_square_held():
    model = classifier("pixels/32")
    weight = model.head.weight.data[0].view(32, 32)
    images = torch.randn(1, 1, 32, 32)
    found = occlusion(model, images, 0, patch=8, stride=8).scores[0]
    expected = (weight * (images[0, 0] - images.mean())).view(4, 8, 4, 8).sum((1, 3))
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("num", [1, 3, 200])
def test_the_batch_does_not_matter(num):
    model, images = classifier(), torch.randn(1, 1, 32, 32).expand(num, -1, -1, -1)
    found = occlusion(model, images, 0, patch=16, stride=8).scores
    assert torch.allclose(found, found[:1].expand(num, -1, -1), atol=1e-5)


def test_cells_tile_an_image_whose_side_no_stride_divides():
    edges, wide = grid(225)
    assert (edges[0], edges[-1], len(edges), wide) == (0, 225, 17, 2)
    assert set(np.diff(edges).tolist()) == {14, 15}
    assert grid(30, patch=30, stride=30) == ([0, 30], 1)


@pytest.mark.parametrize(("patch", "stride"), [(4, 8), (40, 8), (-2, -2)])
def test_a_square_that_does_not_fit_is_refused(patch, stride):
    with pytest.raises(ConfigError, match="of images of 32"):
        grid(32, patch=patch, stride=stride)
