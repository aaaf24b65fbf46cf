"""What Arrow and DuckDB read of predictions that are written as Parquet.

    python check_parquet.py --polynet target/release/polynet

Photographs, and files that are none, are classified into a Parquet file that was killed on its way, and into JSON lines
at once. Both readers must find the rows of the JSON lines, to the bit and in their order.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import tempfile
import time

import duckdb
import pyarrow.parquet

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "assets/cifar10-small.tar"
TOP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polynet", required=True)
    polynet = str(pathlib.Path(parser.parse_args().polynet).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "broken").mkdir()
        (folder / "broken" / 'no "picture", at\tall.jpg').write_bytes(b"no picture")
        command = [polynet, "predict", str(ARCHIVE), str(folder / "broken"), "--top", str(TOP), "--out"]
        lines, table = folder / "classes.jsonl", folder / "classes.parquet"
        assert finished([*command, str(lines)]) == 1
        kill_once_it_has(table, [*command, str(table)])
        assert finished([*command, str(table)]) == 1
        expected = [row(json.loads(line)) for line in open(lines, encoding="utf-8")]
        assert len(expected) > 100 and expected[-1]["error"], expected[-1:]
        found = {"Arrow": by_arrow(table), "DuckDB": by_duckdb(table)}
        for reader, rows in found.items():
            assert rows == expected, f"{reader} reads {first_difference(rows, expected)}"
        print(f"Arrow {pyarrow.__version__} and DuckDB {duckdb.__version__} read the {len(expected)} rows as they were written")


def finished(command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def kill_once_it_has(table, command):
    """Starts a prediction and kills it once it has some rows."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = pathlib.Path(f"{table}.part")
    for _ in range(6000):
        if part.exists() and part.stat().st_size > 0:
            break
        assert process.poll() is None, "the prediction ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists() and not table.exists(), "the prediction ended before it was killed"


def row(line):
    """A line of JSON by the columns of the table."""
    columns = {"image": line["image"]}
    for place in range(TOP):
        found = dict(enumerate(line.get("classes", []))).get(place, {})
        columns |= {f"class_{place + 1}": found.get("class"), f"probability_{place + 1}": found.get("probability")}
    return columns | {"error": line.get("error")}


def by_arrow(table):
    return pyarrow.parquet.read_table(table).to_pylist()


def by_duckdb(table):
    found = duckdb.execute("select * from read_parquet(?)", [str(table)])
    names = [column[0] for column in found.description]
    return [dict(zip(names, values)) for values in found.fetchall()]


def first_difference(rows, expected):
    pairs = zip(rows, expected)
    return next((pair for pair in pairs if pair[0] != pair[1]), f"{len(rows)} rows of {len(expected)}")


if __name__ == "__main__":
    main()
