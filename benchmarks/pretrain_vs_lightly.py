"""SimCLR end to end: this library against lightly's own transform, loss and head, same JPEGs, same ResNet-18.

    python benchmarks/pretrain_vs_lightly.py [FOLDER OF JPEGS] [HOW MANY]

lightly is run as its tutorial runs it: SimCLRTransform on RGB PIL images in a DataLoader, torchvision's
ResNet-18, SimCLRProjectionHead, NTXentLoss, SGD, float32. A second row gives it bfloat16 and channels_last by
hand, so that the gain of the arithmetic and of the image path can be told apart. Images per second over one
epoch of theirs, each of which costs the same, imports left out, and over eight of ours from start to end:
imports, decoding, health, checkpoint, weights and page included. Each runs in a process of its own; ours runs
first, cold, and once more after them.
"""

import subprocess
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

from hilum.images.phantom import write_phantoms
from hilum.records.table import Records

MOST, OUR_EPOCHS, SIDE, BATCH, WORKERS = 1276, 8, 128, 64, 2


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
    """Images per second of lightly's pieces over an epoch, after a batch that warms them up."""
    encoder = torchvision.models.resnet18()
    encoder.fc = torch.nn.Identity()
    model = torch.nn.Sequential(encoder, SimCLRProjectionHead(512, 512, 128))
    model.to(memory_format=torch.channels_last if bfloat16 else torch.contiguous_format)
    loss_of, optimizer = NTXentLoss(0.2), torch.optim.SGD(model.parameters(), lr=0.06)
    for films in (Films(paths[:BATCH]), Films(paths)):
        loader = DataLoader(films, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
        begin, seen = time.perf_counter(), 0
        for one, other in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = loss_of(model(one), model(other))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(one)
    return seen / (time.perf_counter() - begin)


def ours(table: Path, folder: Path, count: int) -> float:
    """Images per second of `hilum pretrain`, from JPEGs to weights."""
    begin = time.perf_counter()
    told = {
        "records": table, "out": folder / "run", "store": folder / "store", "store-size": SIDE,
        "image-size": SIDE, "epochs": OUR_EPOCHS, "batch-size": BATCH, "view": "blur=0.5",
    }  # fmt: skip
    words = [sys.executable, "-m", "hilum.cli", "pretrain", "simclr"]
    words += [str(word) for name, value in told.items() for word in (f"--{name}", value)]
    subprocess.run(words, check=True)
    return count * OUR_EPOCHS / (time.perf_counter() - begin)


def alone(table: Path, precision: str) -> float:
    """`theirs` in a process of its own."""
    words = [sys.executable, __file__, "--theirs", str(table), precision]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main(source: str | None, count: int) -> None:
    """Ours, theirs, theirs, ours; prints ratios of our slower run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "films.csv"
        if source:
            paths = sorted(map(str, Path(source).resolve().glob("*.jpg")))[:count]
        else:
            drawn = Records.read(write_phantoms(folder / "films", count=count, size=512)).table["image"]
            paths = []
            for image in drawn:
                paths.append(str(Path(image).with_suffix(".jpg")))
                Image.open(image).convert("L").save(paths[-1], quality=95)
        table.write_text("image,patient\n" + "".join(f"{p},{i}\n" for i, p in enumerate(paths)))
        mine = ours(table, folder / "first", len(paths))
        plain, fast = alone(table, "float32"), alone(table, "bfloat16")
        again = ours(table, folder / "second", len(paths))
        sys.stdout.write(
            f"SimCLR, ResNet-18, {len(paths)} JPEGs, {SIDE} px, batch {BATCH}, 2 cores\n"
            f"lightly, float32                    {plain:7.1f} images/s\n"
            f"lightly, bfloat16 + channels_last   {fast:7.1f} images/s\n"
            f"hilum, everything included          {mine:7.1f} and, after them, {again:.1f} images/s\n"
            f"ratio {min(mine, again) / plain:.2f} to lightly as it comes, "
            f"{min(mine, again) / fast:.2f} with bfloat16 done by hand\n"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        films = [line.rpartition(",")[0] for line in Path(sys.argv[2]).read_text().splitlines()[1:]]
        sys.stdout.write(str(theirs(films, bfloat16=sys.argv[3] == "bfloat16")))
    else:
        folder_of_jpegs, most = [*sys.argv[1:], None, None][:2]
        main(folder_of_jpegs, int(most or MOST))
