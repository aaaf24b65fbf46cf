"""Small images of many kinds, and what Pillow makes of them.

    .venv/bin/python peers/fixtures_images.py --out crates/polynet/src/data/fixtures/images

`NAME.jpg` or `NAME.png` is the image, `NAME.expected.png` its RGB pixels by Pillow, upright. `photo.jpg` is
larger; `photo.LEFT-TOP-WIDTH-HEIGHT-SIZE.png` are regions of it, resized by Pillow (bilinear, antialiased).
The pictures are noise with the spectrum of photographs, drawn from a seed.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

REGIONS = [
    (0, 0, 320, 240, 64),
    (31, 17, 200, 150, 48),
    (100.5, 60.25, 99.75, 77.5, 96),
    (40, 20, 270, 210, 32),
    (0, 0, 320, 240, 24),
    (8, 4, 300, 230, 9),
]


def picture(width: int, height: int, seed: int, channels: int = 3) -> np.ndarray:
    """Noise whose amplitude falls with frequency, [height, width, channels] in 0…1."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    shared = rng.standard_normal((height, width))
    planes = []
    for _ in range(channels):
        noise = 0.8 * shared + 0.4 * rng.standard_normal((height, width))
        plane = np.fft.irfft2(np.fft.rfft2(noise) / frequency**1.2, s=(height, width))
        planes.append(0.5 + 0.22 * (plane - plane.mean()) / plane.std())
    return np.clip(np.stack(planes, axis=-1), 0, 1)


def as_bytes(values: np.ndarray) -> np.ndarray:
    return np.round(255 * values).astype(np.uint8)


def jpeg(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def png(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def ycck(image: Image.Image) -> bytes:
    """The channels of a CMYK file, said to be YCCK in Adobe's marker."""
    data = bytearray(jpeg(image, quality=90))
    transform = data.index(b"Adobe") + 11
    assert data[transform] in (0, 2)
    data[transform] = 2
    return bytes(data)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def kinds() -> dict[str, bytes]:
    colour = Image.fromarray(as_bytes(picture(75, 53, 1)))
    grey = Image.fromarray(as_bytes(picture(75, 53, 2, 1))[:, :, 0])
    cmyk = Image.fromarray(as_bytes(picture(75, 53, 3, 4)), mode="CMYK")
    deep = np.round(65535 * picture(75, 53, 4)).astype(">u2")
    alpha = Image.fromarray(np.concatenate([np.asarray(colour), np.asarray(grey)[:, :, None]], axis=-1))
    files = {
        "444.jpg": jpeg(colour, quality=95, subsampling=0),
        "422.jpg": jpeg(colour, quality=85, subsampling=1),
        "420.jpg": jpeg(colour, quality=75, subsampling=2),
        "coarse.jpg": jpeg(colour, quality=10, subsampling=2),
        "finest.jpg": jpeg(colour, quality=100, subsampling=0, optimize=True),
        "restarts.jpg": jpeg(colour, quality=85, subsampling=2, restart_marker_blocks=2),
        "progressive.jpg": jpeg(colour, quality=85, progressive=True),
        "grey.jpg": jpeg(grey, quality=85),
        "cmyk.jpg": jpeg(cmyk, quality=90),
        "ycck.jpg": ycck(cmyk),
        "rgb.jpg": jpeg(colour, quality=85, keep_rgb=True),
        "grey.png": png(grey),
        "palette.png": png(colour.quantize(60)),
        "alpha.png": png(alpha),
        "animated.png": png(colour, save_all=True, append_images=[grey.convert("RGB")], duration=100),
    }
    for orientation in range(2, 9):
        files[f"turned-{orientation}.jpg"] = jpeg(colour, quality=85, exif=exif(orientation))
    files["deep.png"] = deep_png(deep)
    return files


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit RGB PNG, which Pillow reads but doesn't write."""
    import struct
    import zlib

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, content in kinds().items():
        (out / name).write_bytes(content)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        (out / f"{name}.expected.png").write_bytes(png(image.convert("RGB"), optimize=True))
        if name.endswith(".jpg"):  # Pillow refuses truncated files; so do we
            for cut in (len(content) - 2, len(content) // 2):
                try:
                    Image.open(io.BytesIO(content[:cut])).load()
                except OSError:
                    continue
                print(f"{name}: Pillow reads its first {cut} of {len(content)} bytes")
    photo = jpeg(Image.fromarray(as_bytes(picture(320, 240, 5))), quality=90)
    (out / "photo.jpg").write_bytes(photo)
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    for left, top, width, height, size in REGIONS:
        box = (left, top, left + width, top + height)
        resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        name = f"photo.{left}-{top}-{width}-{height}-{size}.png"
        (out / name).write_bytes(png(resized, optimize=True))


if __name__ == "__main__":
    main()
