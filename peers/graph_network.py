"""A network of ours in PyTorch, built from the operations that `polynet inspect` prints.

    polynet inspect small-polynet --json --graph > graph.json

`graph` is a list of nodes, each with its operation, the nodes that it reads and its output's
shape `[channels, height, width]`. The last node gives the logits. Nodes that name the same
tensor share it. Tensors have the names of our weight files, so weights go both ways.

Example:

    network = GraphNetwork(load_graph("graph.json"))
    logits = network(images)  # [batch, 3, height, width] to [batch, classes]
"""

import copy
import json
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

MOMENTUM = 0.1


def load_graph(path):
    """The graph in a file that `polynet inspect --json --graph` wrote."""
    with open(path) as file:
        document = json.load(file)
    if "graph" not in document:
        raise ValueError(f"{path}: expected the key `graph`; write it by `polynet inspect SPEC --json --graph`")
    return document["graph"]


class GraphNetwork(nn.Module):
    """Interprets a graph, node by node."""

    def __init__(self, graph):
        super().__init__()
        self.nodes = graph["nodes"]
        self.epsilon = graph["norm_epsilon"]
        for node in self.nodes:
            evaluate = "node_" + node["op"].replace("-", "_")
            if not hasattr(self, evaluate):
                raise ValueError(f"unknown operation {node['op']}")
            self.declare(node)
        self.steps = [(getattr(self, "node_" + node["op"].replace("-", "_")), node) for node in self.nodes]
        self.spent = self.values_spent()

    def declare(self, node):
        """Makes the tensors that a node names and no earlier node has named; He's initialization."""
        channels = node["shape"][0]
        if node["op"] == "conv":
            fan = [self.nodes[node["inputs"][0]]["shape"][0], *node["kernel"]]
            self.parameter(node["weight"], [channels, *fan], math.sqrt(2 / math.prod(fan)))
        if node["op"] == "bias":
            self.parameter(node["bias"], [channels], 0.0)
        if node["op"] == "linear":
            features = self.nodes[node["inputs"][0]]["shape"][0]
            self.parameter(node["weight"], [channels, features], math.sqrt(1 / features))
            self.parameter(node["bias"], [channels], 0.0)
        if node.get("norm") and not hasattr(self, key(node["norm"] + ".weight")):
            name = node["norm"]
            self.register_parameter(key(name + ".weight"), nn.Parameter(torch.ones(channels)))
            self.register_parameter(key(name + ".bias"), nn.Parameter(torch.zeros(channels)))
        if node.get("norm") and not hasattr(self, key(node["statistics"] + ".running_mean")):
            name = node["statistics"]
            self.register_buffer(key(name + ".running_mean"), torch.zeros(channels))
            self.register_buffer(key(name + ".running_var"), torch.ones(channels))

    def parameter(self, name, shape, deviation):
        if not hasattr(self, key(name)):
            self.register_parameter(key(name), nn.Parameter(torch.randn(shape) * deviation))

    def tensor(self, name):
        return getattr(self, key(name))

    def values_spent(self):
        """For each node the values that no later node reads, so that they are freed as in written-out code."""
        last = {}
        for index, node in enumerate(self.nodes):
            last |= {source: index for source in node["inputs"]}
        return [[source for source in node["inputs"] if last[source] == i] for i, node in enumerate(self.nodes)]

    def forward(self, x):
        values = {}
        for index, (evaluate, node) in enumerate(self.steps):
            inputs = [values[source] for source in node["inputs"]] or [x]
            values[index] = evaluate(node, *inputs)
            for source in set(self.spent[index]):
                del values[source]
        return values[len(self.nodes) - 1].flatten(1)

    def normalised(self, node, x):
        """Batch norm where the node has one, then ReLU where it has one."""
        if node["norm"]:
            weight, bias = (self.tensor(f"{node['norm']}.{part}") for part in ("weight", "bias"))
            mean, variance = (self.tensor(f"{node['statistics']}.running_{part}") for part in ("mean", "var"))
            x = F.batch_norm(x, mean, variance, weight, bias, self.training, MOMENTUM, self.epsilon)
        return F.relu(x, inplace=True) if node["relu"] else x

    def node_input(self, node, x):
        return x

    def node_conv(self, node, x):
        weight = self.tensor(node["weight"])
        return self.normalised(node, F.conv2d(x, weight, stride=node["stride"], padding=node["padding"]))

    def node_norm(self, node, x):
        return self.normalised(node, x)

    def node_relu(self, node, x):
        return F.relu(x)

    def node_max_pool(self, node, x):
        return F.max_pool2d(x, node["kernel"], node["stride"], node["padding"])

    def node_bias(self, node, x):
        x = x + self.tensor(node["bias"]).reshape(1, -1, 1, 1)
        return F.relu(x, inplace=True) if node["relu"] else x

    def node_local_average_pool(self, node, x):
        return F.avg_pool2d(x, node["kernel"], node["stride"], node["padding"], count_include_pad=False)

    def node_concat(self, node, *inputs):
        return torch.cat(inputs, 1)

    def node_sum(self, node, first, *others):
        scale, *scales = node["scales"]
        total = first if scale == 1.0 else first * scale
        for value, scale in zip(others, scales):
            total = torch.add(total, value, alpha=scale)
        return F.relu(total, inplace=True) if node["relu"] else total

    def node_average_pool(self, node, x):
        return x.mean((2, 3), keepdim=True)

    def node_dropout(self, node, x):
        return F.dropout(x, node["probability"], self.training)

    def node_linear(self, node, x):
        return F.linear(x.flatten(1), self.tensor(node["weight"]), self.tensor(node["bias"]))

    def named_tensors(self):
        """Parameters and running statistics by the names of our weight files."""
        return {key.replace(":", "."): value for key, value in self.state_dict().items()}

    def load_tensors(self, tensors):
        """Takes tensors in our names, all of them and no others."""
        self.load_state_dict({key(name): value for name, value in tensors.items()})


def key(name):
    """A module's attribute can't have a dot in its name."""
    return name.replace(".", ":")


def noise(count, size, seed):
    """Images of patches of random colours, `[count, 3, size, size]`."""
    cells = -(-size // 8)
    colours = np.random.RandomState(seed).randn(count, 3, cells, cells).astype("float32")
    return np.ascontiguousarray(colours.repeat(8, 2).repeat(8, 3)[:, :, :size, :size])


def random(graph, size, seed, device="cpu"):
    """A network with random weights and the statistics of noise, so that maps have the sizes of a trained one's."""
    global MOMENTUM
    torch.manual_seed(seed)
    network = GraphNetwork(graph).to(device)
    before, MOMENTUM = MOMENTUM, 1.0
    with torch.no_grad():
        # What ends a path adds little to the identity in a trained network.
        for node in graph["nodes"]:
            if node["op"] == "conv" and not node["relu"]:
                ends = node["norm"] + ".weight" if node["norm"] else node["weight"]
                network.tensor(ends).mul_(0.1)
        network.train()(torch.from_numpy(noise(4, size, seed)).to(device))
    MOMENTUM = before
    return network.eval()


def exact(network, images):
    """The logits in float64."""
    with torch.inference_mode():
        return copy.deepcopy(network).double()(torch.from_numpy(images).double()).numpy()
