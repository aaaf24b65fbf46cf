"""Two training steps of small networks of ours by PyTorch in float64: what the tests' oracle is held to.

`graph_network.py` builds the network from the graph that `polynet inspect` prints; autograd
differentiates it and `torch.optim.RMSprop` (epsilon outside the root, the learning rate outside the
momentum) updates it. Every kind of step that training knows is in the cases: label smoothing, dropout,
paths left out, and a frozen part, whose batch norms keep their running statistics.

Weights, statistics, images, dropout and sampled indices come from the formula of
`fixtures_polynet.py`, by our names of the tensors; the ranges are those of `fixtures_networks.py` with
a gain of 6. Dropout of step `i` (from 0) drops the elements of `dropout:i` whose number in [0, 1) is
below the probability.

A tensor is summed up as `[l2 norm, dot product with dir:NAME, two elements]`, gradients sampled at
grad:NAME, tensors after both steps at tensor:NAME. `null` is a parameter without a gradient.

Example:

    python peers/fixtures_oracle.py --out crates/polynet/tests/fixtures
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import fixtures_polynet as formula
from graph_network import MOMENTUM, GraphNetwork

SEED = 1
SMOOTHING = 0.1
RMSPROP = {"lr": 0.003, "alpha": 0.9, "eps": 0.01, "momentum": 0.9}
CARGO = ["cargo", "run", "--release", "--quiet", "--bin", "polynet", "--"]

# name: (network, images, what the second step leaves out: paths or not, and the prefix that is frozen)
CASES = {
    "oracle_ir-3-6-3": ("ir-3-6-3; width = 0.0625; input = 75; classes = 5; dropout = 0.2", 4, False, None),
    "oracle_small": ("small-polynet; width = 0.125; input = 16; classes = 5; dropout = 0.2", 6, True, "stem"),
}


class StepNetwork(GraphNetwork):
    """A network whose next step may leave out inputs of sums, freeze a part, and drop by the formula."""

    def begin(self, step, dropped=(), frozen=None):
        """Says what the next step leaves out: `(node, position)` of sums' inputs, and a prefix of names."""
        nodes = [dict(node) for node in self.nodes]
        for index in sorted({index for index, _ in dropped}):
            kept = [i for i in range(len(nodes[index]["inputs"])) if (index, i) not in dropped]
            nodes[index] |= {part: [nodes[index][part][i] for i in kept] for part in ("inputs", "scales")}
        needed = {len(nodes) - 1}
        for index in reversed(range(len(nodes))):
            needed |= set(nodes[index]["inputs"]) if index in needed else set()
        nodes = [node if i in needed else {"op": "skipped", "inputs": []} for i, node in enumerate(nodes)]
        last = {source: i for i, node in enumerate(nodes) for source in node["inputs"]}
        self.spent = [[s for s in node["inputs"] if last[s] == i] for i, node in enumerate(nodes)]
        self.steps = [(getattr(self, "node_" + node["op"].replace("-", "_")), node) for node in nodes]
        self.step, self.frozen = step, frozen

    def is_frozen(self, name):
        return self.frozen is not None and name.startswith(self.frozen)

    def normalised(self, node, x):
        if node["norm"]:
            weight, bias = (self.tensor(f"{node['norm']}.{part}") for part in ("weight", "bias"))
            mean, variance = (self.tensor(f"{node['statistics']}.running_{part}") for part in ("mean", "var"))
            batch = self.training and not self.is_frozen(node["norm"])
            x = F.batch_norm(x, mean, variance, weight, bias, batch, MOMENTUM, self.epsilon)
        return F.relu(x) if node["relu"] else x

    def node_skipped(self, node, x):
        return None

    def node_dropout(self, node, x):
        if not self.training:
            return x
        words = formula.words(f"dropout:{self.step}", SEED, 0, x.numel()) >> np.uint64(40)
        kept = torch.from_numpy(words.astype(np.float64) * 2.0**-24 >= node["probability"])
        return x * kept.reshape(x.shape) / (1 - node["probability"])


def value_range(name, shape):
    """(lo, span) of a tensor, from its name and shape."""
    if len(shape) > 1:
        bound = np.float32(np.sqrt((6.0 if len(shape) == 4 else 1.0) / np.prod(shape[1:])))
        return -bound, np.float32(2) * bound
    if name == "head.linear.bias":
        return -0.1, 0.2
    return (-0.2, 0.4) if name.endswith((".bias", ".running_mean")) else (0.5, 1.0)


def tensor(name, shape, lo, span):
    """The formula's tensor in float32, as float64."""
    u = (formula.words(name, SEED, 0, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return torch.from_numpy(np.float32(lo) + np.float32(span) * u).reshape(tuple(shape)).double()


def graph_of(text, command):
    """The graph of a network, as `polynet inspect` prints it."""
    document = subprocess.run([*command, "inspect", text, "--json", "--graph"], check=True, capture_output=True)
    return json.loads(document.stdout)["graph"]


def exact(values):
    """Thirteen significant digits: far below the tolerance, and a short file."""
    return [float(f"{value:.13g}") for value in values]


def summary(kind, name, values):
    if values is None:
        return None
    flat = values.detach().flatten()
    direction = tensor(f"dir:{name}", flat.shape, -1.0, 2.0)
    samples = flat[formula.indices(f"{kind}:{name}", len(flat), 2, SEED)]
    return exact([flat.norm().item(), flat.dot(direction).item(), *samples.tolist()])


def left_out(nodes):
    """The last input of every second sum of three or more, and the one before it of the others."""
    sums = [i for i, node in enumerate(nodes) if node["op"] == "sum" and len(node["inputs"]) > 2]
    return [(index, len(nodes[index]["inputs"]) - 1 - turn % 2) for turn, index in enumerate(sums)]


def fixture(name, command):
    text, batch, drops, frozen = CASES[name]
    graph = graph_of(text, command)
    network = StepNetwork(graph).double()
    network.load_tensors({n: tensor(n, t.shape, *value_range(n, t.shape)) for n, t in network.named_tensors().items()})
    images = tensor("input", [batch, *graph["input"]], -2.0, 4.0)
    labels = [image % graph["nodes"][-1]["shape"][0] for image in range(batch)]
    optimizer = torch.optim.RMSprop(network.parameters(), **RMSPROP)
    steps = []
    for step in range(2):
        dropped = left_out(graph["nodes"]) if drops and step else []
        network.begin(step, dropped, frozen if step else None)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(images), torch.tensor(labels), label_smoothing=SMOOTHING)
        loss.backward()
        gradients = {}
        for attribute, parameter in network.named_parameters():
            parameter_name = attribute.replace(":", ".")
            if network.is_frozen(parameter_name):
                parameter.grad = None
            gradients[parameter_name] = summary("grad", parameter_name, parameter.grad)
        optimizer.step()
        steps.append({"loss": exact([loss.item()])[0], "dropped": dropped, "frozen": network.frozen, "gradients": gradients})
    network.begin(2)
    network.eval()
    with torch.no_grad():
        logits = exact(network(images).flatten().tolist())
    return {
        "generator": "peers/fixtures_oracle.py",
        "reference": f"torch {torch.__version__.split('+')[0]}, float64",
        "network": text,
        "seed": SEED,
        "images": batch,
        "labels": labels,
        "label_smoothing": SMOOTHING,
        "rmsprop": RMSPROP,
        "steps": steps,
        "tensors": {n: summary("tensor", n, t) for n, t in network.named_tensors().items()},
        "logits": logits,
    }


def lines(value, depth):
    """JSON with one key a line down to `depth`: readable, and it diffs."""
    if depth and isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(k)}: {lines(v, depth - 1)}" for k, v in value.items()) + "\n}"
    if depth and isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(lines(item, depth) for item in value) + "\n]"
    return json.dumps(value, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description="Training steps of PyTorch for the tests' oracle.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON fixtures")
    parser.add_argument("--polynet", help="the built program; else cargo builds it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        path = args.out / f"{name}.json"
        document = fixture(name, [args.polynet] if args.polynet else CARGO)
        nested = {"steps": 2, "tensors": 1}  # everything else stands in its line
        body = [f"{json.dumps(k)}: {lines(v, nested.get(k, 0))}" for k, v in document.items()]
        path.write_text("{\n" + ",\n".join(body) + "\n}\n")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
