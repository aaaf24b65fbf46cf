"""Our server beside FastAPI with ONNX Runtime: photographs a second, and how long a request takes.

    cargo xtask bench serve
    cargo xtask bench serve --overload 300        # ours alone, with ten times as many clients as it lets wait
    python peers/bench_serve.py --polynet target/release/polynet --rounds 3 --seconds 10

`wrk` sends a JPEG again and again over as many connections as are said, to one server after the other. The peer is
started in two ways, a worker for each core with a session of one thread, and one worker whose session has all
threads; at each number of connections the better one counts. It computes in f32; ours does as it does by itself, and
in each precision that is named besides (`--precision auto f32`). Networks: the model in the box on a picture of
CIFAR-10's size, and Very Deep PolyNet with random weights on a photograph. First both must give the same classes.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

import random_model

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PORTS = {"ours": 8801, "workers": 8802, "threads": 8803}
PEERS = ["workers", "threads"]
CONNECTIONS = [1, 8, 64]
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def small(arguments, folder):
    """The model in the box, and a picture of the size that it was trained on."""
    with tarfile.open(ROOT / "assets/cifar10-small.tar") as archive:
        member = next(member for member in archive if member.name.endswith(".jpg"))
        photo = folder / "small.jpg"
        photo.write_bytes(archive.extractfile(member).read())
    return ROOT / "crates/polynet/pretrained", photo


def large(arguments, folder):
    """Very Deep PolyNet with random weights, and a photograph."""
    random_model.make(arguments.polynet, "very-deep-polynet", folder / "large")
    return folder / "large", ROOT / "crates/polynet/src/data/fixtures/images/photo.jpg"


NETWORKS = {"small": small, "very-deep-polynet": large}


@contextlib.contextmanager
def running(command, environment=None):
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=HERE,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def ask(port, photo):
    """The classes of a photograph, from the most to the least probable."""
    body = photo.read_bytes()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/classify", data=body, method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["classes"]


def wait_for(port, photo, process):
    for _ in range(600):
        with contextlib.suppress(OSError):
            return ask(port, photo)
        if process.poll() is not None:
            sys.exit(f"the server on port {port} ended with status {process.returncode}")
        time.sleep(0.1)
    sys.exit(f"no answer on port {port}")


def servers(arguments, model, onnx):
    """The commands of the servers, and their variables."""
    peer = [sys.executable, "-m", "uvicorn", "serve_fastapi:app", "--log-level", "warning"]
    variables = {"MODEL": str(onnx), "CONFIG": str(model / "config.json")}
    cores = str(os.cpu_count())
    ours = [arguments.polynet, "serve", f"model={model}", "--log", "off", "--deadline", "300"]
    ours += ["--listen", f"127.0.0.1:{PORTS['ours']}"]
    return {
        **{precision: (ours + ["--precision", precision], {}) for precision in arguments.precision},
        "workers": (
            peer + ["--port", PORTS["workers"], "--workers", cores],
            {**variables, "THREADS": "1"},
        ),
        "threads": (peer + ["--port", PORTS["threads"]], {**variables, "THREADS": cores}),
    }


def port(who):
    return PORTS.get(who, PORTS["ours"])


def load(port, script, connections, seconds):
    """Requests a second, and the times in seconds that half and 99 of 100 requests stay under."""
    command = ["wrk", "--threads", 1, "--connections", connections, "--duration", f"{seconds}s"]
    command += ["--timeout", "300s", "--latency", "--script", script, f"http://127.0.0.1:{port}/classify"]
    text = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"refused requests on port {port}:\n{text}")
    rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", text)[1])
    times = {}
    for share, number, unit in re.findall(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m)\s*$", text, re.M):
        times[share] = float(number) * UNITS[unit]
    if set(times) != {"50", "99"}:
        sys.exit(f"wrk said on port {port}:\n{text}")
    return rate, times["50"], times["99"]


def memory(process):
    """Bytes of a process in memory."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def overload(arguments, folder):
    """What our server takes of memory while ten clients ask for each picture that it lets wait."""
    model, photo = small(arguments, folder)
    script = post(folder, photo)
    command = [arguments.polynet, "serve", f"model={model}", "--log", "off", "--listen", f"127.0.0.1:{PORTS['ours']}"]
    queue = 64
    with running([*command, "--queue", queue]) as process:
        wait_for(PORTS["ours"], photo, process)
        idle = memory(process)
        wrk = ["wrk", "--threads", "1", "--connections", str(10 * queue), "--duration", f"{arguments.overload}s"]
        wrk += ["--script", script, f"http://127.0.0.1:{PORTS['ours']}/classify"]
        clients = subprocess.Popen(wrk, stdout=subprocess.PIPE, text=True)
        taken = []
        while clients.poll() is None:
            time.sleep(0.5)
            taken.append(memory(process))
        text = clients.stdout.read()
        ask(PORTS["ours"], photo)
    asked = int(re.search(r"(\d+) requests in", text)[1])
    refused = int((re.search(r"Non-2xx or 3xx responses: (\d+)", text) or [0, "0"])[1])
    first, last = max(taken[: len(taken) // 3]), max(taken[-len(taken) // 3 :])
    print(
        f"{asked} requests in {arguments.overload} s over {10 * queue} connections, {asked - refused} answered, {refused} refused; "
        f"memory {idle / 1e6:.0f} MB before, at most {first / 1e6:.0f} MB in the first third and {last / 1e6:.0f} MB in the last"
    )
    if refused == 0 or asked == refused or last > 1.1 * first:
        sys.exit(f"expected some refused, some answered, and no memory that grows:\n{text}")


def post(folder, photo):
    """wrk's script that sends a photograph."""
    script = folder / "post.lua"
    text = f'local file = io.open("{photo}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\n'
    script.write_text(text + 'wrk.headers["Content-Type"] = "image/jpeg"\n')
    return script


def measure(arguments, name, folder):
    model, photo = NETWORKS[name](arguments, folder)
    onnx = folder / f"{name}.onnx"
    random_model.run(arguments.polynet, "export", model, "--onnx", onnx)
    script = post(folder, photo)
    commands = servers(arguments, model, onnx)
    first = {}
    for who, (command, variables) in commands.items():
        with running(command, variables) as process:
            first[who] = wait_for(port(who), photo, process)[0]
    for who in arguments.precision:
        ours, theirs = first[who], first["workers"]
        if ours["class"] != theirs["class"] or abs(ours["probability"] - theirs["probability"]) > 0.01:
            sys.exit(f"{name}, {who}: we say {ours}, the peer {theirs}")
    found = {}
    for _ in range(arguments.rounds):
        for who, (command, variables) in commands.items():
            with running(command, variables) as process:
                wait_for(port(who), photo, process)
                load(port(who), script, 8, 2)
                for connections in arguments.connections:
                    result = load(port(who), script, connections, arguments.seconds)
                    found.setdefault((who, connections), []).append(result)
    rows = []
    for connections in arguments.connections:
        medians = {
            who: [statistics.median(values) for values in zip(*found[who, connections])] for who in commands
        }
        best = max(PEERS, key=lambda who: medians[who][0])
        for precision in arguments.precision:
            sides = {"ours": medians[precision], **{who: medians[who] for who in PEERS}}
            rows.append({"network": name, "precision": precision, "connections": connections, "peer": best, **sides})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--polynet", default="target/release/polynet", type=Path)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--connections", nargs="*", type=int, default=CONNECTIONS)
    parser.add_argument("--precision", nargs="*", default=["auto"], choices=["auto", "f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--overload", type=int, metavar="SECONDS", help="ask ours for more than it can do instead")
    arguments = parser.parse_args()
    arguments.polynet = arguments.polynet.resolve()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.overload:
            return overload(arguments, Path(folder))
        rows = [row for name in arguments.networks for row in measure(arguments, name, Path(folder))]
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| network | precision | connections | ours: images/s, p50, p99 | best peer | ratio of images/s | of p99 |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ours, theirs = row["ours"], row[row["peer"]]
        shown = [f"{rate:.1f}, {1e3 * half:.1f} ms, {1e3 * most:.1f} ms" for rate, half, most in (ours, theirs)]
        ratios = f"{ours[0] / theirs[0]:.2f} | {ours[2] / theirs[2]:.2f}"
        case = f"{row['network']} | {row['precision']} | {row['connections']}"
        print(f"| {case} | {shown[0]} | {row['peer']}: {shown[1]} | {ratios} |")


if __name__ == "__main__":
    main()
