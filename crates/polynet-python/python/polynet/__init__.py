"""PolyNets: image classifiers whose structure is written as algebra.

>>> import polynet
>>> polynet.parse("mpoly-2")
polynet.parse("I + F + GF")
>>> polynet.Architecture("small-polynet; width = 0.125").parameters
275338
"""

from ._errors import Error, FileError, TrainingWarning
from ._native import (
    Architecture,
    Explanation,
    Model,
    Polynomial,
    Stage,
    Step,
    Validation,
    __version__,
    check_data,
    features,
    instruction_sets,
    parse,
    presets,
)
from ._runs import Grown, Run, grow, recipe, resume, train

__all__ = [
    "Architecture",
    "Classifier",
    "Error",
    "Explanation",
    "FileError",
    "Grown",
    "Model",
    "Polynomial",
    "Run",
    "Stage",
    "Step",
    "TrainingWarning",
    "Validation",
    "__version__",
    "check_data",
    "features",
    "grow",
    "instruction_sets",
    "parse",
    "presets",
    "recipe",
    "resume",
    "train",
]


def __getattr__(name):
    # scikit-learn takes a second to import: only who asks for the estimator waits for it.
    if name == "Classifier":
        from ._classifier import Classifier

        globals()[name] = Classifier
        return Classifier
    raise AttributeError(f"module 'polynet' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | {"Classifier"})
