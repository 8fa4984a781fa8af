"""What it saves on a CPU to use freed memory again: forward and backward, as torch comes, and as in `fit`.

    python benchmarks/freed_memory.py

Each is a child process of one thread: ResNet-18, 128 films of 128 px, bfloat16. CPU seconds per step, so that
other programs matter little; page faults say where they go.
"""

import statistics
import subprocess
import sys

STEPS, ROUNDS = 8, 3
CHILD = f"""
import resource, sys, timm, torch
torch.set_num_threads(1)
if sys.argv[1] == "fit":
    from hilum.train.device import choose_device
    choose_device("cpu")
model = timm.create_model("resnet18", in_chans=1, num_classes=0).to(memory_format=torch.channels_last)
films = torch.rand(128, 1, 128, 128).to(memory_format=torch.channels_last)
for step in range({STEPS + 3}):
    if step == 3:
        before = resource.getrusage(resource.RUSAGE_SELF)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(films).float().square().mean()
    loss.backward()
    model.zero_grad(set_to_none=True)
after = resource.getrusage(resource.RUSAGE_SELF)
spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(spent / {STEPS}, (after.ru_minflt - before.ru_minflt) / {STEPS}, after.ru_maxrss / 1024)
"""


def main() -> None:
    """The two in turn."""
    found: dict[str, list[list[float]]] = {"torch": [], "fit": []}
    for _ in range(ROUNDS):
        for name, rounds in found.items():
            words = [sys.executable, "-c", CHILD, name]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            rounds.append([float(word) for word in done.stdout.split()])
    medians = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for name, rounds in found.items()
    }
    for name, (seconds, faults, peak) in medians.items():
        told = f"{seconds:.3f} CPU s per step, {faults:,.0f} page faults, peak {peak:,.0f} MiB"
        sys.stdout.write(f"{name:6} {told}\n")
    sys.stdout.write(f"ratio {medians['torch'][0] / medians['fit'][0]:.2f}\n")


if __name__ == "__main__":
    main()
