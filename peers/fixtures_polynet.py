"""Parity fixtures from the public port of Very Deep PolyNet.

The reference is `PolyNet(num_classes=1000)` of `pretrainedmodels` 0.7.4, computed in
float64. Its weights, batch-norm statistics, input and sampled indices all come from one
formula that any language can compute, so that a fixture holds results only.

The formula
-----------
For a tensor called `name` (the port's state-dict name), a seed `s` (u64) and the element
index `i` in C order, all in wrapping u64 arithmetic:

    h    = FNV-1a 64 of the UTF-8 bytes of name      (offset 0xCBF29CE484222325, prime 0x100000001B3)
    z    = (h xor s*0x9E3779B97F4A7C15) + (i+1)*0x9E3779B97F4A7C15
    z    = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z    = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z    =  z ^ (z >> 31)
    u    = (z >> 40) / 2^24                          in [0, 1), exact in f32
    value = lo + span*u                              one f32 multiply, then one f32 add (no FMA)

`lo` and `span` are f32. They follow from the name by the first rule that matches:

    rule                                       lo        span
    ^input$                                    -2        4
    ^dir:                                      -1        2
    ^last_linear.weight$                       -b        2b      b = f32(sqrt(1/2048))
    ^last_linear.bias$                         -0.1      0.2
    .conv.weight$                              -b        2b      b = f32(sqrt(6/fan_in)), fan_in = in*kh*kw
    .conv2d(_blocks.N)?.bn.weight$             0.05      0.2     (the last 1x1 of a residual block)
    .(bn|bn_blocks.N).weight$                  0.5       1
    .bias$                                     -0.2      0.4
    .running_mean$                             -0.2      0.4
    .running_var$                              0.5       1

`num_batches_tracked` is 0. Every fixture carries this table under `rules`.

Sampled elements of a tensor are at the indices `z mod numel` for i = 0, 1, ..., where z is
the formula's last u64 and its name is

    sample:<stage>     a stage's output           (256 of them)
    grad:<parameter>   a parameter's gradient     (4)
    buffer:<name>      an updated running statistic (2)

The direction `dir:<parameter>` has the parameter's shape; a fixture holds its dot product
with the gradient.

Example:

    python peers/fixtures_polynet.py --seed 1 --out crates/polynet/tests/fixtures
    python peers/fixtures_polynet.py --seed 1 --weights polynet.pth --input x.safetensors
"""

import argparse
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
CHUNK = 1 << 20  # elements generated at a time: keeps the u64 temporaries small

SIZE = 331
STAGES = ["stem", "stage_a", "reduction_a", "stage_b", "reduction_b", "stage_c"]
LABELS = [3, 977]

# (pattern, lo, span); `None` means -b and 2b with b = sqrt(gain/fan_in), and lo's place holds the gain.
RULES = [
    (r"^input$", -2.0, 4.0),
    (r"^dir:", -1.0, 2.0),
    (r"^last_linear\.weight$", 1.0, None),
    (r"^last_linear\.bias$", -0.1, 0.2),
    (r"\.conv\.weight$", 6.0, None),
    (r"\.conv2d(_blocks\.[0-9]+)?\.bn\.weight$", 0.05, 0.2),
    (r"\.(bn|bn_blocks\.[0-9]+)\.weight$", 0.5, 1.0),
    (r"\.bias$", -0.2, 0.4),
    (r"\.running_mean$", -0.2, 0.4),
    (r"\.running_var$", 0.5, 1.0),
]


def fnv1a(name):
    """FNV-1a 64 of a name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def words(name, seed, start, stop):
    """The formula's u64 words z for the element indices start..stop."""
    base = np.uint64(fnv1a(name) ^ (seed * int(GOLDEN) & 0xFFFFFFFFFFFFFFFF))
    z = base + np.arange(start + 1, stop + 1, dtype=np.uint64) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


def value_range(name, shape):
    """(lo, span) of a tensor in f32, from the first rule that matches its name."""
    for pattern, lo, span in RULES:
        if re.search(pattern, name):
            if span is None:
                bound = np.float32(np.sqrt(lo / np.prod(shape[1:])))
                return -bound, np.float32(2) * bound
            return np.float32(lo), np.float32(span)
    raise ValueError(f"no rule for {name}")


def tensor(name, shape, seed):
    """The formula's tensor, float32."""
    lo, span = value_range(name, shape)
    values = np.empty(int(np.prod(shape)), dtype=np.float32)
    for start in range(0, len(values), CHUNK):
        stop = min(start + CHUNK, len(values))
        u = (words(name, seed, start, stop) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        values[start:stop] = lo + span * u
    return torch.from_numpy(values).reshape(tuple(shape))


def indices(name, numel, count, seed):
    """`count` sampled flat indices below `numel`."""
    return torch.from_numpy((words(name, seed, 0, count) % np.uint64(numel)).astype(np.int64))


def port_module(name):
    """A file of the package's models; its own import pulls in data sets and their dependencies."""
    package = importlib.util.find_spec("pretrainedmodels")
    path = Path(package.submodule_search_locations[0]) / "models" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_port", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def port_class():
    """The port's PolyNet."""
    return port_module("polynet").PolyNet


def seeded_model(seed):
    """The port with the formula's weights and batch-norm statistics, float32."""
    model = port_class()(num_classes=1000)
    state = model.state_dict()
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = tensor(name, value.shape, seed)
    model.load_state_dict(state)
    return model


def shallow(model):
    """The port with the first module of stage A and the first two of stages B and C.

    Gradients through all 40 modules are ill-conditioned: PyTorch's own float32 is off by 10 % of
    the largest element, so they cannot be compared. These five have every kind of layer.
    """
    stages = [model.stage_a[:1], model.stage_b[:2], model.stage_c[:2]]
    model.stage_a, model.stage_b, model.stage_c = stages
    modules = [module for stage in stages for module in stage]
    for index, module in enumerate(modules):
        module.scale = 1 - 0.3 * index / (len(modules) - 1)
    return model


def forward(model, x):
    """Logits and every stage's output, by name."""
    outputs = {}
    for stage in STAGES:
        x = getattr(model, stage)(x)
        outputs[stage] = x
    outputs["pooled"] = model.avg_pool(x)
    logits = model.last_linear(model.dropout(outputs["pooled"]).flatten(1))
    return logits, outputs


def rounded(values):
    """Nine significant digits: below f32's resolution, and a short file."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.9g}")


def header(seed, batch):
    """What every fixture says of itself."""
    rules = []
    for pattern, lo, span in RULES:
        rule = {"pattern": pattern}
        rule |= {"fan_in_gain": lo} if span is None else {"lo": lo, "span": span}
        rules.append(rule)
    return {
        "generator": "peers/fixtures_polynet.py",
        "reference": f"pretrainedmodels 0.7.4 PolyNet, torch {torch.__version__.split('+')[0]}, float64",
        "seed": seed,
        "input": [batch, 3, SIZE, SIZE],
        "rules": rules,
    }


def summary(stage, output, seed):
    """Statistics and sampled elements of one stage's output."""
    flat = output.detach().flatten()
    return {
        "shape": list(output.shape),
        "mean": rounded(flat.mean().item()),
        "mean_abs": rounded(flat.abs().mean().item()),
        "max_abs": rounded(flat.abs().max().item()),
        "samples": rounded(flat[indices(f"sample:{stage}", len(flat), 256, seed)]),
    }


def run_eval(model, x):
    """Evaluation mode: (logits, stage outputs), detached."""
    model.eval()
    with torch.no_grad():
        return forward(model, x)


def eval_fixture(logits, outputs, seed):
    """The fixture of evaluation mode at batch 1."""
    stages = {stage: summary(stage, output, seed) for stage, output in outputs.items()}
    return header(seed, 1) | {"logits": rounded(logits[0]), "stages": stages}


def run_train(model, x):
    """One forward and backward pass in training mode without dropout: (loss, stage outputs)."""
    model.train()
    model.dropout.p = 0.0
    logits, outputs = forward(model, x)
    loss = F.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    return loss.item(), {stage: output.detach() for stage, output in outputs.items()}


def gradient_summary(name, gradient, seed):
    """Norms, samples and one directional derivative of a parameter's gradient."""
    flat = gradient.double().flatten()
    direction = tensor(f"dir:{name}", flat.shape, seed).double()
    return {
        "l2": rounded(flat.norm().item()),
        "max_abs": rounded(flat.abs().max().item()),
        "samples": rounded(flat[indices(f"grad:{name}", len(flat), 4, seed)]),
        "dot": rounded(flat.dot(direction).item()),
    }


def train_fixture(model, loss, outputs, seed):
    """The fixture of training mode at batch 2."""
    buffers = {}
    for name, value in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            buffers[name] = rounded(value[indices(f"buffer:{name}", len(value), 2, seed)])
    gradients = {name: gradient_summary(name, p.grad, seed) for name, p in model.named_parameters()}
    stages = {stage: summary(stage, output, seed) for stage, output in outputs.items()}
    return header(seed, 2) | {
        "modules": "the first 1, 2 and 2 of stages A, B and C",
        "labels": LABELS,
        "loss": rounded(loss),
        "stages": {stage: values | {"samples": values["samples"][:32]} for stage, values in stages.items()},
        "gradients": gradients,
        "buffers": buffers,
    }


def relative(single, double):
    """Largest deviation, relative to the largest reference value."""
    return ((single.double() - double).abs().max() / double.abs().max()).item()


def compare(title, pairs):
    """Prints how far float32 is from float64 over named tensors: the worst, the median and the shares."""
    errors = sorted(((relative(a, b), name) for name, (a, b) in pairs.items()), reverse=True)
    median = errors[len(errors) // 2][0]
    over = sum(error > 1e-4 for error, _ in errors)
    print(f"  {title}: worst {errors[0][0]:.2e} ({errors[0][1]}), median {median:.2e}, {over} of {len(errors)} over 1e-4")


def check_eval(seed, logits, outputs):
    """Prints float32's deviation in evaluation mode."""
    single_logits, single = run_eval(seeded_model(seed), tensor("input", [1, 3, SIZE, SIZE], seed))
    compare("logits", {"logits": (single_logits, logits)})
    for stage, output in outputs.items():
        print(f"  {stage}: mean abs {output.abs().mean():.4g}, float32 off by {relative(single[stage], output):.2e}")


def check_train(seed, model, loss, outputs):
    """Prints float32's deviation in training mode."""
    single_model = shallow(seeded_model(seed))
    single_loss, single = run_train(single_model, tensor("input", [2, 3, SIZE, SIZE], seed))
    print(f"  loss {loss:.9g}, float32 off by {abs(single_loss - loss) / abs(loss):.2e}")
    for stage, output in outputs.items():
        print(f"  {stage}: mean abs {output.abs().mean():.4g}, float32 off by {relative(single[stage], output):.2e}")
    reference = dict(model.named_parameters())
    compare("gradients, largest element", {n: (p.grad, reference[n].grad) for n, p in single_model.named_parameters()})
    norms = {n: (p.grad.double().norm(), reference[n].grad.norm()) for n, p in single_model.named_parameters()}
    compare("gradients, L2 norm", norms)
    buffers = dict(model.named_buffers())
    pairs = {n: (b, buffers[n]) for n, b in single_model.named_buffers() if "num_batches" not in n}
    compare("running statistics", pairs)


def write_json(path, fixture):
    """One top-level key, stage or parameter a line: readable, and it diffs."""
    lines = []
    for key, value in fixture.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def write_weights(path, seed, legacy):
    """The seeded state dict as a file. The released file predates zip archives and num_batches_tracked."""
    state = seeded_model(seed).state_dict()
    if legacy:
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


def write_fixtures(args):
    """Computes and writes the fixtures that are asked for."""
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only in (None, "eval"):
        x = tensor("input", [1, 3, SIZE, SIZE], args.seed).double()
        logits, outputs = run_eval(seeded_model(args.seed).double(), x)
        write_json(args.out / f"polynet_eval_seed{args.seed}.json", eval_fixture(logits, outputs, args.seed))
        if args.check_f32:
            check_eval(args.seed, logits, outputs)
    if args.only in (None, "train"):
        x = tensor("input", [2, 3, SIZE, SIZE], args.seed).double()
        model = shallow(seeded_model(args.seed)).double()
        loss, outputs = run_train(model, x)
        write_json(args.out / f"polynet_train_seed{args.seed}.json", train_fixture(model, loss, outputs, args.seed))
        if args.check_f32:
            check_train(args.seed, model, loss, outputs)


def main():
    parser = argparse.ArgumentParser(description="Parity fixtures from the public port of PolyNet.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the JSON fixtures")
    parser.add_argument("--only", choices=["eval", "train"], help="write only this fixture")
    parser.add_argument("--check-f32", action="store_true", help="also print how far PyTorch's float32 is off")
    parser.add_argument("--weights", type=Path, action="append", default=[], help="write the weights: .pth or .safetensors")
    parser.add_argument("--legacy", action="store_true", help="write .pth in the format before PyTorch 1.6, as the released file")
    parser.add_argument("--input", type=Path, help="write the input as `x` of a .safetensors file")
    parser.add_argument("--batch", type=int, default=1, help="images in --input")
    args = parser.parse_args()
    if args.out is None and args.input is None and not args.weights:
        parser.error("nothing to do: give --out, --weights or --input")

    torch.set_num_threads(2)
    for path in args.weights:
        write_weights(path, args.seed, args.legacy)
    if args.input:
        save_file({"x": tensor("input", [args.batch, 3, SIZE, SIZE], args.seed)}, args.input)
        print(args.input)
    if args.out:
        write_fixtures(args)


if __name__ == "__main__":
    main()
