"""`polynet serve`, asked by NVIDIA's client of the Open Inference Protocol and by Schemathesis.

    cargo xtask peers-check serve
    python peers/check_serve.py --polynet target/release/polynet

A small network is trained for a step. The client, as it comes, asks for health, metadata, the index and logits, in
JSON and as bytes, one by one and together; the logits must be those of `polynet predict` to the bit. Models
are loaded, replaced under load and unloaded. Schemathesis holds every route to /openapi.json, with and without a
token, and loading.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from safetensors.numpy import load_file, save_file
from tritonclient.utils import InferenceServerException

HERE = Path(__file__).resolve().parent
SIZE, IMAGES = 32, 5
TOKEN = "a token of the check".replace(" ", "-")
CONFIG = """
hooks = "serve_hooks"

[parameters]
"path.name" = "tiny"
"path.version" = "1"

# A client that waits for no time at all is told that there was not enough of it.
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]

# A schema cannot say that a tensor has as many numbers as its shape says: such requests are refused by 400.
[[operations]]
include-path-regex = "/infer$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]
"""


def run(polynet, *arguments, folder="."):
    done = subprocess.run([polynet, *map(str, arguments)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, f"polynet {arguments}: {done.stderr}"


def make_model(polynet, folder, seed):
    """A network after two steps of training."""
    settings = [f"seed={seed}", "training.batch_size=8", "training.duration=2 steps"]
    settings += ["training.validate_every=0 steps", "schedule.warm_up=1 step"]
    out = folder / f"seed-{seed}"
    run(polynet, "train", "recipes/first.toml", *settings, "--out", out, folder=HERE.parent)
    return out / "model"


def predicted(polynet, folder, model, images):
    """The logits of `polynet predict --raw`."""
    save_file({"x": images}, folder / "x.safetensors")
    run(polynet, "predict", model, "--raw", folder / "x.safetensors", "--out", folder / "y.safetensors")
    return load_file(folder / "y.safetensors")["logits"]


@contextlib.contextmanager
def serving(polynet, *arguments, token=None):
    """A server on a free port; its address. Stopped by SIGTERM, it must end by itself."""
    environment = {**os.environ, **({"POLYNET_TOKEN": token} if token else {})}
    command = [polynet, "serve", *map(str, arguments), "--listen", "127.0.0.1:0", "--log", "off"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stderr.readline()
        found = re.search(r"http://(\S+);", line)
        assert found, f"the server said: {line}{process.stderr.read()}"
        yield found[1]
        process.terminate()
        assert process.wait() == 0, process.stderr.read()
    finally:
        process.kill()


def request(images, binary):
    tensor = triton.InferInput("input", images.shape, "FP32" if images.dtype == np.float32 else "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return [tensor]


def check_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1") and not client.is_model_ready("tiny", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
    metadata = client.get_model_metadata("tiny")
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3, SIZE, SIZE]}]
    assert [output["name"] for output in metadata["outputs"]] == ["logits", "probabilities"]


def check_inference(client, images, wanted):
    for binary in (False, True):
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("logits", "probabilities")]
        found = client.infer("tiny", request(images, binary), outputs=outputs, request_id="7")
        assert np.array_equal(found.as_numpy("logits"), wanted), "logits are not predict's"
        assert np.allclose(found.as_numpy("probabilities").sum(axis=1), 1)
        assert found.get_response()["id"] == "7"
    assert np.array_equal(client.infer("tiny", request(images, True)).as_numpy("logits"), wanted)
    one_by_one = [client.async_infer("tiny", request(images[i : i + 1], True)) for i in range(IMAGES)]
    together = np.concatenate([answer.get_result().as_numpy("logits") for answer in one_by_one])
    assert np.array_equal(together, wanted), "logits depend on what is computed with them"
    pictures = np.zeros((2, 40, 30, 3), np.uint8)
    assert client.infer("tiny", request(pictures, True)).as_numpy("logits").shape == wanted[:2].shape
    try:
        client.infer("tiny", request(images[:, :, :-1], True))
        raise AssertionError("a wrong shape was taken")
    except InferenceServerException as error:
        assert "preprocessed pixels" in str(error), error


def check_repository(client, address, repository, new, images, wanted):
    """`tiny` becomes the model `new` while clients ask for it, and is unloaded and loaded."""
    answers, done = [], threading.Event()

    def ask():
        mine = triton.InferenceServerClient(address)
        while not done.is_set():
            answers.append(mine.infer("tiny", request(images, True)).as_numpy("logits"))
        mine.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(new / name, repository / "tiny" / f"{name}.new")
        os.replace(repository / "tiny" / f"{name}.new", repository / "tiny" / name)
    before = len(answers)
    client.load_model("tiny")
    while len(answers) < before + 9:
        assert any(thread.is_alive() for thread in threads), "the clients have stopped"
    done.set()
    for thread in threads:
        thread.join()
    old, new = wanted
    assert all(np.array_equal(answer, old) or np.array_equal(answer, new) for answer in answers)
    assert np.array_equal(answers[-1], new), "the model was not replaced"
    client.unload_model("tiny")
    assert not client.is_model_ready("tiny")
    assert [row["state"] for row in client.get_model_repository_index()] == ["UNAVAILABLE"]
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    return len(answers)


def schemathesis(address, folder, examples, *arguments):
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", folder / "schemathesis.toml"]
    command += ["run", f"http://{address}/openapi.json", "--checks", "all", "--generation-database", "none"]
    command += ["--max-examples", examples, "--no-color", *arguments]
    paths = {"PYTHONPATH": str(HERE)}
    done = subprocess.run(list(map(str, command)), cwd=folder, env={**os.environ, **paths})
    assert done.returncode == 0, "Schemathesis found what does not fit the document"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--polynet", default="target/release/polynet")
    parser.add_argument("--examples", type=int, default=25, help="of each route, by Schemathesis")
    options = parser.parse_args()
    polynet = Path(options.polynet).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = (make_model(polynet, folder, seed) for seed in (1, 2))
        generator = np.random.default_rng(1)
        images = generator.standard_normal((IMAGES, 3, SIZE, SIZE), dtype=np.float32)
        wanted = [predicted(polynet, folder, model, images) for model in (old, new)]
        repository = folder / "repository"
        shutil.copytree(old, repository / "tiny")
        with serving(polynet, "--control", "--repository", repository) as address:
            client = triton.InferenceServerClient(address, concurrency=IMAGES)
            client.load_model("tiny")
            check_metadata(client)
            check_inference(client, images, wanted[0])
            count = check_repository(client, address, repository, new, images, wanted)
            client.close()
        print(f"tritonclient: {count} answers while the model was replaced, none lost", flush=True)
        with serving(polynet, f"tiny={old}", token=TOKEN) as address:
            header = ["--header", f"Authorization: Bearer {TOKEN}"]
            schemathesis(address, folder, options.examples, *header)
        with serving(polynet, f"tiny={old}", "--control") as address:
            schemathesis(address, folder, options.examples, "--include-path-regex", "/load$|/index$")


if __name__ == "__main__":
    main()
