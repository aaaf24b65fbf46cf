"""Polynomials and networks."""

import json
import pickle
import xml.etree.ElementTree as ElementTree

import polynet
import pytest


def test_a_polynomial_is_canonical_and_prints_what_reads_as_it():
    module = polynet.parse("GF + F + I")
    assert str(module) == "I + F + GF"
    assert repr(module) == 'polynet.parse("I + F + GF")'
    assert eval(repr(module)) == module
    assert module.name == "mpoly-2"


@pytest.mark.parametrize(
    ("left", "right", "are_equal"),
    [
        ("I + F", "F + I", True),
        ("poly-2", "I + F + F^2", True),
        ("(I + F)^2", "I + F + F(I + F)", True),
        ("(F + G)H", "FH + GH", True),
        ("F(I + F)", "F + F^2", False),
        ("GF", "FG", False),
        ("F + F", "F", False),
    ],
)
def test_equality_is_that_of_nonlinear_operators(left, right, are_equal):
    left, right = polynet.parse(left), polynet.parse(right)
    assert (left == right) is are_equal
    assert (left != right) is not are_equal
    assert len({left, right}) == (1 if are_equal else 2)


def test_a_polynomial_says_what_inspect_says_of_a_module(command):
    network = json.loads(command("inspect", "small-polynet; A: I + F + GF", "--json"))
    told = next(part["module"] for part in network["parts"] if part["name"] == "stage_a.0")
    module = polynet.parse("I + F + GF")
    assert told["polynomial"] == str(module)
    assert told["blocks"] == len(module.blocks)
    for key in ["cascaded", "plan", "order", "paths", "evaluations", "evaluations_saved"]:
        assert told[key] == getattr(module, key), key


def test_polynomials_are_added_and_composed():
    identity, f, g = map(polynet.parse, "IFG")
    assert identity + f + g @ f == polynet.parse("mpoly-2")
    assert (identity + f) ** 2 == (identity + f) @ (identity + f)
    assert (f @ g).terms == ["FG"]
    with pytest.raises(TypeError):
        f + 1


def test_a_text_that_is_no_polynomial_is_shown_with_its_place():
    with pytest.raises(polynet.Error) as caught:
        polynet.parse("I + polly-2")
    assert isinstance(caught.value, ValueError)
    assert "^^^^^^^" in str(caught.value) and "did you mean `poly-2`?" in str(caught.value)
    with pytest.raises(polynet.Error):
        polynet.parse("F") ** 1000


def test_structures_are_pickled():
    for structure in [polynet.parse("I + (I + G)F"), polynet.Architecture("small-polynet; classes = 7")]:
        assert pickle.loads(pickle.dumps(structure)) == structure


def test_a_network_has_the_papers_numbers():
    network = polynet.Architecture("A: 2-way x10; B: (poly-3 -> 2-way) x10; C: (poly-3 -> 2-way) x5; input = 331")
    assert network.parameters == 77_213_000
    assert (network.input_size, network.classes) == (331, 1000)
    assert [stage.label for stage in network.stages] == ["A", "B", "C"]
    assert [len(stage.modules) for stage in network.stages] == [10, 20, 10]
    assert network.stages[1].modules[:2] == [polynet.parse("poly-3"), polynet.parse("2-way")]
    assert sum(part["macs"] for part in network.report()["parts"]) == network.macs


def test_networks_are_equal_if_they_compute_the_same():
    small = polynet.Architecture("small-polynet")
    assert small == polynet.Architecture(str(small))
    assert polynet.Architecture("small-ir-1-2-1; A: poly-2") == polynet.Architecture("small-ir-1-2-1; A: I + F + F^2")
    changed = polynet.Architecture("small-polynet", classes=7, input_size=48)
    assert changed != small
    assert changed == polynet.Architecture("small-polynet; classes = 7; input = 48")
    assert len({small, changed, polynet.Architecture("small-polynet")}) == 2


def test_inspect_prints_the_same(command, tmp_path):
    network = polynet.Architecture("small-polynet; width = 0.125")
    command("inspect", str(network), "--svg", tmp_path / "network.svg")
    assert network.describe(batch=4).strip() == command("inspect", str(network), "--batch", 4).strip()
    assert network.report(batch=4) == json.loads(command("inspect", str(network), "--batch", 4, "--json"))
    assert network._repr_svg_() == (tmp_path / "network.svg").read_text("utf-8")


def test_drawings_are_svg():
    for drawn in [polynet.parse("I + F + GF"), polynet.Architecture("small-polynet")]:
        root = ElementTree.fromstring(drawn._repr_svg_())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_what_is_no_network_is_refused():
    for text in ["very-deep-polinet", "small-polynet; classes = many", "small-polynet; Q: 2-way"]:
        with pytest.raises(polynet.Error):
            polynet.Architecture(text)
    with pytest.raises(polynet.Error, match="at least one"):
        polynet.Architecture("small-polynet", classes=0)
    with pytest.raises(polynet.Error, match="too small"):
        polynet.Architecture("very-deep-polynet", input_size=8).parameters


def test_presets_are_networks():
    presets = polynet.presets()
    assert presets["very-deep-polynet"].startswith("A: 2-way x10")
    assert polynet.Architecture(presets["resnet-50"]) == polynet.Architecture("resnet-50")
