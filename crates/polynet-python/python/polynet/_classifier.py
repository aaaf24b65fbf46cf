"""An estimator in scikit-learn's manner, whose X are images."""

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from . import _native, _runs
from ._errors import Error, FileError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.multiclass import check_classification_targets
except ImportError:
    from ._estimator import BaseEstimator, ClassifierMixin, NotFittedError, check_classification_targets

# Images at once while predicting.
_BATCH = 32
_MODEL_FILES = ("config.json", "model.safetensors")


class Classifier(ClassifierMixin, BaseEstimator):
    """A network that is trained from its beginning on the images that it is given.

    X is a list of images: paths, bytes, arrays of uint8, Pillow images; or an array of uint8
    ``[images, height, width, 3]``. Images may have any sizes.

    Parameters
    ----------
    architecture : the network; the number of classes follows from y.
    epochs : how long it trains. A share of the images, ``validation_fraction``, is held out of it.
    batch_size : images of a step; fewer where there are not so many.
    learning_rate : the highest one of the one-cycle schedule, of AdamW.
    recipe : a dict of a recipe's other keys with two underscores for a dot, as ``polynet.train`` takes them.
    out : a folder to keep the run in; else it is removed after training.
    on_step : as ``polynet.train``'s.
    random_state : seed of weights, order, augmentation and what is held out: an int, a RandomState or None.

    Attributes
    ----------
    classes_ : the labels, sorted. ``model_`` : the ``Model``. ``metrics_`` : the records of training.
    """

    def __init__(
        self,
        architecture="small-polynet; width = 0.125",
        *,
        epochs=10,
        batch_size=32,
        learning_rate=0.004,
        validation_fraction=0.1,
        recipe=None,
        out=None,
        on_step=None,
        random_state=None,
    ):
        self.architecture = architecture
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.recipe = recipe
        self.out = out
        self.on_step = on_step
        self.random_state = random_state

    def fit(self, X, y):
        """Trains a network from its beginning."""
        images, labels = _images(X), np.asarray(y)
        if labels.ndim != 1 or len(labels) != len(images):
            raise Error(f"expected a label for each of {len(images)} images, found y of shape {labels.shape}")
        check_classification_targets(labels)
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise Error(f"expected images of at least two classes, found {len(classes)} class")
        folders = _folder_names(classes)
        with tempfile.TemporaryDirectory(prefix="polynet-") as temporary:
            data = Path(temporary) / "data"
            _write_images(data, images, [folders[target] for target in targets])
            out = Path(temporary) / "run" if self.out is None else self.out
            run = _runs.train(
                self._recipe(data, np.bincount(targets)), self.on_step, out=out, **(self.recipe or {})
            )
            self.metrics_ = run.metrics
            self._files = {name: (run.folder / "model" / name).read_bytes() for name in _MODEL_FILES}
        self.classes_ = classes
        self._open()
        names = self.model_.classes
        self._columns = np.array([names.index(folder) for folder in folders])
        return self

    def predict_proba(self, X):
        """The probabilities of the classes, float64 ``[images, classes]``, columns in the order of ``classes_``."""
        self._check_is_fitted()
        logits = self.model_.logits(_images(X), batch=_BATCH).astype(np.float64)[:, self._columns]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X):
        """The most probable label of each image."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _recipe(self, data, counts):
        architecture = _native.Architecture(str(self.architecture), classes=len(counts))
        # As the library holds images out: of each class one at least, but not its only one.
        held_out = np.floor(counts * self.validation_fraction + 0.5).astype(int)
        trained = (counts - np.where(counts > 1, np.clip(held_out, 1, counts - 1), 0)).sum()
        recipe = {
            "name": "classifier",
            "seed": _seed(self.random_state),
            "model": {"architecture": str(architecture)},
            "data": {"path": os.fspath(data), "validation_fraction": self.validation_fraction},
            "optimizer": {"kind": "adamw", "weight_decay": 0.05},
            "schedule": {
                "kind": "one-cycle",
                "learning_rate": self.learning_rate,
                "warm_up": f"{self.epochs / 5} epochs",
            },
            "training": {
                "batch_size": int(min(self.batch_size, trained)),
                "duration": f"{self.epochs} epochs",
            },
        }
        # A picture as small as the input has no smaller areas to look at.
        if architecture.input_size <= 64:
            recipe["augmentation"] = {"kind": "pad-crop", "padding": architecture.input_size // 8}
        return recipe

    def _open(self):
        """Opens the model from its files' bytes, in a folder that lives as long as the model."""
        folder = tempfile.mkdtemp(prefix="polynet-")
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)
        self.model_ = _native.Model.open(folder)
        weakref.finalize(self.model_, shutil.rmtree, folder, ignore_errors=True)

    def _check_is_fitted(self):
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this Classifier is not fitted yet; call fit first")

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    def __getstate__(self):
        state = super().__getstate__() if hasattr(super(), "__getstate__") else self.__dict__
        return {key: value for key, value in state.items() if key != "model_"}

    def __setstate__(self, state):
        if hasattr(super(), "__setstate__"):
            super().__setstate__(state)
        else:
            self.__dict__.update(state)
        if "_files" in state:
            self._open()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _images(X):
    """X as something of a length whose items are images."""
    if isinstance(X, (str, bytes, bytearray, os.PathLike)) or hasattr(X, "mode"):
        raise Error("expected a list of images, found one image; write [image]")
    images = X if hasattr(X, "__len__") else list(X)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) not in (1, 4):
        raise Error(
            f"expected images, which is a list or an array of uint8 [images, height, width, 3], found an array {shape}"
        )
    if len(images) == 0:
        raise Error("expected at least one image, found none")
    return images


def _folder_names(classes):
    """A folder for each class, by its label where a file system can have it."""
    names = [str(label) for label in classes]
    are_plain = all(re.fullmatch(r"\w[\w .-]*\w|\w", name) for name in names)
    if are_plain and len({name.casefold() for name in names}) == len(names):
        return names
    return [f"class-{number:06}" for number in range(len(names))]


def _write_images(data, images, folders):
    """A folder of images by class: what lies in files is linked to, anything else is written.

    The content says what a file is, whatever its name. Names say which images are held out: they are the same for the
    same images.
    """
    for folder in set(folders):
        (data / folder).mkdir(parents=True)
    for number, (image, folder) in enumerate(zip(images, folders)):
        target = data / folder / f"{number:08}.png"
        if not isinstance(image, (str, os.PathLike)):
            target.write_bytes(_native.encoded(image))
            continue
        source = Path(image).resolve()
        if not source.is_file():
            raise FileError(f"{source}: expected an image, found no file")
        try:
            target.symlink_to(source)
        except OSError:
            shutil.copyfile(source, target)


def _seed(random_state):
    if random_state is None:
        return int(np.random.randint(2**31))
    if hasattr(random_state, "randint"):
        return int(random_state.randint(2**31))
    return int(random_state)
