"""Photographs to training inputs: `polynet bench data` beside PIL and torchvision, alternating, one thread each.

    cargo build --release
    .venv/bin/python peers/bench_data.py --images imagenet-samples.tar --polynet target/release/polynet

`--images` is a folder or a .tar. Files are read into memory first, by both. Three works are timed:

- `crop`: PIL decodes, torchvision's RandomResizedCrop(size) crops and resizes (bilinear, antialiased).
- `input`: that, a flip with chance 0.5, and a normalized float tensor.
- `polynet`: all of `input` (the crops are drawn alike, not the same).

A round is one pass of each over all images. Prints JSON; ratios are of medians over the rounds.
"""

import argparse
import io
import json
import statistics
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms


def unpacked(images: Path, into: str) -> Path:
    if images.is_dir():
        return images
    with tarfile.open(images) as archive:
        archive.extractall(into, filter="data")
    return Path(into)


def milliseconds(work, photographs) -> float:
    start = time.perf_counter()
    for photograph in photographs:
        work(Image.open(io.BytesIO(photograph)).convert("RGB"))
    return 1e3 * (time.perf_counter() - start) / len(photographs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--polynet", type=Path, default=Path("target/release/polynet"))
    parser.add_argument("--size", type=int, default=331)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    crop = transforms.RandomResizedCrop(arguments.size)
    to_input = transforms.Compose([
        crop,
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])
    times = {"crop": [], "input": [], "polynet": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked(arguments.images, scratch)
        names = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        photographs = [name.read_bytes() for name in names]
        milliseconds(to_input, photographs)  # warm-up
        for number in range(arguments.rounds):
            command = [arguments.polynet, "bench", "data", folder, "--json", "--repeat", "1"]
            command += ["--size", str(arguments.size), "--seed", str(number)]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            assert result["images"] == len(photographs), "both must see the same files"
            times["polynet"].append(result["median_ms_per_image"])
            times["crop"].append(milliseconds(crop, photographs))
            times["input"].append(milliseconds(to_input, photographs))

    medians = {name: statistics.median(values) for name, values in times.items()}
    print(json.dumps({
        "images": len(photographs),
        "rounds": arguments.rounds,
        "size": arguments.size,
        "pillow": PIL.__version__,
        "torchvision": torchvision.__version__,
        "median_ms_per_image": medians,
        "spread_ms": {name: [min(values), max(values)] for name, values in times.items()},
        "images_per_s": {name: 1e3 / value for name, value in medians.items()},
        "polynet_against_crop": medians["crop"] / medians["polynet"],
        "polynet_against_input": medians["input"] / medians["polynet"],
    }, indent=2))


if __name__ == "__main__":
    main()
