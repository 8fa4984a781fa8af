"""Toy radiographs for tests: small, seeded, and learnable."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from hilum.data.loader import Batch
from hilum.data.views import View
from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.train.task import Task

SIDE = 32
SPEC = InputSpec(side=SIDE)
PATCHES = InputSpec(side=64)
FINDINGS = ("Edema", "Nodule")


def encoder(seed: int = 0, *, patches: bool = False) -> Encoder:
    """The smallest ResNet that timm has, or the smallest ViT: 16 patches."""
    torch.manual_seed(seed)
    return Encoder("test_vit", PATCHES) if patches else Encoder("test_resnet", SPEC)


class ToyLoader:
    """Stands in for `Loader`: a step's batch is a function of the step alone."""

    def __init__(
        self,
        *,
        num_views: int = 1,
        sides: Sequence[int] = (),
        columns: Sequence[str] = (),
        batch_size: int = 16,
        num_images: int = 48,
    ) -> None:
        self.sides = tuple(sides) or (SIDE,) * num_views
        self.num_images, self.batch_size, self.columns = num_images, batch_size, columns
        random = np.random.default_rng(0)
        coarse = random.integers(40, 216, (num_images, 4, 4)).astype(np.uint8)
        self.films = coarse.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
        self.labels = (coarse.reshape(num_images, -1)[:, : len(FINDINGS)] > 128).astype(np.float32)
        self.labels[::7, 0] = np.nan

    @classmethod
    def of(cls, task: Task) -> "ToyLoader":
        """With the views and columns that a task wants."""
        return cls(sides=task.recipe(View(), View()).sides, columns=task.columns)

    def batch(self, step: int) -> Batch:
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, rows = np.divmod(places, self.num_images)
        random = np.random.default_rng(step)
        views = []
        for side in self.sides:
            noisy = self.films[rows] + random.normal(0, 12, (len(rows), SIDE, SIDE))
            rolled = np.roll(noisy, random.integers(-2, 3), axis=2).clip(0, 255).astype(np.uint8)
            if side != SIDE:
                rolled = np.stack([cv2.resize(view, (side, side)) for view in rolled])
            views.append(torch.from_numpy(rolled)[:, None])
        words = ["no edema.", "edema is seen."], ["No nodule.", "There is a nodule."]
        texts = tuple(
            " ".join(said[int(label == 1)] for said, label in zip(words, self.labels[row], strict=True))
            for row in rows
        )
        return Batch(
            tuple(views),
            torch.from_numpy(self.labels[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(epochs),
            {name: torch.from_numpy(rows // 4) for name in self.columns},
            texts,
        )

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        return (self.batch(step) for step in range(first_step, last_step))
