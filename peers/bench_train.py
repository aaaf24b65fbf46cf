"""The speed of PyTorch's training steps: forward, backward, the paper's RMSProp.

    polynet inspect ir-3-6-3 --json --graph > graph.json
    python bench_train.py --graph graph.json --batch 8 --way channels-last

The last line is JSON: `median_s` of a step, `peak_rss_bytes` of the process.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from graph_network import GraphNetwork, load_graph


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--way", choices=["eager", "channels-last", "compiled", "autocast"], default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    graph = load_graph(arguments.graph)
    channels, size, _ = graph["nodes"][0]["shape"]
    classes = graph["nodes"][-1]["shape"][0]
    network = GraphNetwork(graph).train()
    images = torch.randn(arguments.batch, channels, size, size)
    labels = torch.arange(arguments.batch) % classes
    if arguments.way != "eager":
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4, alpha=0.9, eps=1.0, momentum=0.9)
    forward = torch.compile(network) if arguments.way == "compiled" else network
    seconds = []
    for _ in range(arguments.repeat + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        # In bf16, channels-last: what PyTorch's guide for processors recommends where they multiply in it.
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.way == "autocast"):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"median_s": statistics.median(seconds[2:]), "peak_rss_bytes": peak_rss_bytes()}))


def peak_rss_bytes():
    """Of this process alone: `getrusage` knows that of the process that started it."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
