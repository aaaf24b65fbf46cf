from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from ._native import Architecture, Model, Step, Validation

_AnyPath = Union[str, PathLike[str]]
_Recipe = Union[_AnyPath, Mapping[str, Any]]

class Run:
    """The folder of a run: what training leaves, and what goes on from there."""

    folder: Path
    def __init__(self, folder: _AnyPath) -> None: ...
    def model(
        self,
        *,
        threads: Optional[int] = None,
        precision: str = "auto",
        isa: Optional[str] = None,
        device: str = "cpu",
    ) -> Model:
        """The trained model; options as for `Model.open`."""
    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl`, a dict each, in their order."""
    @property
    def report(self) -> Optional[dict[str, Any]]:
        """The last evaluation of a finished run, with its confusion matrix; else None."""
    @property
    def recipe(self) -> str:
        """The recipe with every default written out, as TOML."""
    def _repr_svg_(self) -> Optional[str]: ...
    def __fspath__(self) -> str: ...

class Grown:
    """A grown model: its folder, and what came from where."""

    folder: Path
    report: dict[str, Any]
    def __init__(self, folder: _AnyPath, report: dict[str, Any]) -> None: ...
    def model(
        self,
        *,
        threads: Optional[int] = None,
        precision: str = "auto",
        isa: Optional[str] = None,
        device: str = "cpu",
    ) -> Model: ...

def train(
    recipe: _Recipe,
    on_step: Optional[Callable[[Step], object]] = None,
    *,
    on_validation: Optional[Callable[[Validation], object]] = None,
    out: Optional[_AnyPath] = None,
    **overrides: Any,
) -> Run:
    """Trains a network by a recipe; gives its run.

    `recipe` is a path, a dict, or a text in TOML, which has line breaks. `overrides` are keys with other values, two
    underscores for a dot: `training__duration="2 epochs"`. A dict replaces a whole section. `out` is the run folder;
    by default the recipe's, or `runs/NAME`.

    Ctrl-C, and an exception of a callback, stop the run after the step, with a checkpoint, and are raised.
    """

def resume(
    folder: _AnyPath,
    on_step: Optional[Callable[[Step], object]] = None,
    *,
    on_validation: Optional[Callable[[Validation], object]] = None,
    accept_changed_data: bool = False,
) -> Run:
    """Goes on with a run where its last checkpoint stands, to the same weights, bit for bit."""

def recipe(recipe: _Recipe, **overrides: Any) -> str:
    """A recipe, as `train` takes it, with every default written out, as TOML."""

def grow(
    model: Union[Model, Run, _AnyPath],
    architecture: Union[Architecture, str],
    out: _AnyPath,
    *,
    placement: str = "interleaved",
    start: str = "random",
    classes: Optional[Iterable[str]] = None,
    seed: int = 0,
) -> Grown:
    """Makes the start of a larger network from a trained model, in the new folder `out`."""
