"""Training, runs and growing."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from . import _native
from ._native import Model


class Run:
    """The folder of a run: what training leaves, and what goes on from there."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def model(self, **options):
        """The trained model; options as for ``Model.open``."""
        return Model.open(self.folder / "model", **options)

    @property
    def metrics(self):
        """The records of ``metrics.jsonl``, a dict each, in their order."""
        return _native.metrics(self.folder / "metrics.jsonl")

    @property
    def report(self):
        """The last evaluation of a finished run as a dict, with its confusion matrix; else None."""
        path = self.folder / "report.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    @property
    def recipe(self):
        """The recipe with every default written out, as TOML."""
        return (self.folder / "recipe.toml").read_text("utf-8")

    def _repr_svg_(self):
        path = self.folder / "curves.svg"
        return path.read_text("utf-8") if path.exists() else None

    def __fspath__(self):
        return os.fspath(self.folder)

    def __repr__(self):
        return f"polynet.Run({os.fspath(self.folder)!r})"


class Grown:
    """A grown model: its folder, and what came from where."""

    def __init__(self, folder, report):
        self.folder = Path(folder)
        self.report = report

    def model(self, **options):
        """The model; options as for ``Model.open``."""
        return Model.open(self.folder, **options)

    def __repr__(self):
        return f"<polynet.Grown {os.fspath(self.folder)!r}: {self.report['to']}>"


def train(recipe, on_step=None, *, on_validation=None, out=None, **overrides):
    """Trains a network by a recipe; gives its run.

    ``recipe`` is a path, a dict, or a text in TOML, which has line breaks. ``overrides`` are keys with other values,
    two underscores for a dot: ``training__duration="2 epochs"``. A dict replaces a whole section. ``out`` is the run
    folder; by default the recipe's, or ``runs/NAME``.

    Ctrl-C, and an exception of ``on_step`` or ``on_validation``, stop the run after the step, with a checkpoint, and
    are raised. ``resume`` goes on with it.
    """
    path, text = _source(recipe)
    watching = _watching(on_step, on_validation)
    out = None if out is None else os.fspath(out)
    return Run(_native.train(path, text, _overrides(overrides), out, watching))


def resume(folder, on_step=None, *, on_validation=None, accept_changed_data=False):
    """Goes on with a run where its last checkpoint stands, to the same weights, bit for bit."""
    folder = os.fspath(folder)
    watching = _watching(on_step, on_validation)
    return Run(_native.resume(folder, accept_changed_data, watching))


def recipe(recipe, **overrides):
    """A recipe, as ``train`` takes it, with every default written out, as TOML."""
    path, text = _source(recipe)
    return _native.recipe(path, text, _overrides(overrides))


def grow(model, architecture, out, *, placement="interleaved", start="random", classes=None, seed=0):
    """Makes the start of a larger network from a trained model, in the new folder ``out``.

    ``model`` is a ``Model``, a ``Run`` or a model folder. ``start="same-function"`` lets the larger network compute
    what the model computes.
    """
    if isinstance(model, Run):
        folder = model.folder / "model"
    else:
        folder = model.folder if isinstance(model, Model) else Path(model)
    out = Path(out)
    classes = None if classes is None else list(classes)
    report = _native.grow(folder, str(architecture), out, placement, start, classes, seed)
    return Grown(out, report)


def _source(recipe):
    """A recipe as a path or as text: one of both."""
    if isinstance(recipe, Mapping):
        return None, _native.toml_document(json.dumps(_plain(recipe)))
    if isinstance(recipe, str) and "\n" in recipe:
        return None, recipe
    return os.fspath(recipe), None


def _overrides(overrides):
    def written(value):
        return _native.toml_value(json.dumps(_plain(value)))

    return [f"{key.replace('__', '.')}={written(value)}" for key, value in overrides.items()]


def _plain(value):
    """The value with texts for paths and structures."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (_native.Architecture, _native.Polynomial)):
        return str(value)
    # NumPy's numbers become Python's.
    return value.item() if hasattr(value, "item") else value


def _watching(on_step, on_validation):
    command = getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv]
    return {"on_step": on_step, "on_validation": on_validation, "command": list(command)}
