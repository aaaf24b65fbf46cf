"""Parity fixtures of the networks beside PolyNet, from timm, torchvision and pretrainedmodels.

Weights, batch-norm statistics, input and sampled indices come from the formula of
`fixtures_polynet.py`; only the ranges differ. They follow from what a tensor is for:

    tensor                        lo        span
    input                         -2        4
    convolution's weight          -b        2b      b = f32(sqrt(gain/fan_in)); `conv_gain` of the fixture
    convolution's bias            -0.2      0.4
    batch norm's weight           0.5       1
    batch norm's bias             -0.2      0.4
    running mean                  -0.2      0.4
    running variance              0.5       1
    classifier's weight           -b        2b      b = f32(sqrt(1/features))
    classifier's bias             -0.1      0.2

Three kinds of files, all computed in float64:

    networks_counts.json          parameters and multiply-accumulates at the published size
    NAME_eval_seedS.json          logits and stage outputs with the running statistics
    NAME_train_seedS.json         loss and gradients of every parameter, with the batch's statistics

Example:

    python peers/fixtures_networks.py --seed 1 --out crates/polynet/tests/fixtures
    python peers/fixtures_networks.py --seed 1 --only inception-v4 --weights inception_v4.pth
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.inception_resnet_v2 import InceptionResnetV2
from timm.models.inception_v4 import InceptionV4
from timm.models.resnetv2 import ResNetV2

import fixtures_polynet as formula

LABELS = [3, 7]
TIMM, TORCHVISION = f"timm {version('timm')}", f"torchvision {version('torchvision').split('+')[0]}"

INCEPTION_STAGES = {
    "stem": "features.5",
    "stage_a": "features.9",
    "reduction_a": "features.10",
    "stage_b": "features.17",
    "reduction_b": "features.18",
    "stage_c": "features.21",
}
INCEPTION_RESNET_STAGES = {
    "stem": "mixed_5b",
    "stage_a": "repeat",
    "reduction_a": "mixed_6a",
    "stage_b": "repeat_1",
    "reduction_b": "mixed_7a",
    "stage_c": "block8",
    "closing": "conv2d_7b",
}
PRE_ACTIVATION_STAGES = {"stem": "stem", **{f"stage_{i + 1}": f"stages.{i}" for i in range(4)}, "closing": "norm"}
POST_ACTIVATION_STAGES = {"stem": "maxpool", **{f"stage_{i}": f"layer{i}" for i in range(1, 5)}}

UNITS = {
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
    200: [3, 24, 36, 3],
    269: [3, 30, 48, 8],
    500: [6, 56, 89, 15],
}


def pre_activation(units, width=1.0, num_classes=1000):
    """timm's pre-activation ResNet with batch norm, at any depth and width."""
    channels = [int(c * width) for c in (256, 512, 1024, 2048)]
    return ResNetV2(
        units,
        channels=channels,
        stem_chs=int(64 * width),
        num_classes=num_classes,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )


def post_activation(units, num_classes=1000):
    """torchvision's ResNet of bottleneck units, at any depth."""
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, units, num_classes=num_classes)


def shallow_inception_v4():
    """One block of each kind."""
    model = InceptionV4(num_classes=10)
    features = model.features
    model.features = nn.Sequential(*features[:7], *features[10:12], *features[18:20])
    return model


def shallow_inception_resnet_v2():
    """One block of each kind, and the last one, which differs."""
    model = InceptionResnetV2(num_classes=10)
    model.repeat, model.repeat_1, model.repeat_2 = model.repeat[:1], model.repeat_1[:1], model.repeat_2[:1]
    return model


def pre_activation_text(units, width, classes):
    stages = "; ".join(f"{i + 1}: (I + F) x{count - 1}" for i, count in enumerate(units))
    return f"family = resnet; width = {width}; classes = {classes}; {stages}"


# name: (reference, constructor, our text, input size, stages, gain of the convolutions)
EVALUATED = {
    "inception-v4": (f"{TIMM} inception_v4", InceptionV4, "inception-v4", 139, INCEPTION_STAGES, 6.0),
    "inception-resnet-v2": (
        f"{TIMM} inception_resnet_v2",
        InceptionResnetV2,
        "inception-resnet-v2",
        139,
        INCEPTION_RESNET_STAGES,
        6.0,
    ),
}
for depth, size in [(50, 96), (101, 64), (152, 64)]:
    EVALUATED[f"resnet-v1-{depth}"] = (
        f"{TORCHVISION} resnet{depth}",
        getattr(torchvision.models, f"resnet{depth}"),
        f"resnet-v1-{depth}",
        size,
        POST_ACTIVATION_STAGES,
        2.0,
    )
for depth in UNITS:
    width, size = (1.0, 64) if depth in (50, 152) else (0.25, 96)
    classes = 1000 if width == 1.0 else 100
    EVALUATED[f"resnet-{depth}"] = (
        f"{TIMM} ResNetV2{UNITS[depth]}" + ("" if width == 1.0 else f" at width {width}"),
        lambda depth=depth, width=width, classes=classes: pre_activation(UNITS[depth], width, classes),
        f"resnet-{depth}; width = {width}; classes = {classes}",
        size,
        PRE_ACTIVATION_STAGES,
        2.0,
    )

# name: (reference, constructor, our text, input size, gain)
TRAINED = {
    "inception-v4": (
        f"{TIMM} inception_v4, one block of each kind",
        shallow_inception_v4,
        "inception-v4; classes = 10; dropout = 0; A: F; B: F; C: F",
        139,
        6.0,
    ),
    "inception-resnet-v2": (
        f"{TIMM} inception_resnet_v2, one block of each kind and the last",
        shallow_inception_resnet_v2,
        "inception-resnet-v2; classes = 10; dropout = 0; A: I + F; B: I + F; C: (I + F) x2",
        139,
        6.0,
    ),
    "resnet": (
        f"{TIMM} ResNetV2[2, 2, 2, 2] at width 0.25",
        lambda: pre_activation([2, 2, 2, 2], 0.25, 10),
        pre_activation_text([2, 2, 2, 2], 0.25, 10),
        96,
        6.0,
    ),
    "resnet-v1": (
        f"{TORCHVISION} ResNet(Bottleneck, [2, 2, 2, 2])",
        lambda: post_activation([2, 2, 2, 2], 10),
        "family = resnet-v1; classes = 10; 1: I + F; 2: I + F; 3: I + F; 4: I + F",
        96,
        6.0,
    ),
}

# preset: (reference, constructor, input size)
COUNTED = {
    "very-deep-polynet": ("pretrainedmodels 0.7.4 polynet", lambda: formula.port_class()(num_classes=1000), 331),
    "inception-v4": (f"{TIMM} inception_v4", InceptionV4, 299),
    "inception-resnet-v2": (f"{TIMM} inception_resnet_v2", InceptionResnetV2, 299),
    **{
        f"resnet-{depth}": (f"{TIMM} ResNetV2{units}", lambda units=units: pre_activation(units), 224)
        for depth, units in UNITS.items()
    },
    **{
        f"resnet-v1-{depth}": (f"{TORCHVISION} resnet{depth}", getattr(torchvision.models, f"resnet{depth}"), 224)
        for depth in (50, 101, 152)
    },
}


def classifier(model):
    """The name of the last layer."""
    return [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def ranges(model, gain):
    """(lo, span) of every tensor, by its name."""
    last, found = classifier(model), {}

    def bounded(gain, weight):
        bound = np.float32(np.sqrt(gain / np.prod(weight.shape[1:])))
        return -bound, np.float32(2) * bound

    for name, module in model.named_modules():
        if name == last:
            found |= {f"{name}.weight": bounded(1.0, module.weight), f"{name}.bias": (-0.1, 0.2)}
        elif isinstance(module, nn.Conv2d):
            found |= {f"{name}.weight": bounded(gain, module.weight), f"{name}.bias": (-0.2, 0.4)}
        elif isinstance(module, nn.BatchNorm2d):
            found |= {f"{name}.{part}": (0.5, 1.0) for part in ("weight", "running_var")}
            found |= {f"{name}.{part}": (-0.2, 0.4) for part in ("bias", "running_mean")}
    return found


def tensor(name, shape, seed, lo, span):
    """The formula's tensor, float32, in C order."""
    u = (formula.words(name, seed, 0, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return torch.from_numpy(np.float32(lo) + np.float32(span) * u).reshape(tuple(shape))


def seeded(model, seed, gain):
    """The model with the formula's weights and statistics, float32."""
    state, known = model.state_dict(), ranges(model, gain)
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = tensor(name, value.shape, seed, *known[name])
    model.load_state_dict(state)
    return model


def image(batch, size, seed):
    return tensor("input", [batch, 3, size, size], seed, -2.0, 4.0)


def brief(values):
    """Eight significant digits."""
    return [float(f"{value:.8g}") for value in values.tolist()]


def sampled(name, values, count, seed):
    return brief(values[formula.indices(name, len(values), count, seed)])


def header(reference, text, seed, batch, size, gain):
    return {
        "generator": "peers/fixtures_networks.py",
        "reference": f"{reference}, torch {torch.__version__.split('+')[0]}, float64",
        "network": f"{text}; input = {size}",
        "seed": seed,
        "input": [batch, 3, size, size],
        "conv_gain": gain,
    }


def eval_fixture(name, seed):
    """Logits and stage outputs with the running statistics, at batch 1."""
    reference, build, text, size, stages, gain = EVALUATED[name]
    model, outputs = seeded(build(), seed, gain).double().eval(), {}
    for stage, module in stages.items():

        def keep(module, inputs, output, stage=stage):
            outputs[stage] = output.clone()

        model.get_submodule(module).register_forward_hook(keep)
    with torch.no_grad():
        logits = model(image(1, size, seed).double())
    summaries = {}
    for stage, output in outputs.items():
        flat = output.flatten()
        summaries[stage] = {
            "shape": list(output.shape),
            "max_abs": float(f"{flat.abs().max().item():.8g}"),
            "samples": sampled(f"sample:{stage}", flat, 64, seed),
        }
    print(f"  largest logit {logits.abs().max():.3g}, deviation {logits.std():.3g}")
    return header(reference, text, seed, 1, size, gain) | {"logits": brief(logits[0]), "stages": summaries}


def train_fixture(name, seed):
    """Loss and gradients with the statistics of a batch of 2, without dropout."""
    reference, build, text, size, gain = TRAINED[name]
    model = seeded(build(), seed, gain).double().train()
    logits = model(image(2, size, seed).double())
    loss = F.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    gradients = {}
    for parameter, value in model.named_parameters():
        flat = value.grad.flatten()
        gradients[parameter] = {
            "l2": float(f"{flat.norm().item():.8g}"),
            "max_abs": float(f"{flat.abs().max().item():.8g}"),
            "samples": sampled(f"grad:{parameter}", flat, 2, seed),
        }
    return header(reference, text, seed, 2, size, gain) | {
        "labels": LABELS,
        "loss": float(f"{loss.item():.10g}"),
        "gradients": gradients,
    }


def counts():
    """Parameters and multiply-accumulates, by shapes alone."""
    found = {}
    for preset, (reference, build, size) in COUNTED.items():
        with torch.device("meta"):
            model = build().eval()
        macs = 0

        def count(module, inputs, output):
            nonlocal macs
            macs += output.numel() * module.weight[0].numel()

        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        model(torch.empty(1, 3, size, size, device="meta"))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        found[preset] = {"reference": reference, "input": size, "parameters": parameters, "macs": macs}
        print(f"  {preset}: {parameters:,} parameters, {macs:,} multiply-accumulates")
    return {"generator": "peers/fixtures_networks.py", "networks": found}


def write_weights(path, name, seed, background):
    """The seeded state dict. With `background`, as files from TensorFlow have it: one class more, the first."""
    _, build, _, _, _, gain = EVALUATED[name]
    model = seeded(build(), seed, gain)
    state, last = model.state_dict(), classifier(model)
    if background:
        for part in (f"{last}.weight", f"{last}.bias"):
            state[part] = torch.cat([torch.full_like(state[part][:1], 99.0), state[part]])
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    print(path)


def main():
    parser = argparse.ArgumentParser(description="Parity fixtures from timm, torchvision and pretrainedmodels.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the JSON fixtures")
    parser.add_argument("--only", choices=sorted(EVALUATED | TRAINED), help="this network alone")
    parser.add_argument("--weights", type=Path, help="write the weights of --only: .pth or .safetensors")
    parser.add_argument("--background", action="store_true", help="with a background class before the others")
    parser.add_argument("--input", type=Path, help="write the input of --only as `x` of a .safetensors file")
    args = parser.parse_args()
    if args.out is None and args.only is None:
        parser.error("nothing to do: give --out, or --only with --weights or --input")

    torch.set_num_threads(2)
    if args.weights:
        write_weights(args.weights, args.only, args.seed, args.background)
    if args.input:
        save_file({"x": image(1, EVALUATED[args.only][3], args.seed)}, args.input)
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is None:
        formula.write_json(args.out / "networks_counts.json", counts())
    for kind, networks, compute in [("eval", EVALUATED, eval_fixture), ("train", TRAINED, train_fixture)]:
        for name in networks if args.only is None else [args.only] if args.only in networks else []:
            formula.write_json(args.out / f"{name}_{kind}_seed{args.seed}.json", compute(name, args.seed))


if __name__ == "__main__":
    main()
