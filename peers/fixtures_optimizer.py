"""Reference paths of optimizers, gradient clipping and averaged weights.

PyTorch's own optimizers (Muon among them, for matrices) and `clip_grad_*`, timm's `RMSpropTF` (TensorFlow's convention: epsilon
inside the root, the running square starts at 1, the learning rate inside the momentum) and timm's
`ModelEmaV2`, all in float64. A parameter of four elements starts at `start`; at each step it gets
the gradient and the learning rate of the step, or no gradient (`null`), and its value after each
step is the path.

    python peers/fixtures_optimizer.py --out crates/polynet/src/train/fixtures
"""

import argparse
import json
import math
import re
from pathlib import Path

import timm
import torch
from timm.optim import RMSpropTF
from timm.utils import ModelEmaV2

STEPS = 8
SIZE = 4
WITHOUT = {3, 4}


def gradients():
    rows = [[math.sin(1.3 * s + 2.1 * e) * (e + 0.5) for e in range(SIZE)] for s in range(STEPS)]
    return [None if s in WITHOUT else [float(f"{g:.6f}") for g in row] for s, row in enumerate(rows)]


def rates():
    return [0.4 if s < 5 else 0.04 for s in range(STEPS)]


START = [0.3, -0.2, 0.05, 1.0]


def rmsprop_torch(eps, momentum, decay):
    return lambda p: torch.optim.RMSprop(
        p, lr=0.1, alpha=0.9, eps=eps, momentum=momentum, weight_decay=decay
    )


def rmsprop_tf(eps, momentum, decay):
    return lambda p: RMSpropTF(p, lr=0.1, alpha=0.9, eps=eps, momentum=momentum, weight_decay=decay)


CASES = {
    "rmsprop pytorch": (rmsprop_torch(1.0, 0.0, 0.0), dict(epsilon=1.0, momentum=0.0, decay=0.0)),
    "rmsprop pytorch momentum": (
        rmsprop_torch(1e-3, 0.9, 0.1),
        dict(epsilon=1e-3, momentum=0.9, decay=0.1),
    ),
    "rmsprop tensorflow": (rmsprop_tf(1.0, 0.0, 0.0), dict(epsilon=1.0, momentum=0.0, decay=0.0)),
    "rmsprop tensorflow momentum": (
        rmsprop_tf(1e-3, 0.9, 0.1),
        dict(epsilon=1e-3, momentum=0.9, decay=0.1),
    ),
    "sgd": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        dict(momentum=0.9, decay=0.1),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
        dict(decay=0.1),
    ),
}


def path(make):
    weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = make([weight])
    found = []
    for gradient, rate in zip(gradients(), rates()):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        found.append([float(f"{v:.9g}") for v in weight.tolist()])
    return found


def muon(shape, momentum, nesterov):
    """A matrix on its way, with AdamW's learning rates; PyTorch's iteration, whose products it takes
    in bfloat16, in float64."""
    rows, columns = shape
    weight = torch.nn.Parameter(torch.tensor(
        [[math.cos(0.7 * r + 1.9 * c) for c in range(columns)] for r in range(rows)], dtype=torch.float64
    ))
    optimizer = torch.optim.Muon(
        [weight], weight_decay=0.1, momentum=momentum, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
    )
    start, steps, found = weight.tolist(), [], []
    # It changes its copy in place.
    rounded, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, torch.Tensor.clone
    for step, rate in enumerate([0.04, 0.04, 0.01]):
        gradient = [[float(f"{math.sin(1.1 * step + 2.3 * r * (c + 1) + c):.6f}") for c in range(columns)]
                    for r in range(rows)]
        steps.append({"rate": rate, "gradient": gradient})
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        found.append([[float(f"{v:.9g}") for v in row] for row in weight.tolist()])
    torch.Tensor.bfloat16 = rounded
    return {"momentum": momentum, "nesterov": nesterov, "decay": 0.1,
            "start": start, "steps": steps, "path": found}


def clipping():
    tensors = [[3.0, -4.0, 0.5], [0.1], [-12.0, 0.0]]

    def parameters():
        made = [torch.nn.Parameter(torch.zeros(len(t), dtype=torch.float64)) for t in tensors]
        for parameter, values in zip(made, tensors):
            parameter.grad = torch.tensor(values, dtype=torch.float64)
        return made

    found = {"gradients": tensors, "norm": [], "value": []}
    for limit in (2.0, 100.0):
        made = parameters()
        norm = torch.nn.utils.clip_grad_norm_(made, limit)
        clipped = [p.grad.tolist() for p in made]
        found["norm"].append({"limit": limit, "norm": float(norm), "clipped": clipped})
    for limit in (1.0,):
        made = parameters()
        torch.nn.utils.clip_grad_value_(made, limit)
        found["value"].append({"limit": limit, "clipped": [p.grad.tolist() for p in made]})
    return found


def average(decay=0.75):
    model = torch.nn.Linear(1, 1, bias=False).double()
    values = [0.5, 1.0, -2.0, 3.0, 0.25]
    with torch.no_grad():
        model.weight.fill_(values[0])
    ema = ModelEmaV2(model, decay=decay)
    path = []
    for value in values[1:]:
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model)
        path.append(ema.module.weight.item())
    return {"decay": decay, "values": values, "path": path}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    fixture = {
        "made_by": f"peers/fixtures_optimizer.py, torch {torch.__version__}, timm {timm.__version__}",
        "start": START,
        "gradients": gradients(),
        "rates": rates(),
        "cases": {name: dict(keys, path=path(make)) for name, (make, keys) in CASES.items()},
        "muon": [muon((3, 5), 0.95, True), muon((6, 4), 0.9, False)],
        "clipping": clipping(),
        "average": average(),
    }
    out.mkdir(parents=True, exist_ok=True)
    # One line for each innermost list.
    text = json.dumps(fixture, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    (out / "optimizer.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
