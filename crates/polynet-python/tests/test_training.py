"""Training, resuming, growing, and looking through data."""

import _thread
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import polynet
import pytest

from conftest import CIFAR, PICTURES, ROOT, recipe, tensors


def weights(run):
    return (run.folder / "model/model.safetensors").read_bytes()


def test_a_recipe_is_a_path_a_dict_or_a_text(tmp_path):
    text = polynet.recipe(recipe())
    path = tmp_path / "tested.toml"
    path.write_text(text)
    assert polynet.recipe(text) == polynet.recipe(path) == polynet.recipe(str(path)) == text
    first = polynet.recipe(ROOT / "recipes/first.toml")
    assert 'architecture = "small-polynet; width = 0.125"' in first and 'name = "first"' in first


def test_keys_are_overridden():
    changed = polynet.recipe(
        recipe(),
        training__duration="3 epochs",
        seed=np.int64(8),
        data__path=PICTURES,
        model={"architecture": polynet.Architecture("small-ir-1-2-1")},
        schedule={"kind": "constant", "learning_rate": 0.25},
    )
    for line in ['duration = "3 epochs"', "seed = 8", f'path = "{PICTURES}"', "learning_rate = 0.25"]:
        assert line in changed.splitlines()
    assert "one-cycle" not in changed
    assert str(polynet.Architecture("small-ir-1-2-1")) in changed


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"training__batchsize": 3}, "batch_size"),
        ({"training__duration": "soon"}, "soon"),
        ({"seed": None}, "None"),
        ({"seed": "x", "training__batch_size": 0}, "seed(.|\n)*batch_size"),
    ],
)
def test_faults_of_a_recipe_are_told(overrides, text):
    with pytest.raises(polynet.Error, match=text):
        polynet.recipe(recipe(), **overrides)


def test_steps_and_validations_are_told(tmp_path):
    steps, validations = [], []
    run = polynet.train(recipe(), steps.append, on_validation=validations.append, out=tmp_path / "run")
    assert [step.step for step in steps] == list(range(1, 13))
    assert {step.total_steps for step in steps} == {12}
    assert all(np.isfinite(step.loss) and 0 <= step.top1 <= 1 for step in steps)
    assert steps[-1].images_per_s > 0
    assert steps[-1].epoch == pytest.approx(12 / 125)
    assert repr(steps[0]).startswith("Step(step=1, total_steps=12, ")
    # The means of four steps are recorded with the fourth.
    records = [record for record in run.metrics if record["kind"] == "train"]
    assert [(r["step"], r["loss"]) for r in records] == [(s.step, s.loss) for s in steps if s.step % 4 == 0]
    (validation,) = [record for record in run.metrics if record["kind"] == "validation"]
    assert validation["top1"] == validations[-1].top1 == run.report["top1"]
    assert np.trace(run.report["confusion"]) == round(validation["top1"] * run.report["images"])
    assert 'duration = "12 steps"' in run.recipe
    assert run._repr_svg_().startswith("<svg")
    assert os.fspath(run) == str(tmp_path / "run")


def test_the_command_trains_to_the_same_bits(run, command, tmp_path):
    (tmp_path / "recipe.toml").write_text(polynet.recipe(recipe()))
    command("train", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    assert weights(polynet.Run(tmp_path / "run")) == weights(run)


def test_an_exception_of_a_callback_stops_the_run_which_goes_on_to_the_same_bits(run, tmp_path):
    class Enough(Exception):
        pass

    def stop(step):
        if step.step == 7:
            raise Enough

    with pytest.raises(Enough) as caught:
        polynet.train(recipe(), stop, out=tmp_path / "run")
    if sys.version_info >= (3, 11):
        assert "stopped after step 7" in caught.value.__notes__[0]
    assert polynet.Run(tmp_path / "run").report is None
    steps = []
    resumed = polynet.resume(tmp_path / "run", steps.append)
    assert [step.step for step in steps] == list(range(8, 13))
    assert weights(resumed) == weights(run)


def test_ctrl_c_saves_and_raises(run, tmp_path):
    script = f"""
import sys, polynet
def on_step(step):
    print(step.step, flush=True)
polynet.train(sys.argv[1], on_step, out=sys.argv[2])
"""
    (tmp_path / "recipe.toml").write_text(polynet.recipe(recipe()))
    words = [sys.executable, "-c", script, tmp_path / "recipe.toml", tmp_path / "run"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == "3\n":
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert any((tmp_path / "run/checkpoints").iterdir())
    assert weights(polynet.resume(tmp_path / "run")) == weights(run)


def test_a_folder_that_has_a_run_is_refused(run):
    with pytest.raises(polynet.Error, match="expected a new or an empty run folder"):
        polynet.train(recipe(), out=run.folder)
    with pytest.raises(polynet.Error, match="nothing"):
        polynet.resume(run.folder / "none")


def test_data_that_has_changed_is_refused_unless_accepted(tmp_path):
    data = tmp_path / "data"
    for split in ("train", "val"):
        for number, name in enumerate(("a", "b")):
            (data / split / name).mkdir(parents=True)
            for copy in range(8):
                (data / split / name / f"{copy}.png").write_bytes(
                    (PICTURES / ("grey.png", "palette.png")[number]).read_bytes()
                )
    small = recipe(
        model={"architecture": "small-polynet; width = 0.125; classes = 2"},
        data={"path": data},
        training={"batch_size": 16, "duration": "4 steps"},
    )

    def stop(step):
        if step.step == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        polynet.train(small, stop, out=tmp_path / "run")
    (data / "train/a/9.png").write_bytes((PICTURES / "alpha.png").read_bytes())
    with pytest.raises(polynet.Error, match="it had 16 images and has 17"):
        polynet.resume(tmp_path / "run")
    assert polynet.resume(tmp_path / "run", accept_changed_data=True).report["images"] == 16


def test_warnings_are_pythons(tmp_path):
    with pytest.warns(polynet.TrainingWarning, match="warm-up"):
        polynet.train(recipe(schedule={"warm_up": "5 epochs"}, training={"duration": "2 steps"}), out=tmp_path / "run")


def test_data_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(polynet.FileError, match="nothing"):
        polynet.train(recipe(data={"path": "nothing"}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(OSError):
        polynet.train(tmp_path / "no.toml")


def test_a_grown_model_computes_what_the_model_computes(run, model, command, tmp_path):
    larger = "small-polynet; width = 0.125; A: 3-way x3"
    grown = polynet.grow(run, larger, tmp_path / "grown", start="same-function")
    photo = PICTURES / "photo.jpg"
    np.testing.assert_allclose(grown.model().logits(photo), model.logits(photo), rtol=1e-4, atol=1e-4)
    assert grown.model().architecture.parameters > model.architecture.parameters
    assert grown.report["start"] == "same-function"
    command("grow", model.folder, "--to", larger, "--out", tmp_path / "other", "--start", "same-function")
    ours, others = tensors(tmp_path / "grown"), tensors(tmp_path / "other")
    assert ours.keys() == others.keys() and all(np.array_equal(ours[name], others[name]) for name in ours)


def test_growing_gives_names_to_new_classes(model, tmp_path):
    classes = [*model.classes, "yeti"]
    larger = polynet.Architecture("small-polynet; width = 0.125", classes=11)
    grown = polynet.grow(model, larger, tmp_path / "grown", classes=classes)
    assert grown.model().classes == classes
    with pytest.raises(polynet.Error, match="not empty"):
        polynet.grow(model, larger, tmp_path / "grown")
    with pytest.raises(polynet.Error, match="placement: expected"):
        polynet.grow(model, larger, tmp_path / "other", placement="below")
    with pytest.raises(polynet.Error, match="width"):
        polynet.grow(model.folder, "small-polynet", tmp_path / "other")


def test_the_command_finds_the_same_in_data(model, command):
    report = polynet.check_data(CIFAR)
    assert report == json.loads(command("data", "check", CIFAR, "--json"))
    assert report["breaks_training"] is False
    assert sum(split["images"] for split in report["splits"]) == 4800


def test_what_would_break_training_is_found(model, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "yeti").mkdir(parents=True)
        (tmp_path / split / "yeti/1.png").write_bytes((PICTURES / "rgb.jpg").read_bytes()[:100])
    report = polynet.check_data(tmp_path, model=model.folder)
    assert report["breaks_training"] is True
    assert report["unknown_classes"] == ["yeti"] and report["finding_counts"]["broken"] == 2
    with pytest.raises(OSError):
        polynet.check_data(tmp_path / "nothing")


def test_ctrl_c_stops_a_check(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number in range(3000):
            (tmp_path / split / "a" / f"{number}.jpg").symlink_to(PICTURES / "photo.jpg")
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        polynet.check_data(tmp_path)


def test_other_threads_run_while_a_network_is_trained(tmp_path):
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    moments = []
    ticker.start()
    larger = recipe(training={"batch_size": 64, "duration": "6 steps"})
    polynet.train(larger, lambda _: moments.append(time.perf_counter()), out=tmp_path / "run")
    stop.set()
    ticker.join()
    # Between two steps no Python runs but the other thread's.
    assert len([t for t in ticks if moments[0] < t < moments[-1]]) >= 10


def test_messages_go_to_the_log(tmp_path, caplog):
    paths = {"stochastic_paths": {"when": "always", "max_drop": 0.25}}
    with caplog.at_level(logging.INFO, "polynet"):
        short = recipe(training={"duration": "2 steps"}, schedule={"warm_up": "1 steps"})
        polynet.train({**short, **paths}, out=tmp_path / "run")
    assert "paths" in caplog.text
