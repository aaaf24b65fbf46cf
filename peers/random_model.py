"""Model folders of ours with random weights, made without PyTorch.

Ranges follow from what a tensor is for, as in `fixtures_networks.py`: convolutions within sqrt(gain/fan_in),
batch norms that do something, so that maps keep their size through hundreds of layers.
"""

import json
import subprocess

import numpy as np
from safetensors.numpy import load_file, save_file


def run(polynet, *arguments):
    """Standard output of a command of ours; an error with what it said."""
    done = subprocess.run([polynet, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"polynet {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def graph_of(polynet, network):
    """The operations of a network, as `inspect` gives them."""
    return json.loads(run(polynet, "inspect", network, "--json", "--graph"))["graph"]


def tensors(graph, seed, gain):
    """Random tensors of a graph by name, float32."""
    generator, found = np.random.default_rng(seed), {}

    def draw(name, shape, low, high):
        if name not in found:
            span = np.float32(high - low)
            found[name] = np.float32(low) + span * generator.random(shape, dtype=np.float32)

    def bounded(name, shape, gain):
        bound = np.sqrt(gain / np.prod(shape[1:]))
        draw(name, shape, -bound, bound)

    for node in graph["nodes"]:
        channels = node["shape"][0]
        before = [graph["nodes"][index]["shape"][0] for index in node["inputs"]]
        if node["op"] == "conv":
            bounded(node["weight"], [channels, before[0], *node["kernel"]], gain)
        elif node["op"] == "linear":
            bounded(node["weight"], [channels, before[0]], 1.0)
            draw(node["bias"], [channels], -0.1, 0.1)
        elif node["op"] == "bias":
            draw(node["bias"], [channels], -0.2, 0.2)
        if node.get("norm"):
            # What ends a path adds little to the identity in a trained network.
            ends = node["op"] == "conv" and not node["relu"]
            draw(f"{node['norm']}.weight", [channels], *((0.05, 0.25) if ends else (0.5, 1.5)))
            draw(f"{node['norm']}.bias", [channels], -0.2, 0.2)
            draw(f"{node['statistics']}.running_mean", [channels], -0.2, 0.2)
            draw(f"{node['statistics']}.running_var", [channels], 0.5, 1.5)
    return found


def make(polynet, network, folder, seed=1, gain=None):
    """A model folder of a network in the algebra's language."""
    if gain is None:
        gain = 2.0 if "resnet-v1" in network or network.startswith(("resnet", "multi-resnet")) else 6.0
    weights = folder.with_suffix(".safetensors")
    save_file(tensors(graph_of(polynet, network), seed, gain), weights)
    run(polynet, "import", weights, "--preset", network, "--out", folder)
    weights.unlink()


def logits(polynet, folder, images):
    """Our logits of prepared images `[batch, 3, height, width]`."""
    raw, out = folder.with_suffix(".x.safetensors"), folder.with_suffix(".y.safetensors")
    save_file({"x": np.ascontiguousarray(images)}, raw)
    run(polynet, "predict", folder, "--raw", raw, "--out", out, "--precision", "f32")
    found = load_file(out)["logits"]
    raw.unlink()
    out.unlink()
    return found
