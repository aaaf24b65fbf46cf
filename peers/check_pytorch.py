"""Exported state dicts, loaded by the public implementations whose names they have.

    cargo xtask peers-check pytorch
    python peers/check_pytorch.py --polynet target/release/polynet --only resnet-50

Each network gets random weights, is exported as `.pth` and as `.safetensors`, read by
`torch.load(weights_only=True)` and safetensors, loaded by `load_state_dict(strict=True)`, and must give our
logits within `LIMIT` of the largest; the reference computes in float64.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import load_file

import fixtures_networks as networks
import fixtures_polynet as port
import random_model

LIMIT = 1e-5


def pretrained(file, name, pool=None):
    """A network of pretrainedmodels; `pool`, its last one, is for one size of map alone and has no tensor."""

    def build():
        model = getattr(port.port_module(file), name)(num_classes=1000)
        if pool:
            setattr(model, pool, torch.nn.AdaptiveAvgPool2d(1))
        return model

    return build


def in_timm(name):
    return lambda: timm.create_model(name, pretrained=False)


# preset, library, constructor, size of the input
NETWORKS = [
    ("very-deep-polynet", "cadene", pretrained("polynet", "PolyNet", "avg_pool"), 139),
    ("inception-v4", "cadene", pretrained("inceptionv4", "InceptionV4", "avg_pool"), 139),
    ("inception-v4", "timm", in_timm("inception_v4"), 139),
    ("inception-resnet-v2", "cadene", pretrained("inceptionresnetv2", "InceptionResNetV2", "avgpool_1a"), 139),
    ("inception-resnet-v2", "timm", in_timm("inception_resnet_v2"), 139),
    *((f"resnet-{depth}", "timm", in_timm(f"resnetv2_{depth}"), 64) for depth in (50, 101, 152)),
    *(
        (f"resnet-{depth}", "timm", lambda depth=depth: networks.pre_activation(networks.UNITS[depth]), 64)
        for depth in (200, 269, 500)
    ),
    *(
        (f"resnet-v1-{depth}", "torchvision", getattr(torchvision.models, f"resnet{depth}"), 64)
        for depth in (50, 101, 152)
    ),
    *((f"resnet-v1-{depth}", "timm", in_timm(f"resnet{depth}"), 64) for depth in (50, 101, 152)),
]


def check(polynet, folder, preset, library, build, size):
    """The relative error of the logits."""
    random_model.make(polynet, f"{preset}; input = {size}", folder)
    images = np.random.default_rng(7).random([1, 3, size, size], dtype=np.float32) * 4 - 2
    ours = random_model.logits(polynet, folder, images)
    states = []
    for ending in ("pth", "safetensors"):
        path = folder / f"weights.{ending}"
        random_model.run(polynet, "export", folder, "--pytorch", path, "--names", library)
        states.append(torch.load(path, weights_only=True) if ending == "pth" else load_file(path))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    model = build()
    model.load_state_dict(states[0], strict=True)
    with torch.no_grad():
        theirs = model.double().eval()(torch.from_numpy(images).double()).numpy()
    return float(np.abs(theirs - ours).max() / np.abs(theirs).max())


def main():
    parser = argparse.ArgumentParser(description="Exported state dicts in public implementations.")
    parser.add_argument("--polynet", required=True, help="the program")
    parser.add_argument("--only", nargs="+", help="these presets alone")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    failed = []
    for preset, library, build, size in NETWORKS:
        if arguments.only and preset not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            error = check(arguments.polynet, Path(folder) / "model", preset, library, build, size)
        print(f"{preset} in {library}'s names: loaded strictly, logits within {error:.1e}", flush=True)
        if not error <= LIMIT:
            failed.append(f"{preset} ({library})")
    if failed:
        sys.exit(f"further than {LIMIT:.0e} of the largest logit: {', '.join(failed)}")


if __name__ == "__main__":
    main()
