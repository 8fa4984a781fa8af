"""Toy radiographs for tests: small, seeded, and learnable."""

from collections.abc import Iterator

import numpy as np
import torch

from hilum.data.loader import Batch
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder

SIDE = 32
SPEC = InputSpec(side=SIDE)
FINDINGS = ("Edema", "Nodule")


def encoder(seed: int = 0) -> Encoder:
    """The smallest ResNet that timm has."""
    torch.manual_seed(seed)
    return Encoder("test_resnet", SPEC)


class ToyLoader:
    """Stands in for `Loader`: a step's batch is a function of the step alone."""

    def __init__(self, *, num_views: int, batch_size: int = 16, num_images: int = 48) -> None:
        self.num_images, self.num_views, self.batch_size = num_images, num_views, batch_size
        random = np.random.default_rng(0)
        coarse = random.integers(40, 216, (num_images, 4, 4)).astype(np.uint8)
        self.films = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
        self.labels = (coarse.reshape(num_images, -1)[:, : len(FINDINGS)] > 128).astype(np.float32)
        self.labels[::7, 0] = np.nan

    def batch(self, step: int) -> Batch:
        rows = (np.arange(step * self.batch_size, (step + 1) * self.batch_size)) % self.num_images
        random = np.random.default_rng(step)
        views = []
        for _ in range(self.num_views):
            noisy = self.films[rows] + random.normal(0, 12, (len(rows), SIDE, SIDE))
            rolled = np.roll(noisy, random.integers(-2, 3), axis=2)
            views.append(torch.from_numpy(rolled.clip(0, 255).astype(np.uint8))[:, None])
        return Batch(tuple(views), torch.from_numpy(self.labels[rows]), torch.from_numpy(rows))

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        return (self.batch(step) for step in range(first_step, last_step))
