"""Results of `bench.py` by processor, in docs/performance: what a run is compared with, and what the tables there are made of.

    cargo xtask bench peers --save                   writes docs/performance/VENDOR-FAMILY-MODEL.json
    cargo xtask bench tables                         makes the tables of docs/performance.md anew
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess

FOLDER = "docs/performance"
# A ratio to the best peer that is larger than the saved one by more than this is told.
TOLERANCE = 0.05
PACKAGES = ["torch", "onnxruntime", "openvino"]
# What cloud machines call only "AMD EPYC" or "Intel Xeon Processor": vendor, family, models, core.
CORES = [
    ("AuthenticAMD", 23, range(0x31, 0x32), "Zen 2, Rome"),
    ("AuthenticAMD", 25, range(0x00, 0x10), "Zen 3, Milan"),
    ("AuthenticAMD", 25, range(0x10, 0x20), "Zen 4, Genoa"),
    ("AuthenticAMD", 25, range(0xA0, 0xB0), "Zen 4c, Bergamo"),
    ("AuthenticAMD", 26, range(0x00, 0x20), "Zen 5, Turin"),
    ("GenuineIntel", 6, range(85, 86), "Skylake, Cascade Lake"),
    ("GenuineIntel", 6, range(106, 107), "Ice Lake"),
    ("GenuineIntel", 6, range(143, 144), "Sapphire Rapids"),
    ("GenuineIntel", 6, range(173, 174), "Granite Rapids"),
    ("GenuineIntel", 6, range(207, 208), "Emerald Rapids"),
]


def cpuinfo():
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = file.read().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def caches():
    """Sizes of a core's caches, such as {"L2": "512K"}."""
    found = {}
    root = "/sys/devices/system/cpu/cpu0/cache"
    for index in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        read = lambda name: open(os.path.join(root, index, name)).read().strip()
        if index.startswith("index") and read("type") != "Instruction":
            found["L" + read("level")] = read("size")
    return found


def machine():
    """What computes here, and in which versions of whose programs."""
    info = cpuinfo()
    vendor, family, model = info.get("vendor_id", platform.machine()), int(info.get("cpu family", 0)), int(info.get("model", 0))
    known = (core for of, fam, models, core in CORES if (of, fam) == (vendor, family) and model in models)
    return {
        "processor": info.get("model name", platform.machine()),
        "core": next(known, None),
        "vendor": vendor,
        "family": family,
        "model": model,
        "cores": os.cpu_count(),
        "caches": caches(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def path(machine):
    vendor = re.sub("[^a-z0-9]+", "-", machine["vendor"].lower().replace("authentic", "").replace("genuine", ""))
    return os.path.join(FOLDER, f"{vendor}-{machine['family']}-{machine['model']}.json")


def read(file):
    if not os.path.exists(file):
        return None
    with open(file) as text:
        return json.load(text)


def key(record):
    return record["work"], record["threads"]


def told(record, saved):
    """What is worse than in the saved results of this processor model, in words; nothing where all is well."""
    known = {key(one): one for one in saved["rows"]} if saved else {}
    before = known.get(key(record))
    if before is None or record["ratio"] <= before["ratio"] * (1 + TOLERANCE):
        return None
    return (
        f"regression: {record['work']} on {record['threads']} threads has a ratio of {record['ratio']:.2f} to the best peer, "
        f"and had {before['ratio']:.2f} on {before['date']}"
    )


def save(file, machine, record, polynet):
    """Puts a row into the results of this processor model, in the place of an earlier one."""
    saved = read(file) or {"rows": []}
    version = subprocess.run([polynet, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = version.splitlines()
    row = {**record, "date": datetime.date.today().isoformat(), "polynet": lines[0].split()[-1], "versions": machine["versions"]}
    sets = next((line.partition(":")[2].strip() for line in lines if line.startswith("instruction sets")), None)
    rows = [one for one in saved["rows"] if key(one) != key(row)] + [row]
    about = {name: value for name, value in machine.items() if name != "versions"}
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file + ".new", "w") as text:
        json.dump({**about, "instruction_sets": sets, "rows": sorted(rows, key=key)}, text, indent=1)
        text.write("\n")
    os.replace(file + ".new", file)
