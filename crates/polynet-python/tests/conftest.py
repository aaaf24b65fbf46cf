"""What the tests share: the repository's pictures, a trained model, the command."""

import io
import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import polynet
import pytest

ROOT = Path(__file__).resolve().parents[3]
PICTURES = ROOT / "crates/polynet/src/data/fixtures/images"
CIFAR = ROOT / "assets/cifar10-small.tar"

# A process that a shell starts in the background ignores Ctrl-C, and so do those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def recipe(**changes):
    """A recipe of few steps on the photographs that come with the project."""
    recipe = {
        "name": "tested",
        "seed": 3,
        "model": {"architecture": "small-polynet; width = 0.125"},
        "data": {"path": CIFAR},
        "augmentation": {"kind": "pad-crop", "padding": 4},
        "optimizer": {"kind": "adamw", "weight_decay": 0.05},
        "schedule": {"kind": "one-cycle", "learning_rate": 0.004, "warm_up": "2 steps"},
        "training": {"batch_size": 32, "duration": "12 steps", "log_every": 4, "checkpoint_every": "5 steps"},
    }
    for section, keys in changes.items():
        recipe[section] = {**recipe[section], **keys}
    return recipe


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return polynet.train(recipe(), out=tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="session")
def model(run):
    return run.model()


@pytest.fixture(scope="session")
def command():
    """Runs the command `polynet` and gives what it prints."""
    program = os.environ.get("POLYNET_COMMAND")
    if not program:
        pytest.skip("POLYNET_COMMAND names no program")

    def run(*arguments):
        words = [program, *map(str, arguments)]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout

    return run


@pytest.fixture(scope="session")
def photographs():
    """Photographs of two classes, uint8 [200, 32, 32, 3], and their names."""
    images, labels = [], []
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            split, _, rest = member.name.removeprefix("photos/").partition("/")
            label = rest.split("/")[0]
            if split == "train" and label in ("airplane", "frog") and labels.count(label) < 100 and member.isfile():
                images.append(np.asarray(PIL.Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")))
                labels.append(label)
    assert len(images) == 200
    return np.stack(images), np.array(labels)


def tensors(folder):
    """The tensors of a model folder, by name."""
    content = (Path(folder) / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }
