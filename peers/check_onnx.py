"""Exported ONNX files, held to ONNX's checker, to ONNX Runtime and to OpenVINO.

    cargo xtask peers-check onnx
    python peers/check_onnx.py --polynet target/release/polynet --only small-polynet resnet-50

Every preset with random weights, at a small input: the checker and strict shape inference take the file, and
both runtimes' logits lie within `LIMIT` of the largest of ours. One preset of each family is also written
with batch norm kept, with preprocessing in both orders of bytes, and run at another size and batch.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino

import random_model

LIMIT = 1e-5
# The first size that a network allows is taken.
SIZES = [32, 64, 107]
THREADS = 2


def presets(polynet):
    return [preset["name"] for preset in json.loads(random_model.run(polynet, "list", "--json"))]


def smallest(polynet, preset):
    """The smallest of the sizes that a preset's network allows, and a larger one."""
    for size in SIZES if preset.startswith("small") else SIZES[1:]:
        try:
            random_model.graph_of(polynet, f"{preset}; input = {size}")
        except RuntimeError:
            continue
        return size, size + 22
    raise RuntimeError(f"{preset}: no size of {SIZES} is large enough")


def check(path, config):
    """The file by ONNX's own rules, and what it says of itself."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    axes = lambda value: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
    (image,), (logits,) = model.graph.input, model.graph.output
    assert sorted(map(str, axes(image))) == ["3", "batch", "height", "width"], axes(image)
    assert axes(logits) == ["batch", len(config["classes"])], axes(logits)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["architecture"] == config["architecture"]
    assert json.loads(said["classes"]) == config["classes"]
    assert json.loads(said["preprocessing"]) == config["preprocessing"]


def onnx_runtime(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def open_vino(path, images):
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS}
    return openvino.compile_model(str(path), "CPU", hints)({"images": images})["logits"]


RUNTIMES = {"ONNX Runtime": onnx_runtime, "OpenVINO": open_vino}


class Preset:
    """A preset's model at one size."""

    def __init__(self, polynet, name, folder, size):
        self.polynet, self.name, self.size = polynet, name, size
        self.folder = folder / f"{name}-{size}"
        random_model.make(polynet, f"{name}; input = {size}", self.folder)
        self.config = json.loads((self.folder / "config.json").read_text())
        self.errors = {runtime: 0.0 for runtime in RUNTIMES}

    def export(self, *options):
        path = self.folder / "model.onnx"
        random_model.run(self.polynet, "export", self.folder, "--onnx", path, *options)
        check(path, self.config)
        return path

    def compare(self, path, images, expected):
        for runtime, run in RUNTIMES.items():
            found = run(path, images)
            assert found.shape == expected.shape, (runtime, found.shape)
            error = float(np.abs(found - expected).max() / np.abs(expected).max())
            assert np.isfinite(error), f"{self.name}, {runtime}: {error}"
            self.errors[runtime] = max(self.errors[runtime], error)

    def logits(self, images):
        return random_model.logits(self.polynet, self.folder, images)

    def check_prediction(self, generator):
        images = prepared(generator, 2, self.size)
        self.compare(self.export(), images, self.logits(images))

    def check_variants(self, generator, larger):
        """Batch norm kept, bytes in both orders, and the same file at the size of `larger`."""
        images = prepared(generator, 3, larger.size)
        self.compare(self.export(), images, larger.logits(images))
        images = prepared(generator, 1, self.size)
        self.compare(self.export("--batch-norm", "kept"), images, self.logits(images))
        pixels = generator.integers(0, 256, [2, self.size, self.size, 3], dtype=np.uint8)
        mean, deviation = (np.float32(self.config["preprocessing"][key]) for key in ("mean", "std"))
        images = ((pixels.astype(np.float32) / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
        expected = self.logits(images)
        self.compare(self.export("--with-preprocessing"), pixels, expected)
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        self.compare(self.export("--with-preprocessing=nchw", "--batch-norm", "kept"), planes, expected)


def prepared(generator, batch, size):
    return generator.random([batch, 3, size, size], dtype=np.float32) * 4 - 2


def main():
    parser = argparse.ArgumentParser(description="Exported ONNX files by ONNX Runtime and OpenVINO.")
    parser.add_argument("--polynet", required=True, help="the program")
    parser.add_argument("--only", nargs="+", help="these presets alone")
    arguments = parser.parse_args()
    polynet, generator = arguments.polynet, np.random.default_rng(7)
    families, failed = set(), []
    for name in arguments.only or presets(polynet):
        with tempfile.TemporaryDirectory() as folder:
            size, larger = smallest(polynet, name)
            preset = Preset(polynet, name, Path(folder), size)
            preset.check_prediction(generator)
            family = preset.config["architecture"].split("family = ")[1].split(";")[0]
            if family not in families:
                families.add(family)
                preset.check_variants(generator, Preset(polynet, name, Path(folder), larger))
        errors = ", ".join(f"{runtime} {error:.1e}" for runtime, error in preset.errors.items())
        print(f"{name} at {size}: {errors}", flush=True)
        if max(preset.errors.values()) > LIMIT:
            failed.append(name)
    if failed:
        sys.exit(f"further than {LIMIT:.0e} of the largest logit from ours: {', '.join(failed)}")


if __name__ == "__main__":
    main()
