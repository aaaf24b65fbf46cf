from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Protocol, Union, final, overload

import numpy as np
import numpy.typing as npt

class _PillowImage(Protocol):
    """A Pillow image, by what is asked of it."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def convert(self, mode: str) -> Any: ...
    def tobytes(self) -> bytes: ...

_Image = Union[str, PathLike[str], bytes, bytearray, npt.NDArray[np.uint8], _PillowImage]
"""A path, the bytes of a JPEG or PNG, pixels [height, width, 3] or [height, width], or a Pillow image."""

__version__: str
features: list[str]

def instruction_sets() -> list[str]:
    """Instruction sets of this processor that there are kernels for, by name."""

def parse(text: str) -> Polynomial:
    """Reads a polynomial: `I + F + GF`, `(I + F)^2`, `poly-3`."""

def presets() -> dict[str, str]:
    """Names of networks and what they stand for, the paper's final ones first."""

def check_data(path: Union[str, PathLike[str]], model: Optional[Union[str, PathLike[str]]] = None) -> dict[str, Any]:
    """Decodes every image of a data set; gives what `polynet data check --json` prints.

    `breaks_training` says whether training would stop. With a model folder the classes are compared with its own.
    """

@final
class Model:
    """A model, opened for prediction. Threads may share one: they take turns."""

    @staticmethod
    def open(
        path: Union[str, PathLike[str]],
        threads: Optional[int] = None,
        precision: str = "auto",
        isa: Optional[str] = None,
        device: str = "cpu",
    ) -> Model:
        """Opens a model folder.

        `threads` are the model's own; by default all models share one for each core. `precision` is `f32`,
        `bf16`, or `auto`: `bf16` on processors that are known to be faster in it. `isa` is one of `instruction_sets()`.
        """
    @staticmethod
    def pretrained(
        threads: Optional[int] = None,
        precision: str = "auto",
        isa: Optional[str] = None,
        device: str = "cpu",
    ) -> Model:
        """The model that comes with the package: a small PolyNet for the ten classes of CIFAR-10."""
    # A text is an iterable of texts, and an image all the same.
    @overload
    def classify(  # type: ignore[overload-overlap]
        self, images: _Image, top: int = 5, batch: int = 8
    ) -> list[tuple[str, float]]: ...
    @overload
    def classify(self, images: Iterable[_Image], top: int = 5, batch: int = 8) -> list[list[tuple[str, float]]]:
        """The `top` most probable classes as pairs of name and probability, the best first; of images a list each.

        `batch` images are computed at once; between batches Ctrl-C is heard.
        """
    def logits(self, images: Union[_Image, Iterable[_Image]], batch: int = 8) -> npt.NDArray[np.float32]:
        """Logits: `[classes]` of one image, `[images, classes]` of several."""
    def embeddings(self, images: Union[_Image, Iterable[_Image]], batch: int = 8) -> npt.NDArray[np.float32]:
        """What the classifier reads: `[features]` of one image, `[images, features]` of several."""
    def explain(self, image: _Image, top: int = 3) -> Explanation:
        """Which regions of an image speak for its `top` most probable classes."""
    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
    @property
    def architecture(self) -> Architecture: ...
    @property
    def config(self) -> dict[str, Any]:
        """All that `config.json` says: architecture, classes, preprocessing, origin."""
    @property
    def folder(self) -> Optional[Path]: ...

@final
class Explanation:
    """Which regions of an image speak for its classes: class activation maps (Zhou et al. 2016)."""

    @property
    def classes(self) -> list[tuple[str, float]]: ...
    @property
    def maps(self) -> npt.NDArray[np.float32]:
        """`[classes, rows, columns]`: the logit that the classifier would give if the whole image were as this place."""
    @property
    def seen(self) -> npt.NDArray[np.uint8]:
        """The image as the network sees it, `[height, width, 3]`."""
    def svg(self, title: str = "") -> str: ...
    def _repr_svg_(self) -> str: ...

@final
class Polynomial:
    """An operator polynomial in canonical form. Equal ones are equal under the laws of nonlinear operators.

    `p + q` is a sum, `p @ q` applies `q` first, `p ** 2` is `p @ p`.
    """

    def __new__(cls, text: str) -> Polynomial: ...
    @property
    def name(self) -> Optional[str]:
        """`mpoly-2`, if it has such a name."""
    @property
    def cascaded(self) -> str:
        """Factored as the paper writes it, each shared prefix once."""
    @property
    def plan(self) -> str:
        """The steps by which it is evaluated, every distinct operator once."""
    @property
    def order(self) -> int:
        """Most blocks along one path."""
    @property
    def paths(self) -> int:
        """Paths from input to output."""
    @property
    def blocks(self) -> list[str]: ...
    @property
    def terms(self) -> list[str]: ...
    @property
    def evaluations(self) -> int:
        """Evaluations of blocks by the plan."""
    @property
    def evaluations_saved(self) -> int:
        """Evaluations that the plan saves against term by term."""
    def svg(self) -> str: ...
    def _repr_svg_(self) -> str: ...
    def __add__(self, other: Polynomial, /) -> Polynomial: ...
    def __matmul__(self, inner: Polynomial, /) -> Polynomial: ...
    def __pow__(self, exponent: int, mod: None = None, /) -> Polynomial: ...
    def __hash__(self) -> int: ...

@final
class Stage:
    """A stage of a network."""

    @property
    def label(self) -> str: ...
    @property
    def text(self) -> str:
        """The modules as text, repetitions folded."""
    @property
    def modules(self) -> list[Polynomial]: ...

@final
class Architecture:
    """A network's structure. Equal ones compute the same graph."""

    def __new__(cls, text: str, input_size: Optional[int] = None, classes: Optional[int] = None) -> Architecture:
        """Reads a preset or a network in the algebra's language; the keywords change its settings."""
    @property
    def parameters(self) -> int: ...
    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and classifier for one image."""
    @property
    def input_size(self) -> int:
        """Height and width of the input in pixels."""
    @property
    def classes(self) -> int: ...
    @property
    def stages(self) -> list[Stage]: ...
    def report(self, batch: int = 1) -> dict[str, Any]:
        """What `polynet inspect --json` prints."""
    def describe(self, batch: int = 1) -> str:
        """What `polynet inspect` prints."""
    def svg(self) -> str: ...
    def _repr_svg_(self) -> str: ...
    def __hash__(self) -> int: ...

@final
class Step:
    """A finished step of training."""

    @property
    def step(self) -> int:
        """Finished steps, this one included."""
    @property
    def total_steps(self) -> int: ...
    @property
    def epoch(self) -> float: ...
    @property
    def loss(self) -> float:
        """Mean loss per image since the last training record, in nats."""
    @property
    def top1(self) -> float:
        """Share of images that were right since the last training record."""
    @property
    def images_per_s(self) -> float: ...

@final
class Validation:
    """A finished validation."""

    @property
    def step(self) -> int: ...
    @property
    def epoch(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def top1(self) -> float: ...
    @property
    def top5(self) -> float: ...

# Below is what `polynet/*.py` wraps.

def encoded(image: _Image) -> bytes: ...
def toml_document(json: str) -> str: ...
def toml_value(json: str) -> str: ...
def train(
    path: Optional[str],
    text: Optional[str],
    overrides: Sequence[str],
    out: Optional[str],
    watching: dict[str, Any],
) -> Path: ...
def resume(folder: str, accept_changed_data: bool, watching: dict[str, Any]) -> Path: ...
def recipe(path: Optional[str], text: Optional[str], overrides: Sequence[str]) -> str: ...
def metrics(path: Path) -> list[dict[str, Any]]: ...
def grow(
    model: Path,
    architecture: str,
    out: Path,
    placement: str,
    start: str,
    classes: Optional[list[str]],
    seed: int,
) -> dict[str, Any]: ...
