"""A model folder, opened."""

import _thread
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import polynet
import pytest

from conftest import PICTURES, tensors

PHOTO = PICTURES / "photo.0-0-320-240-64.png"
BOX = Path(__file__).parents[2] / "polynet/pretrained"


def pixels(path=PHOTO):
    return np.asarray(PIL.Image.open(path).convert("RGB"))


def test_an_image_may_be_a_path_bytes_an_array_or_a_pillow_image(model):
    expected = model.logits(str(PHOTO))
    assert expected.shape == (10,) and expected.dtype == np.float32
    content = PHOTO.read_bytes()
    for image in [PHOTO, content, bytearray(content), pixels(), PIL.Image.open(PHOTO), io.BytesIO(content)]:
        if isinstance(image, io.BytesIO):
            image = PIL.Image.open(image)
        np.testing.assert_array_equal(model.logits(image), expected)


def test_pixels_are_read_in_their_order_whatever_the_strides(model):
    image = pixels()
    expected = model.logits(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_array_equal(model.logits(image[:, ::-1]), expected)
    np.testing.assert_array_equal(model.logits(np.asfortranarray(image[:, ::-1])), expected)
    assert not np.array_equal(model.logits(image), expected)
    wide = image[:32]
    assert not np.array_equal(model.logits(wide), model.logits(wide.transpose(1, 0, 2)))


def test_grey_is_three_equal_channels(model):
    grey = pixels()[:, :, 0]
    expected = model.logits(np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(model.logits(grey), expected)
    np.testing.assert_array_equal(model.logits(grey[:, :, None]), expected)
    np.testing.assert_array_equal(model.logits(PIL.Image.fromarray(grey)), expected)


@pytest.mark.parametrize("name", ["alpha.png", "palette.png", "grey.png", "rgb.jpg", "444.jpg"])
def test_pillow_and_the_library_decode_alike(model, name):
    ours, pillows = model.logits(PICTURES / name), model.logits(PIL.Image.open(PICTURES / name))
    np.testing.assert_allclose(ours, pillows, atol=0.05 if name.endswith("jpg") else 0)


def test_lists_give_lists(model):
    images = [str(PHOTO), pixels()[:, ::-1], PICTURES / "photo.jpg"]
    one_by_one = np.stack([model.logits(image) for image in images])
    for several in [images, tuple(images), iter(images), np.array(images, dtype=object)]:
        np.testing.assert_allclose(model.logits(several), one_by_one, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.logits(images, batch=2), one_by_one, rtol=1e-5, atol=1e-5)
    stack = np.stack([pixels(), pixels()[::-1]])
    np.testing.assert_allclose(model.logits(stack), model.logits(list(stack)), rtol=1e-5, atol=1e-5)
    paths = np.array([str(PHOTO), str(PICTURES / "photo.jpg")])
    assert model.logits(paths).shape == (2, 10)
    assert model.logits([]).shape == (0, 10) and model.classify([]) == []
    assert model.embeddings([]).shape == (0, model.embeddings(PHOTO).shape[0])


def test_classes_are_ranked_by_the_softmax_of_the_logits(model):
    logits = model.logits(PHOTO).astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    ranking = model.classify(PHOTO, top=3)
    assert [name for name, _ in ranking] == [model.classes[i] for i in np.argsort(-probabilities)[:3]]
    np.testing.assert_allclose([p for _, p in ranking], np.sort(probabilities)[::-1][:3], rtol=1e-6)
    assert len(model.classify(PHOTO)) == 5 and len(model.classify(PHOTO, top=100)) == 10
    assert model.classify([PHOTO, PHOTO], top=3) == [ranking, ranking]


def test_the_command_predicts_the_same(model, command):
    images = [PHOTO, PICTURES / "photo.jpg"]
    printed = json.loads(command("predict", model.folder, *images, "--json", "--top", 10))
    for told, image in zip(printed, images):
        expected = [(row["class"], pytest.approx(row["probability"], rel=1e-5)) for row in told["classes"]]
        assert model.classify(image, top=10) == expected


def test_logits_follow_from_the_embeddings_by_the_classifiers_weights(model):
    weights = tensors(model.folder)
    (name,) = [name for name, value in weights.items() if value.ndim == 2]
    images = [PHOTO, PICTURES / "photo.jpg"]
    expected = model.embeddings(images) @ weights[name].T + weights[name.replace("weight", "bias")]
    np.testing.assert_allclose(model.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_an_explanation_has_the_logits_as_means_of_its_maps(model):
    image = pixels()[:32, :32]
    found = model.explain(image, top=2)
    np.testing.assert_array_equal(found.seen, image)
    assert found.classes == model.classify(image, top=2)
    best = np.sort(model.logits(image))[::-1][:2]
    np.testing.assert_allclose(found.maps.mean(axis=(1, 2)), best, rtol=1e-4, atol=1e-4)
    assert found._repr_svg_().startswith("<svg") and found.classes[0][0] in found._repr_svg_()


def test_a_model_says_what_it_is(model, run):
    assert model.classes == sorted(model.classes) and len(model.classes) == 10
    assert model.architecture == polynet.Architecture("small-polynet; width = 0.125")
    assert model.config == json.loads((run.folder / "model/config.json").read_text())
    assert model.folder == run.folder / "model"
    assert str(model.folder) in repr(model)


def test_a_model_opens_with_threads_precision_and_instructions(model):
    expected = model.logits(PHOTO)
    np.testing.assert_array_equal(polynet.Model.open(model.folder, threads=1).logits(PHOTO), expected)
    for isa in polynet.instruction_sets():
        opened = polynet.Model.open(str(model.folder), isa=isa)
        np.testing.assert_allclose(opened.logits(PHOTO), expected, rtol=1e-3, atol=1e-3)
    rough = polynet.Model.open(model.folder, precision="bf16").logits(PHOTO)
    assert not np.array_equal(rough, expected)
    np.testing.assert_allclose(rough, expected, atol=0.1 * np.abs(expected).max())


def test_a_model_is_pickled_by_its_folder(model):
    copy = pickle.loads(pickle.dumps(polynet.Model.open(model.folder, threads=2)))
    np.testing.assert_array_equal(copy.logits(PHOTO), model.logits(PHOTO))


def test_arrays_are_the_callers(model):
    logits = model.logits(PHOTO)
    logits += 1
    np.testing.assert_array_equal(model.logits(PHOTO) + 1, logits)


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        ("nothing.jpg", polynet.FileError, "nothing.jpg"),
        (b"no image", polynet.Error, "expected a JPEG or PNG"),
        (PHOTO.read_bytes()[:200], polynet.Error, "unexpected end of file"),
        (pixels() / 255, polynet.Error, "found float64"),
        (pixels()[:, :, :2], polynet.Error, "uint8"),
        (pixels()[:0], polynet.Error, "with a pixel"),
        (np.zeros(5, np.uint8), polynet.Error, "uint8"),
        (PIL.Image.new("I;16", (4, 4)), polynet.Error, "mode I;16"),
        (PIL.Image.new("F", (4, 4)), polynet.Error, "mode F"),
        (7, TypeError, "found int"),
        (None, TypeError, "found NoneType"),
        ([[PHOTO]], TypeError, "several"),
        ([PHOTO, b"no image"], polynet.Error, "image 1: "),
    ],
)
def test_what_is_no_image_is_refused(model, image, error, text):
    for ask in [model.logits, model.classify]:
        with pytest.raises(error, match=text):
            ask(image)


def test_a_file_that_is_not_there_is_an_os_error(model):
    with pytest.raises(OSError):
        model.classify("nothing.jpg")
    with pytest.raises(OSError, match="config.json"):
        polynet.Model.open("nothing")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "threads"),
        ({"isa": "mmx"}, "`mmx` is no instruction set"),
        ({"precision": "f8"}, "f8"),
        ({"device": "tpu"}, "unknown device `tpu`"),
    ],
)
def test_what_is_no_option_is_refused(model, options, text):
    with pytest.raises(polynet.Error, match=text):
        polynet.Model.open(model.folder, **options)


def test_other_threads_run_while_a_model_predicts(model):
    images, ticks, stop = [pixels()[:32, :32]] * 4000, [], threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    begin = time.perf_counter()
    model.logits(images, batch=len(images))
    end = time.perf_counter()
    stop.set()
    ticker.join()
    # The lock is held while images become pixels and rows an array, at the ends.
    middle = [t for t in ticks if begin + 0.3 * (end - begin) < t < begin + 0.7 * (end - begin)]
    assert len(middle) >= 3


def test_threads_share_a_model(model):
    images = [pixels()[y : y + 32, x : x + 32] for y in (0, 9, 32) for x in (0, 9, 32)]
    expected = [model.logits(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(model.logits, images * 5), expected * 5):
            np.testing.assert_array_equal(found, wanted)


def test_ctrl_c_is_heard_between_batches(model):
    images = [pixels()[:32, :32]] * 200_000
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        model.logits(images)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_is_told_so_instead_of_waiting_for_ever(model):
    script = """
import os, sys, polynet
model = polynet.Model.open(sys.argv[1])
model.logits(sys.argv[2])
if os.fork():
    os.wait()
else:
    try:
        model.logits(sys.argv[2])
    except polynet.Error as error:
        print(error, flush=True)
    os._exit(0)
"""
    words = [sys.executable, "-W", "ignore", "-c", script, str(model.folder), str(PHOTO)]
    said = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
    assert 'get_context("spawn")' in said


def test_the_model_that_comes_with_the_package_classifies_and_is_pickled():
    model = polynet.Model.pretrained(threads=1)
    assert model.folder is None and "pretrained" in repr(model)
    expected = polynet.Model.open(BOX).logits(PHOTO)
    np.testing.assert_array_equal(model.logits(PHOTO), expected)
    again = pickle.loads(pickle.dumps(model))
    assert again.folder is None
    np.testing.assert_array_equal(again.logits(PHOTO), expected)
