"""JPEGs of every combination of sampling, scans, restarts and colours, and what Pillow makes of them.

    .venv/bin/python peers/fixtures_jpeg.py --out crates/polynet/src/data/fixtures/jpeg.bin

The file is a list of pictures: a byte with the length of the name, the name, 8 bytes with the FNV-1a hash of the RGB
pixels by Pillow (rows from the top), width, height and length of the JPEG in 2 bytes each (all little-endian), the
JPEG. Programs write few of the combinations, so that the coefficients, drawn from the picture's name, are coded here.
`--random N --folder DIR` writes N more, drawn at random, as files beside their pixels.
"""

import argparse
import io
import random
import struct
from pathlib import Path

from PIL import Image

SAMPLINGS = {
    1: ["1x1", "2x2"],
    3: [
        "1x1-1x1-1x1", "2x1-1x1-1x1", "1x2-1x1-1x1", "2x2-1x1-1x1", "2x2-2x1-2x1", "2x2-1x2-1x2", "4x1-1x1-1x1",
        "1x4-1x1-1x1", "4x2-1x1-1x1", "2x4-1x1-1x1", "4x1-2x1-2x1", "3x1-1x1-1x1", "1x1-2x1-2x1", "1x1-1x2-1x2",
        "1x1-2x2-2x2", "2x1-1x2-1x1", "2x2-1x1-2x1", "1x2-2x1-1x1",
        "2x1-2x1-1x1", "2x2-2x2-1x1", "4x4-1x1-1x1", "1x1-1x1-2x2",
    ],
    4: ["1x1-1x1-1x1-1x1", "2x2-1x1-1x1-2x2", "2x1-1x1-1x1-2x1", "1x1-2x2-1x1-1x2"],
}
COLOURS = {1: ["grey"], 3: ["ycc", "ycc-without-jfif", "rgb-by-adobe", "rgb-by-names"], 4: ["cmyk", "cmyk-adobe", "ycck"]}
SCANS = {
    1: ["together", "progressive"],
    3: ["together", "each", "first-rest", "rest-last", "progressive", "progressive-each"],
    4: ["together", "each", "first-rest", "progressive"],
}


class Bits:
    """Bits of a scan, with stuffed zeros and restart markers."""

    def __init__(self):
        self.out, self.buffer, self.count = bytearray(), 0, 0

    def put(self, value, count):
        self.buffer = (self.buffer << count) | (value & ((1 << count) - 1))
        self.count += count
        while self.count >= 8:
            self.count -= 8
            byte = (self.buffer >> self.count) & 0xFF
            self.out += bytes([byte, 0]) if byte == 0xFF else bytes([byte])
        self.buffer &= (1 << self.count) - 1

    def align(self):
        if self.count:
            self.put(0xFF, 8 - self.count)


def segment(code, body):
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + bytes(body)


def size_of(value):
    return abs(value).bit_length()


def put_value(bits, value, size):
    bits.put(value if value >= 0 else value + (1 << size) - 1, size)


def table_of(symbols):
    """A code for these symbols: as short as may be for the first ones; all ones stay free."""
    symbols = sorted(set(symbols)) or [0]
    length = max(1, len(symbols).bit_length())
    counts = [0] * 16
    counts[length - 1] = len(symbols)
    return counts, symbols, {symbol: (code, length) for code, symbol in enumerate(symbols)}


def groups(scans, n):
    """The components of the scans that are not of one component anyway."""
    return {
        "together": [range(n)],
        "each": [[i] for i in range(n)],
        "first-rest": [[0], range(1, n)],
        "rest-last": [range(n - 1), [n - 1]],
        "progressive": [range(n)],
        "progressive-each": [[i] for i in range(n)],
    }[scans]


class Picture:
    def __init__(self, name, width, height, sampling, colours, scans, restart):
        self.rng = random.Random(name)
        self.width, self.height, self.colours, self.restart = width, height, colours, restart
        self.factors = [tuple(int(n) for n in part.split("x")) for part in sampling.split("-")]
        self.most = tuple(max(f[i] for f in self.factors) for i in (0, 1))
        if len(self.factors) == 1:
            self.most = self.factors[0]
        n = len(self.factors)
        self.progressive = scans.startswith("progressive")
        self.groups = groups(scans, n)
        self.mcus = tuple(-(-size // (8 * most)) for size, most in zip((width, height), self.most))
        self.steps = [[self.rng.randint(1, 12) for _ in range(64)] for _ in range(2)]
        self.blocks = [self.coefficients(h * self.mcus[0], v * self.mcus[1], i) for i, (h, v) in enumerate(self.factors)]

    def coefficients(self, columns, rows, index):
        """[rows][columns][64], in zigzag order: fewer and smaller towards high frequencies."""
        rng, steps = self.rng, self.steps[min(index, 1)]

        def block():
            values = [round(rng.uniform(-700, 700) / steps[0])] + [0] * 63
            for k in range(1, 64):
                if rng.random() < 4 / (3 + k):
                    values[k] = round(rng.gauss(0, 160 / (1 + k / 3)) / steps[k])
            return values

        return [[block() for _ in range(columns)] for _ in range(rows)]

    def size_in_blocks(self, index):
        h, v = self.factors[index]
        return -(-self.width * h // (8 * self.most[0])), -(-self.height * v // (8 * self.most[1]))

    def mcus_of(self, group):
        """For each MCU the blocks of (component, block)."""
        group = list(group)
        if len(group) == 1:
            columns, rows = self.size_in_blocks(group[0])
            return [[(group[0], self.blocks[group[0]][y][x])] for y in range(rows) for x in range(columns)]
        mcus = []
        for my in range(self.mcus[1]):
            for mx in range(self.mcus[0]):
                mcus.append([
                    (i, self.blocks[i][my * v + y][mx * h + x])
                    for i in group for h, v in [self.factors[i]] for y in range(v) for x in range(h)
                ])
        return mcus

    # Each coder appends (symbol class, symbol, value, size) or ("bits", value, size) to a list for each MCU.
    def sequential(self, mcu, state):
        for component, block in mcu:
            difference = block[0] - state.setdefault(component, 0)
            state[component] = block[0]
            yield ("dc", size_of(difference), difference)
            run = 0
            last = max([k for k in range(1, 64) if block[k]], default=0)
            for k in range(1, last + 1):
                if block[k] == 0:
                    run += 1
                    continue
                while run > 15:
                    yield ("ac", 0xF0, 0)
                    run -= 16
                yield ("ac", run << 4 | size_of(block[k]), block[k])
                run = 0
            if last < 63:
                yield ("ac", 0, 0)

    def dc_first(self, mcu, state, low):
        for component, block in mcu:
            value = block[0] >> low
            difference = value - state.setdefault(component, 0)
            state[component] = value
            yield ("dc", size_of(difference), difference)

    def dc_refine(self, mcu, low):
        for _, block in mcu:
            yield ("bits", block[0] >> low & 1, 1)

    @staticmethod
    def flush(state):
        run, state["run"] = state.get("run", 0), 0
        if run:
            exponent = run.bit_length() - 1
            yield ("ac", exponent << 4, 0)
            yield ("bits", run - (1 << exponent), exponent)
        for bit in state.pop("pending", []):
            yield ("bits", bit, 1)

    def ac_first(self, mcu, state, first, last, low):
        (_, block), = mcu
        values = {k: (abs(block[k]) >> low) * (1 if block[k] > 0 else -1) for k in range(first, last + 1)}
        run = 0
        for k in range(first, last + 1):
            if values[k] == 0:
                run += 1
                continue
            yield from self.flush(state)
            while run > 15:
                yield ("ac", 0xF0, 0)
                run -= 16
            yield ("ac", run << 4 | size_of(values[k]), values[k])
            run = 0
        if run:
            state["run"] = state.get("run", 0) + 1
            if state["run"] == 0x7FFF:
                yield from self.flush(state)

    def ac_refine(self, mcu, state, first, last, low):
        (_, block), = mcu
        now = {k: abs(block[k]) >> low for k in range(first, last + 1)}
        newest = max([k for k in now if now[k] == 1], default=first - 1)
        run, corrections = 0, []
        for k in range(first, last + 1):
            if now[k] == 0:
                run += 1
                continue
            while run > 15 and k <= newest:
                yield from self.flush(state)
                yield ("ac", 0xF0, 0)
                yield from (("bits", bit, 1) for bit in corrections)
                run, corrections = run - 16, []
            if now[k] > 1:
                corrections.append(now[k] & 1)
                continue
            yield from self.flush(state)
            yield ("ac", run << 4 | 1, 0)
            yield ("bits", int(block[k] > 0), 1)
            yield from (("bits", bit, 1) for bit in corrections)
            run, corrections = 0, []
        if run or corrections:
            state["run"] = state.get("run", 0) + 1
            state.setdefault("pending", []).extend(corrections)
            if state["run"] == 0x7FFF or len(state["pending"]) > 900:
                yield from self.flush(state)

    def scan(self, group, first, last, high, low):
        group = list(group)
        state, items = {}, []
        for number, mcu in enumerate(self.mcus_of(group)):
            if self.restart and number and number % self.restart == 0:
                items += self.flush(state)
                items.append(("restart", (number // self.restart - 1) % 8))
                state = {}
            if not self.progressive:
                items += self.sequential(mcu, state)
            elif first == 0:
                items += self.dc_refine(mcu, low) if high else self.dc_first(mcu, state, low)
            elif high:
                items += self.ac_refine(mcu, state, first, last, low)
            else:
                items += self.ac_first(mcu, state, first, last, low)
        items += self.flush(state)
        tables, out = {}, b""
        for number, kind in enumerate(["dc", "ac"]):
            symbols = [item[1] for item in items if item[0] == kind]
            if symbols:
                counts, symbols, tables[kind] = table_of(symbols)
                out += segment(0xC4, [number << 4, *counts, *symbols])
        ids = self.ids()
        chosen = [byte for i in group for byte in (ids[i], 0)]
        out += segment(0xDA, [len(group), *chosen, first, last, high << 4 | low])
        bits = Bits()
        for kind, *item in items:
            if kind == "restart":
                bits.align()
                bits.out += bytes([0xFF, 0xD0 + item[0]])
            elif kind == "bits":
                bits.put(item[0], item[1])
            else:
                bits.put(*tables[kind][item[0]])
                size = item[0] & 15
                if size and item[1]:
                    put_value(bits, item[1], size)
        bits.align()
        return out + bytes(bits.out)

    def ids(self):
        return {"rgb-by-names": b"RGB"}.get(self.colours, bytes(range(1, len(self.factors) + 1)))

    def jpeg(self):
        out = b"\xFF\xD8"
        if self.colours in ("ycc", "grey"):
            out += segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
        transform = {"rgb-by-adobe": 0, "cmyk-adobe": 0, "ycck": 2}.get(self.colours)
        if transform is not None:
            out += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
        for number, steps in enumerate(self.steps[: min(2, len(self.factors))]):
            out += segment(0xDB, [number, *steps])
        parts = [
            byte for i, (h, v) in enumerate(self.factors) for byte in (self.ids()[i], h << 4 | v, min(i, 1))
        ]
        size = struct.pack(">BHHB", 8, self.height, self.width, len(self.factors))
        out += segment(0xC2 if self.progressive else 0xC0, size + bytes(parts))
        if self.restart:
            out += segment(0xDD, struct.pack(">H", self.restart))
        if not self.progressive:
            return out + b"".join(self.scan(group, 0, 63, 0, 0) for group in self.groups) + b"\xFF\xD9"
        out += b"".join(self.scan(group, 0, 0, 0, 1) for group in self.groups)
        for i in range(len(self.factors)):
            out += self.scan([i], 1, 5, 0, 2)
            out += self.scan([i], 6, 63, 0, 2)
        for i in range(len(self.factors)):
            out += self.scan([i], 1, 63, 2, 1)
        out += b"".join(self.scan(group, 0, 0, 1, 0) for group in self.groups)
        return out + b"".join(self.scan([i], 1, 63, 1, 0) for i in range(len(self.factors))) + b"\xFF\xD9"


def combinations():
    sizes = [(24, 20), (17, 9), (5, 6), (33, 15), (3, 19), (16, 16)]
    number = 0
    for channels in (3, 1, 4):
        for s, sampling in enumerate(SAMPLINGS[channels]):
            blocks = [int(part[0]) * int(part[2]) for part in sampling.split("-")]
            for k, scans in enumerate(SCANS[channels]):
                if any(sum(blocks[i] for i in group) > 10 for group in groups(scans, channels) if len(group) > 1):
                    continue  # more than an MCU may have
                restart, colour = [0, 1, 3][number % 3], COLOURS[channels][(s + k) % len(COLOURS[channels])]
                width, height = sizes[number % len(sizes)]
                number += 1
                name = f"{sampling} {colour} {scans} restart {restart} {width}x{height}"
                yield name, (width, height, sampling, colour, scans, restart)


def random_combination(rng):
    channels = rng.choice([1, 3, 3, 3, 4])
    sampling = rng.choice([s for s in SAMPLINGS[channels] if s != "4x4-1x1-1x1"])
    restart, size = rng.choice([0, 1, 2, 5]), (rng.randint(1, 60), rng.randint(1, 60))
    return (*size, sampling, rng.choice(COLOURS[channels]), rng.choice(SCANS[channels]), restart)


def pixels(jpeg):
    return Image.open(io.BytesIO(jpeg)).convert("RGB").tobytes()


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.out:
        with arguments.out.open("wb") as out:
            for name, settings in combinations():
                jpeg = Picture(name, *settings).jpeg()
                out.write(bytes([len(name)]) + name.encode() + struct.pack("<Q", fnv1a(pixels(jpeg))))
                out.write(struct.pack("<HHH", *settings[:2], len(jpeg)) + jpeg)
    rng = random.Random(1)
    for number in range(arguments.random):
        jpeg = Picture(str(number), *random_combination(rng)).jpeg()
        (arguments.folder / f"{number:05}.jpg").write_bytes(jpeg)
        (arguments.folder / f"{number:05}.rgb").write_bytes(pixels(jpeg))


if __name__ == "__main__":
    main()
