"""What threads gain in training, alone on the machine and beside a program that wants a core.

    python benchmarks/threads.py

Each row is a child process that runs forward and backward of a ResNet-18 on 32 images of 128 px for some
seconds. `busy` is a child that only counts. Median images per second over the steps of a child.
"""

import statistics
import subprocess
import sys
import time

CHILD = """
import statistics, sys, time, torch, timm
torch.set_num_threads(int(sys.argv[1]))
model = timm.create_model("resnet18", in_chans=1).to(memory_format=torch.channels_last)
images = torch.randn(32, 1, 128, 128).to(memory_format=torch.channels_last)
seconds, end = [], time.monotonic() + 20
while time.monotonic() < end:
    begin = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images).square().mean()
    loss.backward()
    seconds.append(time.perf_counter() - begin)
print(32 / statistics.median(seconds[2:]))
"""
BUSY = "while True: pass"


def main() -> None:
    for name, busy in (("alone", 0), ("beside one busy program", 1), ("beside two", 2)):
        speeds = {}
        for threads in (1, 2):
            others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
            time.sleep(0.5)
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(threads)], capture_output=True, text=True, check=True
            )
            for other in others:
                other.kill()
                other.wait()
            speeds[threads] = statistics.mean(map(float, done.stdout.split()))
        sys.stdout.write(
            f"{name:26} 1 thread {speeds[1]:6.1f} images/s, 2 threads {speeds[2]:6.1f}, "
            f"ratio {speeds[2] / speeds[1]:.2f}\n"
        )


if __name__ == "__main__":
    main()
