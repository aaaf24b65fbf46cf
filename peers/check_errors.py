"""The rounding errors of our f32 prediction, in every network that has a preset.

Networks have random weights and the statistics of noise; three seeds of weights and images each. What is exact
is PyTorch's result in float64. The error is the largest of a logit, over the largest logit. A deep network with
random weights magnifies whatever is rounded in it, so PyTorch's own error in float32 stands beside ours: ours may
be three times as large, for what transforms round, or below 2e-5.

    cargo xtask peers-check errors
    python peers/check_errors.py --polynet target/release/polynet --only resnet-152 --seeds 3
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

import graph_network
import random_model

LIMIT = 2e-5
TIMES = 3


def errors(polynet, preset, size, seed):
    """Ours and PyTorch's in float32."""
    network = graph_network.random(random_model.graph_of(polynet, preset), size, seed)
    images = graph_network.noise(1, size, seed + 1000)
    exact = graph_network.exact(network, images)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(images)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        model, weights = Path(folder) / "model", Path(folder) / "weights.safetensors"
        save_file({name: tensor.numpy() for name, tensor in network.named_tensors().items()}, weights)
        random_model.run(polynet, "import", weights, "--preset", preset, "--out", model)
        ours = random_model.logits(polynet, model, images)
    return [np.abs(logits - exact).max() / np.abs(exact).max() for logits in (ours, theirs)]


def main():
    parser = argparse.ArgumentParser(description="Rounding errors of prediction in f32.")
    parser.add_argument("--polynet", required=True, help="the program")
    parser.add_argument("--only", nargs="+", help="these presets alone")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    arguments = parser.parse_args()
    polynet, failed = arguments.polynet, []
    listed = json.loads(random_model.run(polynet, "list", "--json"))
    sizes = {preset["name"]: preset["input_size"] for preset in listed}
    for preset in arguments.only or sizes:
        found = [errors(polynet, preset, sizes[preset], seed) for seed in range(1, arguments.seeds + 1)]
        ours, theirs = np.max(found, axis=0)
        print(f"{preset}: {ours:.1e}, PyTorch in float32 {theirs:.1e}", flush=True)
        if not ours <= max(LIMIT, TIMES * theirs):
            failed.append(preset)
    if failed:
        sys.exit(f"further from float64 than {LIMIT:.0e} of the largest logit and {TIMES} times PyTorch: {', '.join(failed)}")


if __name__ == "__main__":
    main()
