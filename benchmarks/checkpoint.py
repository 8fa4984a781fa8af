"""Seconds and memory to get a ResNet-50 out of somebody else's checkpoint, against `torch.load` by hand.

The files are made here, of random numbers: one of MoCo-CXR's layout (query, momentum encoder, queue; some
200 MB) as torch writes now (zip) and as it wrote before 1.6 (legacy), and a flat one by torchvision's names
(some 100 MB). Ours is `open_foreign`: it hashes the file, recognises it, and loads every tensor or none; by
hand it is `torch.load`, the prefix cut off, and `load_state_dict` into torchvision's ResNet-50. Each load is
a fresh process of one thread that reads from the page cache. Memory is the peak of the resident set beyond
what imports left, as a multiple of the file's size; the network itself, 94 MB, is in it. The bars are 2 times
the file, and a few seconds.

    python benchmarks/checkpoint.py
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision

ROUNDS = 3
BAR = 2.0
CHILD = """
import sys, time
from pathlib import Path
import torch, torchvision
from hilum.images.spec import InputSpec
from hilum.models.recognise import families, open_foreign

who, path = sys.argv[1], Path(sys.argv[2])
torch.set_num_threads(1)
families()
torchvision.models.resnet18()

def by_hand():
    content = torch.load(path, map_location="cpu")
    tensors, prefix = content.get("state_dict", content), "module.encoder_q."
    if prefix + "conv1.weight" in tensors:
        tensors = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    net = torchvision.models.resnet50()
    net.fc = torch.nn.Identity()
    net.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("fc.")})
    return net

def ours():
    return open_foreign(path, arch="resnet18", input_spec=InputSpec())[0].net

def kilobytes(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind + ":"))

Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, begin = kilobytes("VmRSS"), time.perf_counter()
net = {"by hand": by_hand, "hilum": ours}[who]()
seconds = time.perf_counter() - begin
print(seconds, kilobytes("VmHWM") - before, float(net.layer4[2].conv3.weight.double().sum()))
"""


def files(folder: Path) -> dict[str, Path]:
    """The checkpoints, by what they are."""
    torch.manual_seed(0)
    net, twin = torchvision.models.resnet50(), torchvision.models.resnet50()
    moco = {f"module.encoder_q.{n}": t for n, t in net.state_dict().items() if not n.startswith("fc.")}
    moco |= {f"module.encoder_k.{n}": t for n, t in twin.state_dict().items() if not n.startswith("fc.")}
    moco |= {"module.encoder_q.fc.2.weight": torch.randn(128, 2048), "module.queue": torch.randn(128, 24576)}
    content = {"epoch": 20, "arch": "resnet50", "state_dict": moco, "optimizer": {"state": {}}}
    out = {name: folder / f"{number}.pth" for number, name in enumerate(("zip", "legacy", "flat"))}
    torch.save(content, out["zip"])
    torch.save(content, out["legacy"], _use_new_zipfile_serialization=False)
    torch.save(net.state_dict(), out["flat"])
    return out


def main() -> None:
    """Both ways of loading in turn, for each file."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder)).items():
            size = path.stat().st_size / 1e6
            found: dict[str, list[list[float]]] = {"by hand": [], "hilum": []}
            for _ in range(ROUNDS):
                for who, rounds in found.items():
                    words = [sys.executable, "-c", CHILD, who, str(path)]
                    done = subprocess.run(words, capture_output=True, text=True, check=True)
                    rounds.append([float(word) for word in done.stdout.split()])
            assert len({one[2] for rounds in found.values() for one in rounds}) == 1, "other weights"
            medians = {
                who: [statistics.median(column) for column in zip(*rounds, strict=True)]
                for who, rounds in found.items()
            }
            for who, (seconds, more, _) in medians.items():
                times = more * 1.024 / 1e3 / size
                sys.stdout.write(
                    f"{name:6} {size:4.0f} MB, {who:7} {seconds:.2f} s, {times:.2f} times the file's size\n"
                )
            ours, theirs = medians["hilum"], medians["by hand"]
            sys.stdout.write(
                f"{name:6} ratio: by hand takes {theirs[0] / ours[0]:.2f} of hilum's time and "
                f"{theirs[1] / ours[1]:.2f} of its memory; the bar of memory is {BAR:g} times the file\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
