"""Trains a network of ours in PyTorch: the same data, augmentation, schedule and optimizer.

    polynet inspect small-polynet --json --graph > graph.json
    python peers/train_torch.py --graph graph.json --data cifar10 --epochs 5 --learning-rate 0.1

DATA holds `train/<class>/...` and `test/<class>/...` or `val/<class>/...`, as a folder or a .tar.
All images are decoded before the first step, so that PyTorch doesn't wait for Python. Images per
second are those of the median training step, augmentation included, without the first (--warm-up-steps).

Prints a line an epoch and at the end one line of JSON.
"""

import argparse
import io
import json
import math
import resource
import statistics
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from graph_network import GraphNetwork, load_graph

# CIFAR-10's training images, as in our preprocessing of small images.
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
ENDINGS = {".jpg", ".jpeg", ".png"}
EVALUATION_BATCH = 100


def image_files(path):
    """(path in the data set, bytes) of every image, sorted by path."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        return [(file.relative_to(path).parts, file.read_bytes()) for file in files]
    with tarfile.open(path) as archive:
        members = sorted((m for m in archive if Path(m.name).suffix.lower() in ENDINGS), key=lambda m: m.name)
        return [(Path(m.name).parts, archive.extractfile(m).read()) for m in members]


def decoded(data, size):
    """An image as [3, size, size] bytes."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def load_images(path, size):
    """({"train": (images, labels), "test": ...}, class names)."""
    files = [(parts[-3], parts[-2], data) for parts, data in image_files(path) if len(parts) >= 3]
    classes = sorted({name for _, name, _ in files})
    splits = {}
    for split, folders in (("train", {"train"}), ("test", {"test", "val"})):
        chosen = [(name, data) for folder, name, data in files if folder in folders]
        if not chosen:
            raise SystemExit(f"{path}: expected images in {' or '.join(sorted(folders))}/<class>/")
        images = torch.stack([decoded(data, size) for _, data in chosen])
        splits[split] = (images, torch.tensor([classes.index(name) for name, _ in chosen]))
    return splits, classes


def prepared(images):
    """Bytes to the network's input."""
    return (images.float() / 255 - MEAN) / STD


def pad_crop(images, padding, generator):
    """A random window of each image with zeros around it (the mean colour), flipped with chance 0.5."""
    count, _, size, _ = images.shape
    padded = F.pad(images, [padding] * 4)
    positions = torch.arange(size)
    rows = positions + torch.randint(2 * padding + 1, (count, 1), generator=generator)
    columns = positions + torch.randint(2 * padding + 1, (count, 1), generator=generator)
    flipped = torch.rand((count, 1), generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def learning_rate(args, step, total, warm_up):
    """Our schedules: a linear warm-up, then half a cosine or a line down to the final rate at the last step."""
    peak, end = args.learning_rate, args.final_learning_rate
    if args.schedule == "constant":
        return peak
    if step < warm_up:
        return peak * (step + 1) / (warm_up + 1)
    progress = (step - warm_up) / max(total - 1 - warm_up, 1)
    if args.schedule == "cosine":
        return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (1 - progress) + end * progress


def optimizer(args, network):
    """The optimizer; weight decay spares batch norm and biases."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    spared = [p for p in network.parameters() if p.dim() == 1]
    groups = [{"params": weights, "weight_decay": args.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    if args.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=args.learning_rate)
    return torch.optim.SGD(groups, lr=args.learning_rate, momentum=args.momentum, nesterov=True)


def accuracy(model, images, labels, memory_format):
    """Share of images whose largest logit is the right one."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(labels), EVALUATION_BATCH):
            batch = prepared(images[start : start + EVALUATION_BATCH]).contiguous(memory_format=memory_format)
            correct += (model(batch).argmax(1) == labels[start : start + EVALUATION_BATCH]).sum().item()
    return correct / len(labels)


def train_step(args, model, update, batch, labels):
    """One step: (loss, seconds)."""
    started = time.perf_counter()
    if args.augmentation == "pad-crop":
        batch = pad_crop(prepared(batch), args.padding, args.generator)
    else:
        batch = prepared(batch)
    batch = batch.contiguous(memory_format=args.memory_format)
    update.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(batch), labels, label_smoothing=args.label_smoothing)
    loss.backward()
    update.step()
    loss = loss.item()
    if not math.isfinite(loss):
        raise SystemExit("the loss is not finite: lower the learning rate")
    return loss, time.perf_counter() - started


def train(args, network, splits):
    """The run: (seconds of every step, test accuracy of every epoch)."""
    images, labels = splits["train"]
    steps_per_epoch = len(labels) // args.batch_size
    total = args.steps or round(args.epochs * steps_per_epoch)
    warm_up = round(args.warm_up_epochs * steps_per_epoch)
    update = optimizer(args, network)
    model = torch.compile(network) if args.compile else network
    seconds, accuracies, losses, order = [], [], [], None
    for step in range(total):
        position = step % steps_per_epoch
        if position == 0:
            order = torch.randperm(len(labels), generator=args.generator)
        for group in update.param_groups:
            group["lr"] = learning_rate(args, step, total, warm_up)
        chosen = order[position * args.batch_size : (position + 1) * args.batch_size]
        model.train()
        loss, taken = train_step(args, model, update, images[chosen], labels[chosen])
        losses.append(loss)
        seconds.append(taken)
        if position == steps_per_epoch - 1 or step == total - 1:
            accuracies.append(accuracy(model, *splits["test"], args.memory_format))
            mean_loss, losses = statistics.fmean(losses), []
            print(
                f"epoch {(step + 1) / steps_per_epoch:g}  step {step + 1}/{total}  loss {mean_loss:.4f}  "
                f"test {100 * accuracies[-1]:.2f} %  {speed(args, seconds):.1f} images/s",
                flush=True,
            )
    return seconds, accuracies


def speed(args, seconds):
    """Images per second of the median step after the warm-up."""
    counted = seconds[args.warm_up_steps :] or seconds
    return args.batch_size / statistics.median(counted)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Trains a network of ours in PyTorch.")
    parser.add_argument("--graph", type=Path, required=True, help="JSON of `polynet inspect SPEC --json --graph`")
    parser.add_argument("--data", type=Path, required=True, help="folder or .tar with train/ and test/ or val/")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int, help="the run's length in steps instead of epochs")
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd", help="sgd has Nesterov momentum")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--schedule", choices=["one-cycle", "cosine", "constant"], default="one-cycle")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="the peak")
    parser.add_argument("--final-learning-rate", type=float, default=0.0)
    parser.add_argument("--warm-up-epochs", type=float, default=1.0)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--augmentation", choices=["pad-crop", "none"], default="pad-crop")
    parser.add_argument("--padding", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up-steps", type=int, default=10, help="steps that the speed leaves out")
    parser.add_argument("--channels-last", action="store_true", help="PyTorch's NHWC memory format")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--init", type=Path, help="begin with the weights of a model.safetensors of ours")
    parser.add_argument("--save", type=Path, help="write the trained weights as .safetensors in our names")
    args = parser.parse_args()
    args.memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    return args


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.generator = torch.Generator().manual_seed(args.seed)
    graph = load_graph(args.graph)
    network = GraphNetwork(graph)
    if args.init:
        network.load_tensors(load_file(args.init))
    network = network.to(memory_format=args.memory_format)
    parameters = sum(p.numel() for p in network.parameters())
    splits, classes = load_images(args.data, graph["input"][1])
    if len(classes) != graph["nodes"][-1]["shape"][0]:
        raise SystemExit(f"expected {graph['nodes'][-1]['shape'][0]} classes as in the graph, found {len(classes)}")
    counts = ", ".join(f"{len(labels)} {split}" for split, (_, labels) in splits.items())
    print(f"{parameters} parameters; images: {counts}", flush=True)

    seconds, accuracies = train(args, network, splits)
    if args.save:
        save_file({name: t.contiguous() for name, t in network.named_tensors().items()}, args.save)
    counted = seconds[args.warm_up_steps :] or seconds
    result = {
        "framework": f"torch {torch.__version__}",
        "memory_format": "channels_last" if args.channels_last else "default",
        "compiled": args.compile,
        "threads": args.threads,
        "batch_size": args.batch_size,
        "steps": len(seconds),
        "median_s": round(statistics.median(counted), 5),
        "images_per_s": round(speed(args, seconds), 2),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "test_top1": accuracies,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
