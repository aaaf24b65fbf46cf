"""One program on an NVIDIA GPU: does it agree with the processor, and how fast is it beside PyTorch?

    cargo xtask gpu                                  builds the program and packs it with this script
    python3 gpu.py                                   there, with PyTorch for CUDA; at most 10 minutes
    python3 gpu.py --only rows                       a part of the work, for less time at once
    python3 gpu.py --dry-run                         shows the work alone; needs no GPU

Parity: logits and a few training steps on the GPU against the processor's, logits also against PyTorch in
float64. Then training with the largest batch that fits, and prediction, ours and PyTorch (channels-last;
eager, then compiled) one after the other. Work for which there is no time left is named and left out.

Results go to `--out` after every piece of work, beside those of other parts that it has; the exit status is
1 if parity fails.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PARITY = [("small-polynet", 32), ("ir-3-6-3", 299), ("resnet-152", 224)]
TRAIN = [("ir-3-6-3", 299), ("resnet-152", 224)]
PREDICT = [("ir-3-6-3", 299, 64), ("resnet-152", 224, 64), ("ir-3-6-3", 299, 1), ("resnet-152", 224, 1)]
PRECISIONS = ["f32", "bf16"]
# Errors over the largest logit; differences of a step's loss over the loss.
LIMITS = {"f32": 1e-4, "loss f32": 1e-3, "loss bf16": 5e-2}
# Of a GPU's memory what a batch may take, by the two small batches that are measured first.
SHARE = 0.9
PROBES = (8, 24)
STEPS = 6


class LeftOut(Exception):
    """Work that gave no number, why, and what it had printed before."""

    def __init__(self, why, printed=""):
        super().__init__(why)
        self.printed = printed


class Clock:
    """Ends everything in time."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self, at_most=float("inf")):
        return max(0.0, min(at_most, self.end - time.monotonic()))


def call(command, seconds, **more):
    """Standard output of a command that ends in time and well."""
    if seconds < 1:
        raise LeftOut("no time left")
    pipe = subprocess.PIPE
    # A group of its own, so that a compiler's processes end with the command.
    with subprocess.Popen([str(part) for part in command], stdout=pipe, stderr=pipe, text=True, start_new_session=True, **more) as process:
        try:
            printed, said = process.communicate(timeout=seconds)
        except BaseException as why:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            if isinstance(why, subprocess.TimeoutExpired):
                raise LeftOut(f"no result after {seconds:.0f} s", printed) from None
            raise
    if process.returncode != 0:
        lines = (said.strip() or printed.strip() or "no message").splitlines()
        # A panic's first line says more than the backtrace's last.
        line = next((line for line in lines if "error" in line.lower() or "memory" in line.lower()), lines[-1])
        raise LeftOut(f"status {process.returncode}: {line[:300]}", printed)
    return printed


def gpu_memory():
    """Bytes of the first GPU that are taken, and all that it has."""
    fields = "--query-gpu=memory.used,memory.total"
    text = subprocess.run(["nvidia-smi", fields, "--format=csv,noheader,nounits"], check=True, capture_output=True, text=True).stdout
    return [int(word) * 2**20 for word in text.splitlines()[0].split(",")]


class Peak(threading.Thread):
    """What the GPU holds at most while a block runs, beyond what it held before; nothing without NVIDIA's tools."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.bytes = 0
        self.is_gpu = shutil.which("nvidia-smi") is not None
        self.before = gpu_memory()[0] if self.is_gpu else 0

    def run(self):
        while self.is_gpu and not self.ended.is_set():
            self.bytes = max(self.bytes, gpu_memory()[0] - self.before)
            self.ended.wait(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def largest_batch(step, least, total, most):
    """Calls `step(batch)`, which gives a result with `peak_bytes`, with the largest batch that fits.

    Memory is a line in the batch, through two small ones, and at least `least` bytes an image, for what keeps
    memory takes it in large blocks; what then doesn't fit is tried smaller. Where no time is left for that,
    the largest batch that was measured counts.
    """
    few, more = PROBES
    fitting = [step(batch) for batch in PROBES]
    taken = [result["peak_bytes"] for result in fitting]
    a_image = max((taken[1] - taken[0]) / (more - few), least)
    batch = int((SHARE * total - taken[0]) / a_image) + few
    batch = max(more, min(most, batch - batch % 8))
    while batch > more:
        try:
            return step(batch)
        except LeftOut as why:
            print(f"        batch {batch}: {why}", file=sys.stderr, flush=True)
            if "no time" in str(why) or "no result" in str(why):
                break
            batch = int(0.6 * batch) // 8 * 8
    return fitting[-1]


def bytes_of_image(graph, precision):
    """What a training step keeps at least of one image: of every node two results, as before and after its norm."""
    elements = sum(math.prod(node["shape"]) for node in graph["nodes"])
    return 2 * elements * (2 if precision == "bf16" else 4)


# Ours.


def ours_bench(arguments, clock, work, network, size, precision, batch, repeat):
    command = [arguments.polynet, "bench", work, "--preset", network, "--size", size, "--batch", batch]
    command += ["--device", arguments.device, "--repeat", repeat, "--json"]
    # Predictions on a GPU are in f32, which the program therefore does not ask.
    command += ["--precision", precision] if work == "train" or arguments.device == "cpu" else []
    with Peak() as peak:
        result = json.loads(call(command, clock.left(arguments.row_seconds)))
    return {
        "batch": batch,
        "median_s": result["median_s"],
        "images_per_s": batch / result["median_s"],
        "peak_bytes": peak.bytes or result["peak_rss_bytes"],
    }


def ours(arguments, clock, work, network, size, precision, batch=None):
    def step(count, repeat=arguments.repeat):
        return ours_bench(arguments, clock, work, network, size, precision, count, repeat)

    if batch is not None:
        return step(batch)
    with open(graph_file(arguments, clock, network, size)) as file:
        least = bytes_of_image(json.load(file)["graph"], precision)
    return largest_batch(lambda count: step(count, 1 if count in PROBES else arguments.repeat), least, arguments.memory, arguments.most)


# PyTorch, in a process of its own.


def torch_device(arguments):
    import torch

    return "cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu"


def torch_run(arguments, clock, work, network, size, precision, batch=None):
    graph = graph_file(arguments, clock, network, size)
    command = [sys.executable, os.path.abspath(__file__), "--torch", work, "--graph", graph, "--precision", precision]
    command += ["--device", arguments.device, "--repeat", arguments.repeat, "--most", arguments.most]
    command += ["--memory", arguments.memory, "--batch", batch or 0] + (["--eager"] if arguments.eager else [])
    try:
        printed = call(command, clock.left(arguments.row_seconds))
    except LeftOut as why:
        # It had measured eagerly before it was to compile.
        printed = why.printed
        if not printed.strip():
            raise
    result = json.loads(printed.splitlines()[-1])
    if "left_out" in result:
        raise LeftOut(result["left_out"])
    return result


def graph_file(arguments, clock, network, size):
    path = os.path.join(arguments.folder, f"{network}-{size}.json")
    if not os.path.exists(path):
        text = call([arguments.polynet, "inspect", network, "--size", size, "--json", "--graph"], clock.left(60))
        with open(path, "w") as file:
            file.write(text)
    return path


def torch_child(arguments):
    """Steps of PyTorch; prints results as JSON, a line each, the last one the best."""
    import torch

    import graph_network

    # `f32` is float32 throughout, as ours is: PyTorch's convolutions would round to TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch_device(arguments)
    nodes = graph_network.load_graph(arguments.graph)
    network = graph_network.GraphNetwork(nodes).to(device, memory_format=torch.channels_last)
    channels, size, _ = nodes["nodes"][0]["shape"]
    classes = nodes["nodes"][-1]["shape"][0]
    is_training = arguments.torch == "train"
    network.train(is_training)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4, alpha=0.9, eps=1.0, momentum=0.9)

    def step(forward, images, labels):
        with torch.autocast(device, torch.bfloat16, enabled=arguments.precision == "bf16"):
            if not is_training:
                with torch.inference_mode():
                    return forward(images)
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def measured(batch, forward, repeat):
        images = torch.randn(batch, channels, size, size, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.arange(batch, device=device) % classes
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        try:
            for _ in range(repeat + 2):
                start = time.perf_counter()
                step(forward, images, labels)
                wait()
                seconds.append(time.perf_counter() - start)
        except torch.cuda.OutOfMemoryError:
            optimizer.zero_grad()
            raise LeftOut("out of memory") from None
        median = statistics.median(seconds[2:])
        peak = torch.cuda.max_memory_reserved() if device == "cuda" else 2**20 * batch
        way = "eager" if forward is network else "compiled"
        return {"batch": batch, "median_s": median, "images_per_s": batch / median, "peak_bytes": peak, "way": way}

    def run(batch):
        return measured(batch, network, 1 if batch in PROBES and not arguments.batch else arguments.repeat)

    least = bytes_of_image(nodes, arguments.precision)
    try:
        result = run(arguments.batch) if arguments.batch else largest_batch(run, least, arguments.memory, arguments.most)
    except LeftOut as why:
        return print(json.dumps({"left_out": str(why)}))
    print(json.dumps(result), flush=True)
    if not arguments.eager:
        print(json.dumps(measured(result["batch"], torch.compile(network, dynamic=False), arguments.repeat)))


# Parity.


def write_tensors(path, tensors):
    """A safetensors file of float32 arrays."""
    header, blocks, at = {}, [], 0
    for name, array in tensors.items():
        block = array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + len(block)]}
        blocks.append(block)
        at += len(block)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head + b"".join(blocks))


def read_tensors(path):
    import numpy as np

    with open(path, "rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8"}
    arrays = {}
    for name, entry in head.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def largest_error(expected, found):
    """The largest difference over the largest element; sizes must agree."""
    if expected.shape != found.shape:
        raise LeftOut(f"shapes {expected.shape} and {found.shape}")
    error = float(abs(expected - found).max() / abs(expected).max())
    return error if error == error else float("inf")


def logits_agree(arguments, clock, network, size):
    import torch

    import graph_network

    nodes = graph_network.load_graph(graph_file(arguments, clock, network, size))
    images = torch.from_numpy(graph_network.noise(2, size, seed=2))
    device = torch_device(arguments)
    model = graph_network.random(nodes, size, 1, device)
    with torch.no_grad():
        weights = {name: value.cpu().numpy() for name, value in model.named_tensors().items()}
        exact = model.double()(images.to(device).double()).cpu().numpy()
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    folder = tempfile.mkdtemp(dir=arguments.folder)
    weight_file, raw, out, opened = (os.path.join(folder, name) for name in ("w.safetensors", "x.safetensors", "y.safetensors", "model"))
    write_tensors(weight_file, weights)
    write_tensors(raw, {"x": images.numpy()})
    call([arguments.polynet, "import", weight_file, "--preset", f"{network}; input = {size}", "--out", opened], clock.left(60))
    logits = {}
    for device in ("cpu", arguments.device):
        command = [arguments.polynet, "predict", opened, "--raw", raw, "--out", out, "--device", device]
        call(command + (["--precision", "f32"] if device == "cpu" else []), clock.left(120))
        logits[device] = read_tensors(out)["logits"]
    error = largest_error(logits["cpu"], logits[arguments.device])
    against = {device: largest_error(exact, values) for device, values in logits.items()}
    return [{"what": f"logits of {network} at {size}", "error": error, "limit": LIMITS["f32"], "against_float64": against}]


def training_agrees(arguments, clock):
    """The losses of a few steps on the shipped photographs."""

    def losses(device, *keys):
        out = os.path.join(tempfile.mkdtemp(dir=arguments.folder), "run")
        command = [arguments.polynet, "train", os.path.join(HERE, "first.toml"), f"data.path={HERE}/photographs.tar"]
        command += [f"training.duration={STEPS} steps", "training.log_every=1", f"device={device}", *keys, "--out", out]
        call(command, clock.left(120))
        with open(os.path.join(out, "metrics.jsonl")) as file:
            records = [json.loads(line) for line in file]
        found = [record["loss"] for record in records if record["kind"] == "train"]
        if len(found) != STEPS:
            raise LeftOut(f"expected {STEPS} losses, came {len(found)}")
        return found

    expected, records = losses("cpu"), []
    ways = {"f32": [], "bf16": ["training.precision=bf16"], "f32, recomputed": ["training.activations=recomputed"]}
    for way, keys in ways.items():
        record = {"what": f"losses of {STEPS} steps, {way}", "limit": LIMITS["loss bf16" if way == "bf16" else "loss f32"]}
        try:
            found = losses(arguments.device, *keys)
            record["error"] = max(abs(a - b) / abs(a) for a, b in zip(expected, found, strict=True))
        except LeftOut as why:
            record["left_out"] = str(why)
        records.append(record)
    return records


# All of it.


def environment(arguments):
    """Lets the program find what a machine with PyTorch alone keeps where no program looks."""
    if arguments.device.startswith("cuda") and "CUDA_PATH" not in os.environ:
        toolkits = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"]
        if not any(os.path.isdir(f"{root}/nvvm/libdevice") for root in toolkits):
            # Triton comes with PyTorch and has the one file of the toolkit that is needed.
            import triton

            root = os.path.join(arguments.folder, "cuda")
            os.makedirs(f"{root}/nvvm/libdevice")
            library = os.path.join(os.path.dirname(triton.__file__), "backends/nvidia/lib/libdevice.10.bc")
            os.symlink(library, f"{root}/nvvm/libdevice/libdevice.10.bc")
            os.environ["CUDA_PATH"] = root
    if arguments.device.startswith("gpu"):
        # The loader is packed with the program; the machine's own goes first.
        paths = [os.environ.get("LD_LIBRARY_PATH"), "/usr/lib/x86_64-linux-gnu", "/usr/lib64", HERE]
        os.environ["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
        # Without it the window systems' part of wgpu complains in each process.
        os.environ.setdefault("XDG_RUNTIME_DIR", arguments.folder)
        named = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES"} & os.environ.keys()
        folders = [f"{root}/vulkan/icd.d" for root in ("/etc", "/usr/share", "/usr/local/share")]
        if not named and not any("nvidia" in name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)):
            path = os.path.join(arguments.folder, "nvidia_icd.json")
            with open(path, "w") as file:
                json.dump({"file_format_version": "1.0.0", "ICD": {"library_path": "libGLX_nvidia.so.0", "api_version": "1.3.0"}}, file)
            os.environ["VK_DRIVER_FILES"] = os.environ["VK_ICD_FILENAMES"] = path


def machine(arguments, clock):
    """What computes here; ends the script where the program or PyTorch finds no GPU."""
    found = {"gpu": "none", "driver": "none"}
    if arguments.device != "cpu" and not arguments.small:
        try:
            fields = "--query-gpu=name,driver_version"
            text = call(["nvidia-smi", fields, "--format=csv,noheader"], 60)
            found["gpu"], found["driver"] = [word.strip() for word in text.splitlines()[0].split(",")]
            _, arguments.memory = gpu_memory()
        except (LeftOut, OSError) as why:
            raise SystemExit(f"error: no NVIDIA GPU answers here ({why}); `nvidia-smi` must list one") from None
    import torch

    found |= {"memory_bytes": arguments.memory, "torch": torch.__version__, "cuda": torch.version.cuda}
    if found["gpu"] != "none" and not torch.cuda.is_available():
        raise SystemExit(f"error: PyTorch {torch.__version__} sees no GPU; install its CUDA build")
    try:
        ours_bench(arguments, clock, "predict", "small-polynet; width = 0.125", 32, "f32", 1, 1)
    except (LeftOut, OSError) as why:
        raise SystemExit(
            f"error: the program does not compute on `{arguments.device}` here: {why}; `cuda` needs NVIDIA's driver, `gpu` its "
            "Vulkan driver, libGLX_nvidia.so.0, which a container has with NVIDIA_DRIVER_CAPABILITIES=all"
        ) from None
    return found


def work(arguments):
    """Every piece of work: its section, its name, and what gives records."""
    small = arguments.small
    tiny = [("small-polynet; width = 0.125", 32)]
    pieces = [("parity", "training", lambda clock: training_agrees(arguments, clock))]
    for network, size in tiny if small else PARITY:
        name = f"logits of {network} at {size}"
        pieces.append(("parity", name, lambda clock, n=network, s=size: logits_agree(arguments, clock, n, s)))
    batches = [(*tiny[0], 4)] if small else PREDICT
    rows = [("train", *network, precision, None) for precision in PRECISIONS for network in (tiny if small else TRAIN)]
    rows[2:2] = [("predict", network, size, "f32", batch) for network, size, batch in batches]
    for kind, network, size, precision, batch in rows:
        name = f"{kind} {network} at {size}, {precision}" + (f", batch {batch}" if batch else "")

        def row(clock, kind=kind, network=network, size=size, precision=precision, batch=batch):
            record = {"work": kind, "network": network, "size": size, "precision": precision}
            for who, run in (("polynet", ours), ("pytorch", torch_run)):
                try:
                    record[who] = run(arguments, clock, kind, network, size, precision, batch)
                except LeftOut as why:
                    record[who] = {"left_out": str(why)}
            return [record]

        pieces.append(("rows", name, row))
    return [piece for piece in pieces if not arguments.only or arguments.only in " ".join(piece[:2])]


def earlier(arguments):
    """The records of a results file that are of work which is not done now."""
    if not (arguments.only and os.path.exists(arguments.out)):
        return {"parity": [], "rows": []}
    with open(arguments.out) as file:
        results = json.load(file)
    names = [name for _, name, _ in work(arguments)]
    return {key: [record for record in results[key] if record.get("name") not in names] for key in ("parity", "rows")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polynet", default=os.path.join(HERE, "polynet"), help="our program, built for the GPU")
    parser.add_argument("--device", default="cuda", help="`cuda`, or `gpu` for the build for Vulkan")
    parser.add_argument("--out", default="gpu.json", help="where the results go")
    parser.add_argument("--only", metavar="TEXT", help="the work whose line of --dry-run has this text")
    parser.add_argument("--seconds", type=float, default=570, help="time for everything")
    parser.add_argument("--row-seconds", type=float, default=110, help="time for one process")
    parser.add_argument("--repeat", type=int, default=5, help="measured steps of a row; their median counts")
    parser.add_argument("--most", type=int, default=2048, help="the largest batch")
    parser.add_argument("--eager", action="store_true", help="PyTorch without compiling")
    parser.add_argument("--small", action="store_true", help="a tiny network, to test this script, `--device cpu` included")
    parser.add_argument("--dry-run", action="store_true", help="show the work, do nothing")
    inner = parser.add_argument_group("for the processes that this script starts")
    inner.add_argument("--torch", choices=["train", "predict"], help=argparse.SUPPRESS)
    for name, kind in (("graph", str), ("precision", str), ("batch", int)):
        inner.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    inner.add_argument("--memory", type=int, default=2**30, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch:
        return torch_child(arguments)
    if arguments.dry_run:
        return print("\n".join(f"{section:<7} {name}" for section, name, _ in work(arguments)))
    clock = Clock(arguments.seconds)
    with tempfile.TemporaryDirectory() as arguments.folder:
        environment(arguments)
        results = {"device": arguments.device, "machine": machine(arguments, clock), **earlier(arguments)}
        for section, name, run in work(arguments):
            start = time.monotonic()
            try:
                records = run(clock)
            except LeftOut as why:
                records = [{"what": name, "left_out": str(why)}]
            results[section] += [{"name": name, **record} for record in records]
            print(f"{time.monotonic() - start:6.1f} s  {json.dumps(records)}", flush=True)
            with open(arguments.out, "w") as file:
                json.dump(results, file, indent=2)
    refused = "does not compute in bf16"
    asked = [record for record in results["parity"] if refused not in record.get("left_out", "")]
    wrong = [record for record in asked if not record.get("error", float("inf")) < record.get("limit", 0)]
    if wrong:
        raise SystemExit("error: the GPU does not agree with the processor, or was not asked: " + json.dumps(wrong))
    print(f"parity holds; results are in {arguments.out}")


if __name__ == "__main__":
    main()
