"""Exceptions and warnings. Their texts are the library's."""


class Error(ValueError):
    """What was given is not usable: a text, a recipe, an image, a model."""


class FileError(Error, OSError):
    """The operating system refused a file or a folder."""


class TrainingWarning(UserWarning):
    """What does not stop a run, but its user should know."""


for _class in (Error, FileError, TrainingWarning):
    _class.__module__ = "polynet"
