"""What Schemathesis sends as pictures: real ones, besides the bytes that it makes up to be refused."""

import io

import schemathesis
from hypothesis import strategies
from PIL import Image

KINDS = {"image/png": "PNG", "image/jpeg": "JPEG", "application/octet-stream": "PNG"}


def picture(kind):
    def encode(colour, width, height):
        file = io.BytesIO()
        Image.new("RGB", (width, height), colour).save(file, kind)
        return file.getvalue()

    colours = strategies.tuples(*[strategies.integers(0, 255)] * 3)
    sizes = strategies.integers(1, 40)
    return strategies.builds(encode, colours, sizes, sizes)


for media_type, kind in KINDS.items():
    schemathesis.openapi.media_type(media_type, picture(kind))
