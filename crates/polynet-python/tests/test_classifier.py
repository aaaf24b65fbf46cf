"""The estimator in scikit-learn's manner."""

import json
import pickle
import subprocess
import sys

import numpy as np
import PIL.Image
import polynet
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_classifiers_train, check_estimator
from sklearn.utils.validation import validate_data

QUICK = {"epochs": 1, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="module")
def fitted(photographs):
    images, labels = photographs
    return polynet.Classifier(epochs=10, batch_size=16, random_state=0).fit(images[::2], labels[::2])


def test_it_learns_to_tell_aeroplanes_from_frogs(fitted, photographs):
    images, labels = photographs
    assert list(fitted.classes_) == ["airplane", "frog"] == fitted.model_.classes
    probabilities = fitted.predict_proba(images[1::2])
    assert probabilities.shape == (100, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = fitted.predict(images[1::2])
    assert (predicted == fitted.classes_[probabilities.argmax(axis=1)]).all()
    accuracy = fitted.score(images[1::2], labels[1::2])
    assert accuracy == np.mean(predicted == labels[1::2])
    # Chance gives 0.5, with a standard deviation of 0.05.
    assert accuracy > 0.7


def test_images_may_be_paths_arrays_or_pillow_images(photographs, tmp_path):
    images, labels = photographs
    images, labels = images[60:140], labels[60:140]
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        PIL.Image.fromarray(image).save(paths[-1])
    pictures = [PIL.Image.fromarray(image) for image in images]
    expected = polynet.Classifier(**QUICK).fit(images, labels).predict_proba(images)
    for given in [list(images), paths, [str(path) for path in paths], np.array(paths, dtype=object), pictures]:
        found = polynet.Classifier(**QUICK).fit(given, labels).predict_proba(given)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", [[7, -1], [True, False], ["a/b", ".."], ["frog", "Frog"], [2.0, 3.0]])
def test_labels_are_given_back_as_they_came(photographs, labels):
    images, _ = photographs
    y = np.repeat(labels, 100)
    estimator = polynet.Classifier(**QUICK).fit(images, y)
    np.testing.assert_array_equal(estimator.classes_, np.unique(y))
    assert set(estimator.predict(images)) <= set(labels)


def test_the_columns_are_the_classes_wherever_the_model_has_them(photographs):
    images, _ = photographs
    # As texts, 10 comes before 9.
    y = np.repeat([9, 10], 100)
    estimator = polynet.Classifier(epochs=4, batch_size=16, random_state=0).fit(images, y)
    assert estimator.model_.classes == ["10", "9"] and list(estimator.classes_) == [9, 10]
    assert estimator.score(images, y) > 0.7


def test_a_seed_gives_the_same_network(photographs):
    images, labels = photographs

    def probabilities(seed):
        return polynet.Classifier(**{**QUICK, "random_state": seed}).fit(images, labels).predict_proba(images[:5])

    one = probabilities(1)
    np.testing.assert_array_equal(probabilities(1), one)
    assert not np.array_equal(probabilities(2), one)
    state = np.random.RandomState
    np.testing.assert_array_equal(probabilities(state(5)), probabilities(state(5)))


def test_it_is_pickled_with_its_weights(fitted, photographs):
    images, _ = photographs
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy.model_.folder != fitted.model_.folder
    np.testing.assert_array_equal(copy.predict_proba(images), fitted.predict_proba(images))


def test_it_is_cloned_searched_and_validated(photographs):
    images, labels = photographs
    estimator = polynet.Classifier(**QUICK)
    assert is_classifier(estimator)
    copy = clone(estimator.set_params(learning_rate=0.002))
    assert copy.get_params() == estimator.get_params() and copy.learning_rate == 0.002
    assert cross_val_score(estimator, images, labels, cv=2).shape == (2,)
    search = GridSearchCV(estimator, {"learning_rate": [0.001, 0.004]}, cv=2).fit(list(images), labels)
    assert search.best_params_["learning_rate"] in (0.001, 0.004)
    assert make_pipeline(polynet.Classifier(**QUICK)).fit(images, labels).predict(images[:3]).shape == (3,)


def test_a_recipes_keys_and_its_run_are_the_users(photographs, tmp_path):
    images, labels = photographs
    steps = []
    estimator = polynet.Classifier(
        "small-ir-1-2-1; width = 0.125",
        **QUICK,
        recipe={"training__duration": "3 steps", "augmentation__flip": 0.0},
        out=tmp_path / "run",
        on_step=steps.append,
    ).fit(images, labels)
    assert len(steps) == 3
    run = polynet.Run(tmp_path / "run")
    assert "flip = 0.0" in run.recipe
    assert estimator.metrics_ == run.metrics
    np.testing.assert_array_equal(run.model().logits(images[:3]), estimator.model_.logits(images[:3]))
    assert str(estimator.model_.architecture).startswith(str(run.model().architecture)[:20])


def test_what_cannot_be_learned_from_is_refused(photographs, tmp_path):
    images, labels = photographs
    estimator = polynet.Classifier(**QUICK)
    for X, y, text in [
        (images, labels[:5], "a label for each of 200 images"),
        (images, np.zeros(200), "at least two classes"),
        ([], [], "at least one image"),
        (images[0], labels, r"\[images, height, width, 3\]"),
        ("photo.jpg", ["frog"], "found one image"),
        (images / 255, labels, "uint8"),
        (images, np.linspace(0, 1, 200), "Unknown label type"),
        ([tmp_path / "no.jpg"] * 2, ["a", "b"], "no.jpg"),
    ]:
        with pytest.raises(ValueError, match=text):
            estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(images)


class OfTables(polynet.Classifier):
    """The estimator for scikit-learn's checks, whose X are tables: a row becomes an image of a bar for each number."""

    def __init__(self, epochs=1, batch_size=16, random_state=0):
        super().__init__(epochs=epochs, batch_size=batch_size, random_state=random_state)

    def get_params(self, deep=True):
        return {name: getattr(self, name) for name in ("epochs", "batch_size", "random_state")}

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        return super().fit(self.images(X), y)

    def predict_proba(self, X):
        self._check_is_fitted()
        return super().predict_proba(self.images(validate_data(self, X, reset=False)))

    def images(self, X):
        values = np.clip(128 + 32 * X, 0, 255).astype(np.uint8)
        # Flips from side to side leave such bars where they are.
        return [np.repeat(np.repeat(row[:, None], 4, axis=0), 8, axis=1) for row in values]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        tags.no_validation = False
        return tags


@pytest.mark.filterwarnings("ignore")
def test_it_passes_scikit_learns_checks():
    # The one that asks for accuracy needs more than an epoch.
    results = check_estimator(
        OfTables(), expected_failed_checks={"check_classifiers_train": "epochs"}, on_fail=None, on_skip=None
    )
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {} and len(results) > 45
    check_classifiers_train("OfTables", OfTables(epochs=2))


def test_it_does_without_scikit_learn(photographs, tmp_path):
    images, labels = photographs
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    script = """
import json, pickle, sys
sys.modules["sklearn"] = None
import numpy as np, polynet
images, labels = np.load("images.npy"), np.load("labels.npy")
estimator = polynet.Classifier(epochs=1, batch_size=16).set_params(random_state=0)
try:
    estimator.predict(images)
except ValueError as error:
    assert "not fitted" in str(error)
estimator.fit(images, labels)
copy = pickle.loads(pickle.dumps(estimator))
try:
    estimator.set_params(depth=3)
except ValueError as error:
    assert "depth" in str(error)
print(json.dumps([estimator.predict_proba(images).tolist(), copy.score(images, labels)]))
"""
    words = [sys.executable, "-c", script]
    said = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=tmp_path).stdout)
    estimator = polynet.Classifier(**QUICK).fit(images, labels)
    np.testing.assert_array_equal(said[0], estimator.predict_proba(images))
    assert said[1] == estimator.score(images, labels)
