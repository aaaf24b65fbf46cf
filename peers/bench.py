"""Our speed beside that of public runtimes, on this machine, in one go.

    cargo xtask bench peers                          every row, 2 threads
    cargo xtask bench peers --rows predict --rounds 9 --threads 1

Ours and theirs run alternately, `--rounds` times; a table has the median of each, its spread, and the
ratio of ours to the best of the others (below 1 we are faster). Outputs are compared first: with PyTorch
in float64, where it is known what the errors of float32 are.

Networks have random weights and the batch statistics of noise, so that feature maps have the sizes of a
trained network's. Results are kept after every row in `OUT/results.json`, and with `--save` in docs/performance, in a file
for this model of processor. A row that is worse than there is told.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import saved

# Prediction: preset, input size, batch, precision. Training: network, batch, precision of ours; PyTorch's ways are all
# there whatever it is.
PREDICT = [
    ("very-deep-polynet", 331, 1, "f32"),
    ("very-deep-polynet", 331, 8, "f32"),
    ("very-deep-polynet", 331, 1, "bf16"),
    ("very-deep-polynet", 331, 8, "bf16"),
    ("very-deep-polynet", 331, 1, "int8"),
    ("very-deep-polynet", 331, 8, "int8"),
    ("ir-5-10-5", 299, 1, "f32"),
    ("ir-5-10-5", 299, 1, "int8"),
    ("resnet-152", 224, 1, "f32"),
    ("resnet-152", 224, 1, "int8"),
]
TRAIN = [
    (network, batch, precision)
    for network, batch in [
        ("ir-3-6-3", 8),
        ("very-deep-polynet", 2),
        ("small-polynet", 128),
        ("small-polynet; width = 0.125", 64),
    ]
    for precision in ["f32", "bf16"]
]
HERE = os.path.dirname(os.path.abspath(__file__))


def ours(arguments, *command):
    """JSON from a command of ours."""
    output = subprocess.run([arguments.polynet, *map(str, command)], check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout)


def script(name, *command):
    """JSON from the last line of a script beside this one."""
    path = os.path.join(HERE, name)
    output = subprocess.run([sys.executable, path, *map(str, command)], check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout.splitlines()[-1])


class Row:
    """The times of one piece of work, by who did it."""

    def __init__(self, name, runners):
        self.name, self.runners = name, runners
        self.seconds = {runner: [] for runner in runners}
        self.bytes = {}
        self.errors = {}

    def run(self, rounds):
        for _ in range(rounds):
            for name, runner in self.runners.items():
                result = runner()
                seconds, peak = result if isinstance(result, tuple) else (result, None)
                self.seconds[name].append(seconds)
                if peak:
                    self.bytes[name] = max(peak, self.bytes.get(name, 0))

    def record(self):
        medians = {name: statistics.median(values) for name, values in self.seconds.items()}
        best = min(value for name, value in medians.items() if not name.startswith("polynet"))
        record = {"work": self.name, "ratio": medians["polynet"] / best, "runs": {}}
        for name, values in self.seconds.items():
            record["runs"][name] = {
                "median_s": medians[name],
                "min_s": min(values),
                "max_s": max(values),
                **({"peak_rss_bytes": self.bytes[name]} if name in self.bytes else {}),
                **({"error": self.errors[name]} if name in self.errors else {}),
            }
        if "polynet" in self.bytes:
            least = min(value for name, value in self.bytes.items() if name != "polynet")
            record["memory_ratio"] = self.bytes["polynet"] / least
        return record


def show(record):
    memory = f", memory {record['memory_ratio']:.2f}" if "memory_ratio" in record else ""
    print(f"\n{record['work']}: ratio to the best peer {record['ratio']:.2f}{memory}")
    for name, run in record["runs"].items():
        line = f"  {name:<24} {1e3 * run['median_s']:9.1f} ms  ({1e3 * run['min_s']:.1f} to {1e3 * run['max_s']:.1f})"
        if "peak_rss_bytes" in run:
            line += f"  {run['peak_rss_bytes'] / 1e6:6.0f} MB"
        if "error" in run:
            line += f"  error {run['error']:.1e}"
        print(line)
    sys.stdout.flush()


def prepare(arguments, preset, size):
    """A network with random weights and the statistics of noise: as a model folder of ours, and in PyTorch."""
    import torch
    from safetensors.numpy import save_file

    import graph_network

    folder = os.path.join(arguments.out, f"{preset}-{size}")
    model = os.path.join(folder, "model")
    os.makedirs(folder, exist_ok=True)
    graph = ours(arguments, "inspect", preset, "--size", size, "--json", "--graph")["graph"]
    weights = os.path.join(folder, "weights.safetensors")
    if os.path.exists(model):
        network = graph_network.GraphNetwork(graph)
        network.load_state_dict(torch.load(os.path.join(folder, "weights.pth")))
    else:
        network = graph_network.random(graph, size, seed=1)
        torch.save(network.state_dict(), os.path.join(folder, "weights.pth"))
        save_file({name: tensor.numpy() for name, tensor in network.named_tensors().items()}, weights)
        spec = f"{preset}; input = {size}"
        subprocess.run(
            [arguments.polynet, "import", weights, "--preset", spec, "--out", model], check=True, stdout=subprocess.DEVNULL
        )
        os.remove(weights)
    return folder, model, network.eval()


def exported(folder, network, size):
    """The network as ONNX, for any batch."""
    import torch

    path = os.path.join(folder, "network.onnx")
    if not os.path.exists(path):
        example = torch.randn(1, 3, size, size)
        torch.onnx.export(
            network, example, path, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False
        )
    return path


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def openvino_model(onnx, shape, precision, threads):
    import openvino

    model = openvino.Core().read_model(onnx)
    model.reshape({"x": list(shape)})
    return openvino.Core().compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    )


def calibration_pictures(folder, model, size, count=16):
    """Pictures of noise for both to quantize on: a data set of ours, and `[count, 3, size, size]` as the model wants them."""
    from PIL import Image

    with open(os.path.join(model, "config.json")) as file:
        config = json.load(file)
    preprocessing = config["preprocessing"]
    place = os.path.join(folder, "pictures", config["classes"][0].replace("/", "_"))
    os.makedirs(place, exist_ok=True)
    generator, prepared = np.random.RandomState(5), []
    for index in range(count):
        noise = generator.randint(0, 256, (size // 4, size // 4, 3), dtype="uint8")
        picture = Image.fromarray(noise).resize((size, size), Image.BICUBIC)
        picture.save(os.path.join(place, f"{index}.png"))
        pixels = np.asarray(picture, dtype=np.float32) / 255
        pixels = (pixels - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])
        prepared.append(pixels.transpose(2, 0, 1))
    return os.path.dirname(place), np.stack(prepared)


def quantized(arguments, folder, model, onnx, size):
    """The model in 8 bits, by us and by NNCF on the same pictures."""
    import nncf
    import openvino

    ours_folder, theirs = os.path.join(folder, "int8"), os.path.join(folder, "int8.xml")
    pictures, prepared = calibration_pictures(folder, model, size)
    if not os.path.exists(ours_folder):
        command = [arguments.polynet, "quantize", model, ours_folder, "--data", pictures, "--split", "all"]
        command += ["--judge-split", "all", "--images", len(prepared), "--max-drop", 100]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    if not os.path.exists(theirs):
        dataset = nncf.Dataset([image[None] for image in prepared])
        network = nncf.quantize(openvino.Core().read_model(onnx), dataset, subset_size=len(prepared))
        openvino.save_model(network, theirs)
    return ours_folder, theirs


def int8_row(arguments, preset, size, batch):
    import graph_network

    folder, model, network = prepare(arguments, preset, size)
    onnx = exported(folder, network, size)
    int8, theirs = quantized(arguments, folder, model, onnx, size)
    x = graph_network.noise(batch, size, seed=2)
    command = ["bench", "predict", "--model", int8, "--batch", batch, "--threads", arguments.threads]
    command += ["--repeat", arguments.repeat, "--json"]
    compiled = openvino_model(theirs, x.shape, "f32", arguments.threads)
    outputs = {"polynet": our_logits(arguments, folder, int8, x, "auto"), "OpenVINO": compiled(x)[0]}
    runners = {
        "polynet": lambda: ours(arguments, *command)["median_s"],
        "OpenVINO": lambda: statistics.median(timed(lambda: compiled(x)) for _ in range(arguments.repeat)),
    }
    row = Row(f"predict {preset} {size}² int8 batch {batch}", runners)
    expected = graph_network.exact(network, x[:1])
    for name, output in outputs.items():
        row.errors[name] = float(np.abs(output[:1] - expected).max() / np.abs(expected).max())
    return row


def predict_row(arguments, preset, size, batch, precision):
    import onnxruntime
    import torch

    import graph_network

    torch.set_num_threads(arguments.threads)
    if precision == "int8":
        return int8_row(arguments, preset, size, batch)
    folder, model, network = prepare(arguments, preset, size)
    onnx = exported(folder, network, size)
    x = graph_network.noise(batch, size, seed=2)
    runners, outputs = {}, {}

    command = ["bench", "predict", "--model", model, "--batch", batch, "--threads", arguments.threads]
    command += ["--precision", precision, "--repeat", arguments.repeat, "--json"]
    runners["polynet"] = lambda: ours(arguments, *command)["median_s"]
    outputs["polynet"] = our_logits(arguments, folder, model, x, precision)

    compiled = openvino_model(onnx, x.shape, precision, arguments.threads)
    outputs["OpenVINO"] = compiled(x)[0]
    runners["OpenVINO"] = lambda: statistics.median(timed(lambda: compiled(x)) for _ in range(arguments.repeat))
    if precision == "f32":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        outputs["ONNX Runtime"] = session.run(None, {"x": x})[0]
        runners["ONNX Runtime"] = lambda: statistics.median(
            timed(lambda: session.run(None, {"x": x})) for _ in range(arguments.repeat)
        )
    last = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    last_network = network.to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def run_torch():
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=precision == "bf16"):
            return last_network(last)

    outputs["PyTorch"] = run_torch().float().numpy()
    runners["PyTorch"] = lambda: statistics.median(timed(run_torch) for _ in range(arguments.repeat))
    row = Row(f"predict {preset} {size}² {precision} batch {batch}", runners)
    expected = graph_network.exact(network, x[:1])
    for name, output in outputs.items():
        row.errors[name] = float(np.abs(output[:1] - expected).max() / np.abs(expected).max())
    # A deep network with random weights magnifies what is rounded in it, whoever rounds.
    limit = max(1e-4, 3 * row.errors["PyTorch"]) if precision == "f32" else 0.05
    wrong = {name: error for name, error in row.errors.items() if not error < limit}
    if wrong:
        raise SystemExit(f"{row.name}: outputs differ from float64 by more than {limit}: {wrong}")
    return row


def our_logits(arguments, folder, model, x, precision):
    from safetensors.numpy import load_file, save_file

    raw, out = (os.path.join(folder, name) for name in ("x.safetensors", "y.safetensors"))
    save_file({"x": x}, raw)
    command = [arguments.polynet, "predict", model, "--raw", raw, "--out", out, "--precision", precision]
    subprocess.run(command, check=True)
    return load_file(out)["logits"]


def train_name(preset, batch, precision):
    kind = "" if precision == "f32" else f" {precision}"
    return f"train {preset}{kind} batch {batch}"


def train_row(arguments, preset, batch, precision):
    graph = os.path.join(arguments.out, f"{preset}.json")
    os.makedirs(arguments.out, exist_ok=True)
    with open(graph, "w") as file:
        json.dump(ours(arguments, "inspect", preset, "--json", "--graph"), file)
    common = ["--threads", arguments.threads, "--repeat", arguments.repeat]

    def polynet():
        result = ours(arguments, "bench", "train", "--preset", preset, "--batch", batch, "--precision", precision, *common, "--json")
        return result["median_s"], result["peak_rss_bytes"]

    def torch(way):
        def run():
            result = script("bench_train.py", "--graph", graph, "--batch", batch, "--way", way, *common)
            return result["median_s"], result["peak_rss_bytes"]

        return run

    ways = ["eager", "channels-last", "compiled", "autocast"]
    runners = {"polynet": polynet, **{f"PyTorch {way}": torch(way) for way in ways if way not in arguments.without}}
    return Row(train_name(preset, batch, precision), runners)


def process_row(arguments):
    """From the start of a process to the classes of one JPEG."""
    folder, model, network = prepare(arguments, "very-deep-polynet", 331)
    onnx = exported(folder, network, 331)
    photo = os.path.join(folder, "photo.jpg")
    if not os.path.exists(photo):
        from PIL import Image

        noise = np.random.RandomState(0).randint(0, 255, (40, 50, 3), dtype="uint8")
        Image.fromarray(noise).resize((500, 400), Image.BICUBIC).save(photo, quality=90)
    graph = os.path.join(folder, "graph.json")
    with open(graph, "w") as file:
        json.dump(ours(arguments, "inspect", "very-deep-polynet", "--json", "--graph"), file)
    weights = os.path.join(folder, "weights.pth")
    environment = {**os.environ, "RAYON_NUM_THREADS": str(arguments.threads), "OMP_NUM_THREADS": str(arguments.threads)}

    def process(*command):
        return lambda: timed(
            lambda: subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, env=environment)
        )

    classify = [sys.executable, os.path.join(HERE, "bench_classify.py"), photo]
    runners = {
        "polynet": process(arguments.polynet, "predict", model, photo, "--precision", "f32"),
        "polynet bf16": process(arguments.polynet, "predict", model, photo, "--precision", "bf16"),
        "PyTorch": process(*classify, "--graph", graph, "--weights", weights),
        "ONNX Runtime": process(*classify, "--onnx", onnx),
    }
    row = Row("process: load Very Deep PolyNet, classify one JPEG", runners)
    for runner in runners.values():
        runner()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polynet", default="target/release/polynet", help="our program")
    parser.add_argument("--out", default="target/peers-bench", help="models and results")
    parser.add_argument("--rows", default="", help="only rows whose name contains this text")
    parser.add_argument("--rounds", type=int, default=5, help="how often everyone runs")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of a run; it counts their median")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", nargs="*", default=[], help="ways of PyTorch's training to leave out")
    parser.add_argument("--save", action="store_true", help="keep the rows in docs/performance, for the tables there")
    arguments = parser.parse_args()
    machine = saved.machine()
    kept = saved.path(machine)
    work = {f"predict {preset} {size} {precision} batch {batch}": (predict_row, preset, size, batch, precision)
            for preset, size, batch, precision in PREDICT}
    work |= {train_name(*row): (train_row, *row) for row in TRAIN}
    work["process"] = (process_row,)
    records, worse = [], []
    for name, (make, *parameters) in work.items():
        if arguments.rows not in name:
            continue
        row = make(arguments, *parameters)
        row.run(arguments.rounds)
        record = row.record()
        record |= {"threads": arguments.threads, "rounds": arguments.rounds}
        records.append(record)
        show(record)
        worse.append(saved.told(record, saved.read(kept)))
        if worse[-1]:
            print(worse[-1], flush=True)
        if arguments.save:
            saved.save(kept, machine, record, arguments.polynet)
        with open(os.path.join(arguments.out, "results.json"), "w") as file:
            json.dump(records, file, indent=2)
    if not records:
        raise SystemExit(f"no row contains `{arguments.rows}`; rows: {', '.join(work)}")
    if any(worse):
        print("\n" + "\n".join(filter(None, worse)))
    if arguments.save:
        print(f"\nrows are kept in {kept}; now: cargo xtask bench tables")


if __name__ == "__main__":
    main()
