"""The 288 crops of two small pictures by Pillow, as straightforwardly as can be.

The pictures are drawn by a formula that the test draws too. Each is resized so that its shorter side
has the scale (the longer one rounded down), its three squares are cut out, and of each square the four
corners, the centre, and the whole square resized; each as it is and mirrored. The file holds the bytes
of all crops, picture by picture, `[288, 14, 14, 3]` each.

    python peers/fixtures_crops.py --out crates/polynet/src/eval/fixtures
"""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

INPUT = 14
SIZES = [(61, 40), (33, 57)]
SCALES_224 = [256, 272, 288, 304, 320, 336, 352, 368]


def picture(width, height):
    pixels = bytes(
        (x * (5 + c) + y * (3 - c) + (x * y) // 4 + 40 * c) % 256
        for y in range(height)
        for x in range(width)
        for c in range(3)
    )
    return Image.frombytes("RGB", (width, height), pixels)


def crops(image):
    for reference in SCALES_224:
        scale = round(reference * INPUT / 224)
        shorter = min(image.size)
        width, height = (scale * side // shorter for side in image.size)
        resized = image.resize((width, height), Image.BILINEAR)
        for place in (lambda n: 0, lambda n: round((n - scale) / 2), lambda n: n - scale):
            left, top = place(width), place(height)
            square = resized.crop((left, top, left + scale, top + scale))
            rest, middle = scale - INPUT, round((scale - INPUT) / 2)
            corners = [(0, 0), (rest, 0), (0, rest), (rest, rest), (middle, middle)]
            parts = [square.crop((x, y, x + INPUT, y + INPUT)) for x, y in corners]
            for part in [*parts, square.resize((INPUT, INPUT), Image.BILINEAR)]:
                yield part
                yield ImageOps.mirror(part)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    data = b"".join(crop.tobytes() for size in SIZES for crop in crops(picture(*size)))
    assert len(data) == len(SIZES) * 288 * INPUT * INPUT * 3
    (out / "crops_pil.rgb").write_bytes(data)


if __name__ == "__main__":
    main()
