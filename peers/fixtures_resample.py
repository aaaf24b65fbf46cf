"""Pictures resized by Pillow: any sizes, parts and filters, as hashes.

    .venv/bin/python peers/fixtures_resample.py --out crates/polynet/src/data/fixtures/resample.txt

A line is a case: filter, width and height of the picture, left, top, width and height of the part, width and height
of the result, and the FNV-1a hash of its RGB bytes. The picture is drawn by a formula that the test draws too. The
part's numbers are those that Pillow computes with, 32-bit floats.

Rows are resampled before columns. Pillow 13 does so unless a picture's height shrinks by more than twice as many
pixels as its width; there it is called for each direction by itself. (Up to version 12 it begins with the columns of
pictures that are more than 100 times as high as wide.)
"""

import argparse
import random
import struct
from pathlib import Path

from PIL import Image

from fixtures_jpeg import fnv1a

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CASES = 400
# The longest side of a picture and of a result.
SIZES = [(12, 20), (60, 30), (200, 12), (40, 80)]
# Pictures of one row or column, a result of one pixel, steps that no binary fraction has, parts of a pixel.
SPECIAL = [
    ((1, 10000), None, (7, 9)),
    ((10000, 1), None, (9, 7)),
    ((1, 1), None, (5, 3)),
    ((2, 3000), (0.25, 10.1, 1.75, 2987.3), (4, 33)),
    ((90, 70), None, (1, 1)),
    ((90, 70), None, (90, 70)),
    ((90, 70), None, (90, 35)),
    ((90, 70), None, (30, 70)),
    ((90, 70), (10, 20, 40, 60), (30, 40)),
    ((31, 17), (0, 0, 31, 17), (331, 3)),
    ((31, 17), (30.2, 16.1, 30.9, 16.3), (8, 8)),
]


def single(value):
    """The nearest 32-bit float."""
    return struct.unpack("f", struct.pack("f", value))[0]


def picture(width, height):
    pixels = bytes(
        (x * 37 + y * 91 + c * 53 + x * y * 11) % 256 for y in range(height) for x in range(width) for c in range(3)
    )
    return Image.frombytes("RGB", (width, height), pixels)


def edges(rng, side):
    """Where a part begins and ends: anywhere, at whole pixels, at 1/16 of pixels, or the whole side."""
    kind = rng.randrange(4)
    if kind == 3:
        return 0.0, float(side)
    step = [0, 1, 16][kind]
    while True:
        first, last = sorted(rng.uniform(0, side) for _ in range(2))
        if step:
            first, last = round(first * step) / step, round(last * step) / step
        first, last = single(first), single(last)
        if first < last <= side:
            return first, last


def cases():
    for size, box, result in SPECIAL:
        for name in FILTERS:
            yield name, size, box or (0, 0, *size), result
    rng = random.Random(1)
    for number in range(CASES - len(SPECIAL) * len(FILTERS)):
        largest, longest = SIZES[number % len(SIZES)]
        size = rng.randint(1, largest), rng.randint(1, largest)
        (left, right), (top, bottom) = (edges(rng, side) for side in size)
        result = rng.randint(1, longest), rng.randint(1, longest)
        yield list(FILTERS)[number % len(FILTERS)], size, (left, top, right, bottom), result


def resized(image, result, kind, box):
    (width, height), (to_width, to_height) = image.size, result
    if height - to_height > max(0, 2 * (width - to_width)):
        left, top, right, bottom = box
        image = image.resize((to_width, height), kind, box=(left, 0, right, height))
        box = 0, top, to_width, bottom
    return image.resize(result, kind, box=box)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    lines = []
    for name, size, box, result in cases():
        pixels = resized(picture(*size), result, FILTERS[name], box).tobytes()
        left, top, right, bottom = map(single, box)
        part = left, top, single(right - left), single(bottom - top)
        numbers = " ".join(f"{value:.17g}" for value in (*size, *part, *result))
        lines.append(f"{name} {numbers} {fnv1a(pixels):016x}\n")
    parser.parse_args().out.write_text("".join(lines))


if __name__ == "__main__":
    main()
