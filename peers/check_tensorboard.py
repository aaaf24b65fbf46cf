"""What TensorBoard's own reader finds in a run's event files.

    python check_tensorboard.py --polynet target/release/polynet

A run is made, killed behind a checkpoint and resumed. TensorBoard must then show every record of
`metrics.jsonl`, once and with its numbers, and the pictures and texts beside them.
"""

import argparse
import io
import json
import pathlib
import signal
import subprocess
import tempfile
import time

import numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RECIPE = [
    "recipes/first.toml",
    "model.architecture=small-ir-1-2-1; width = 0.0625",
    "training.batch_size=16",
    "training.duration=40 steps",
    "training.checkpoint_every=10 steps",
    "training.validate_every=20 steps",
    "training.log_every=1",
    "schedule.warm_up=1 step",
    "record.tensorboard=true",
]
SCALARS = {
    "train": ["loss", "top1", "learning_rate", "images_per_s"],
    "validation": ["loss", "top1", "top5"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polynet", required=True)
    polynet = str(pathlib.Path(parser.parse_args().polynet).resolve())
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        kill_once_it_has(run, 25, [polynet, "train", *RECIPE, "--out", str(run)])
        subprocess.run([polynet, "train", "--resume", str(run)], check=True, stdout=subprocess.DEVNULL)
        records = [json.loads(line) for line in open(run / "metrics.jsonl")]
        files = list((run / "tensorboard").iterdir())
        assert len(files) == 2, files
        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
        events.Reload()
        check_scalars(events, records)
        check_pictures(events)
        [recipe] = {text(event) for event in events.Tensors("recipe")}
        assert (run / "recipe.toml").read_text() in recipe, recipe
        print(f"TensorBoard reads the {len(records)} records of a run that was killed and resumed, its pictures and texts")


def kill_once_it_has(run, steps, command):
    """Starts a run and kills it once its metrics have so many steps."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    for _ in range(6000):
        if metrics.exists() and f'"step":{steps},' in metrics.read_text():
            break
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def check_scalars(events, records):
    for kind, names in SCALARS.items():
        kept = [record for record in records if record["kind"] == kind]
        assert kept, f"no record of kind {kind}"
        for name in names:
            found = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
            expected = [(record["step"], float(numpy.float32(record[name]))) for record in kept]
            if name == "images_per_s":
                # Speeds of steps that were made twice differ.
                found, expected = ([step for step, _ in pairs] for pairs in (found, expected))
            assert found == expected, f"{kind}/{name}: {found} instead of {expected}"


def check_pictures(events):
    tags = events.Tags()["images"]
    augmented = [tag for tag in tags if tag.startswith("train/images")]
    assert len(augmented) == 16, tags
    seen = {Image.open(io.BytesIO(events.Images(tag)[0].encoded_image_string)).tobytes() for tag in augmented}
    assert len(seen) == 16, "pictures that are the same"
    matrices = events.Images("validation/confusion")
    assert [event.step for event in matrices] == [20, 40], matrices
    picture = Image.open(io.BytesIO(matrices[-1].encoded_image_string))
    assert picture.size == (320, 320) and (matrices[-1].width, matrices[-1].height) == (320, 320)


def text(event):
    return event.tensor_proto.string_val[0].decode()


if __name__ == "__main__":
    main()
