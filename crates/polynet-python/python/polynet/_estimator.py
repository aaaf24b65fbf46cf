"""What the estimator takes from scikit-learn, for where that is not installed."""

import inspect


class NotFittedError(ValueError, AttributeError):
    """An estimator is asked before it is fitted."""


class BaseEstimator:
    """Parameters are the keywords of ``__init__`` and attributes of their names."""

    def get_params(self, deep=True):
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params):
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"unknown parameter {name!r}; the estimator has {', '.join(sorted(known))}")
            setattr(self, name, value)
        return self

    def __repr__(self):
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"


class ClassifierMixin:
    """Accuracy."""

    def score(self, X, y, sample_weight=None):
        import numpy as np

        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))


def check_classification_targets(y):
    """Refuses numbers that no classes are: those that are not whole."""
    if y.dtype.kind == "f" and (y != y.round()).any():
        raise ValueError("Unknown label type: continuous. Expected classes, found numbers that are not whole")
