"""The package as it is installed."""

import importlib.metadata
import importlib.resources
import pickle
import subprocess
import sys

import polynet
import pytest

from conftest import ROOT


def test_the_version_is_the_workspaces():
    manifest = (ROOT / "Cargo.toml").read_text("utf-8")
    version = manifest.split("[workspace.package]")[1].split('version = "')[1].split('"')[0]
    assert polynet.__version__ == importlib.metadata.version("polynet") == version
    assert polynet.features == []


def test_it_has_types_and_names_all_that_it_has():
    files = importlib.resources.files("polynet")
    assert files.joinpath("py.typed").is_file()
    stubs = files.joinpath("__init__.pyi").read_text("utf-8")
    for name in polynet.__all__:
        assert hasattr(polynet, name)
        assert f"import {name} as {name}" in stubs, name


def test_the_stubs_are_those_of_the_package():
    pytest.importorskip("mypy")
    words = [sys.executable, "-m", "mypy.stubtest", "polynet", "--ignore-missing-stub", "--concise"]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_importing_it_imports_neither_scikit_learn_nor_pillow_nor_numpy():
    script = "import sys, polynet; print(sorted({'sklearn', 'PIL', 'numpy'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    assert said.stdout == "[]\n"


def test_exceptions_are_the_packages_own_and_pythons():
    assert issubclass(polynet.Error, ValueError)
    assert issubclass(polynet.FileError, polynet.Error) and issubclass(polynet.FileError, OSError)
    error = polynet.FileError("photo.jpg: not there")
    assert str(error) == "photo.jpg: not there"
    assert type(error).__module__ == "polynet"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_the_package_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="classifier"):
        polynet.classifier
    assert "Classifier" in dir(polynet)
