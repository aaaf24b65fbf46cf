from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from ._native import Architecture, _Image, Model, Step

class Classifier:
    """A network that is trained from its beginning on images; an estimator of scikit-learn where that is installed."""

    classes_: npt.NDArray[Any]
    model_: Model
    metrics_: list[dict[str, Any]]
    def __init__(
        self,
        architecture: Union[str, Architecture] = "small-polynet; width = 0.125",
        *,
        epochs: float = 10,
        batch_size: int = 32,
        learning_rate: float = 0.004,
        validation_fraction: float = 0.1,
        recipe: Optional[dict[str, Any]] = None,
        out: Optional[Union[str, PathLike[str]]] = None,
        on_step: Optional[Callable[[Step], object]] = None,
        random_state: Union[int, np.random.RandomState, None] = None,
    ) -> None: ...
    def fit(self, X: Iterable[_Image], y: npt.ArrayLike) -> Classifier: ...
    def predict(self, X: Iterable[_Image]) -> npt.NDArray[Any]: ...
    def predict_proba(self, X: Iterable[_Image]) -> npt.NDArray[np.float64]: ...
    def score(self, X: Iterable[_Image], y: npt.ArrayLike, sample_weight: Optional[npt.ArrayLike] = None) -> float: ...
    def get_params(self, deep: bool = True) -> dict[str, Any]: ...
    def set_params(self, **params: Any) -> Classifier: ...
