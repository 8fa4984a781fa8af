"""SimCLR end to end: this library against lightly's own transform, loss and head, same JPEGs, same ResNet-18.

    python benchmarks/pretrain_vs_lightly.py [FOLDER OF JPEGS]

lightly is run as its tutorial runs it: SimCLRTransform on RGB PIL images in a DataLoader, torchvision's
ResNet-18, SimCLRProjectionHead, NTXentLoss, SGD, float32. A second row gives it bfloat16 and channels_last by
hand, so that the gain of the arithmetic and of the image path can be told apart. Images per second
over one epoch of theirs, each of which costs the same, and over eight of ours from start to end: decoding,
collapse watch, checkpoint and weights file included. Ours is run first, cold, and once more after them.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import hilum
from hilum.images.phantom import write_phantoms

COUNT, EPOCHS, OUR_EPOCHS, SIDE, BATCH, WORKERS = 384, 1, 8, 128, 64, 2


class Films(Dataset):
    """JPEG paths through lightly's transform."""

    def __init__(self, paths: list[str]) -> None:
        """Two views per film."""
        self.paths, self.transform = paths, SimCLRTransform(input_size=SIDE)

    def __len__(self) -> int:
        """Number of films."""
        return len(self.paths)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        """The views of one film."""
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def theirs(paths: list[str], *, bfloat16: bool) -> float:
    """Images per second of lightly's pieces."""
    encoder = torchvision.models.resnet18()
    encoder.fc = torch.nn.Identity()
    model = torch.nn.Sequential(encoder, SimCLRProjectionHead(512, 512, 128))
    model.to(memory_format=torch.channels_last if bfloat16 else torch.contiguous_format)
    loss_of, optimizer = NTXentLoss(0.2), torch.optim.SGD(model.parameters(), lr=0.06)
    loader = DataLoader(Films(paths), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
    begin, seen = time.perf_counter(), 0
    for one, other in (views for _ in range(EPOCHS) for views in loader):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = loss_of(model(one), model(other))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(one)
    return seen / (time.perf_counter() - begin)


def ours(table: Path, folder: Path, name: str) -> float:
    """Images per second of `hilum.pretrain`, from JPEGs to weights."""
    begin = time.perf_counter()
    hilum.pretrain(
        "simclr", records=table, out=folder / name, store=folder / f"store-{name}", store_size=SIDE,
        image_size=SIDE, epochs=OUR_EPOCHS, batch_size=BATCH, view={"blur": 0.5},
    )  # fmt: skip
    return COUNT * OUR_EPOCHS / (time.perf_counter() - begin)


def main(source: str | None) -> None:
    """Ours, theirs, theirs, ours; prints ratios of our slower run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "films.csv"
        if source:
            paths = sorted(map(str, Path(source).resolve().glob("*.jpg")))[:COUNT]
        else:
            drawn = hilum.Records.read(write_phantoms(folder / "films", count=COUNT, size=512)).table["image"]
            paths = []
            for image in drawn:
                paths.append(str(Path(image).with_suffix(".jpg")))
                Image.open(image).convert("L").save(paths[-1], quality=95)
        table.write_text("image,patient\n" + "".join(f"{p},{i}\n" for i, p in enumerate(paths)))
        theirs(paths[:BATCH], bfloat16=True)  # first-touch memory and thread pools, for both
        mine = ours(table, folder, "first")
        plain, fast = theirs(paths, bfloat16=False), theirs(paths, bfloat16=True)
        again = ours(table, folder, "second")
        sys.stdout.write(
            f"SimCLR, ResNet-18, {COUNT} JPEGs, {SIDE} px, batch {BATCH}, 2 cores\n"
            f"lightly, float32                    {plain:7.1f} images/s\n"
            f"lightly, bfloat16 + channels_last   {fast:7.1f} images/s\n"
            f"hilum, everything included          {mine:7.1f} and, after them, {again:.1f} images/s\n"
            f"ratio {min(mine, again) / plain:.2f} to lightly as it comes, "
            f"{min(mine, again) / fast:.2f} with bfloat16 done by hand\n"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
