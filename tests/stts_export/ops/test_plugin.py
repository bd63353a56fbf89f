"""What graphs are held to is what the plugins' own tables in C++ say, and there is a body to verify each by."""

import re
from pathlib import Path

import pytest

from stts_export import ops
from stts_runtime.bundle.plugin_page import PluginPage


ROOM = Path(ops.__file__).parent
KINDS = {
    "kHalves": ("float16", "bfloat16"),
    "kFloats": ("float16", "bfloat16", "float32"),
    "kFLOAT": ("float32",),
    "kINT64": ("int64",),
    "kBOOL": ("bool",),
    "kInt64": ("int64",),
}


def groups(text):
    """What stands between outermost braces, one after another."""
    found, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        if letter == "{":
            depth += 1
            start = place + 1 if depth == 1 else start
        elif letter == "}":
            depth -= 1
            if depth == 0:
                found.append(text[start:place])
    return found


def contract_of(name):
    """Inputs with their kinds, outputs and attributes, as the table in plugin.cpp has them."""
    folder = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
    text = (ROOM / folder / "plugin.cpp").read_text()
    table = re.search(rf'contract\{{\s*"Stts{name}",(.*?)\}};', text, re.DOTALL)[1]
    inputs, outputs, attributes = (
        [[part.strip().strip('"') for part in entry.split(",")] for entry in groups(listed)] for listed in groups(table)
    )
    kinds = []
    for name, _, kind, *like in inputs:
        kinds.append((name, kinds[int(like[0])][1] if like else KINDS[kind.removeprefix("only(DataType::").strip(")")]))
    given = [
        (name, inputs[int(like[0])][0] if like else KINDS[kind.removeprefix("only(DataType::").strip(")")][0])
        for name, _, kind, *like in outputs
    ]
    alike = [name for name, _, _, *like in inputs if like]
    return kinds, given, [name for name, *_ in attributes], alike


@pytest.mark.parametrize("plugin", ops.PLUGINS.values(), ids=ops.PLUGINS)
def test_the_table_is_the_plugins_own(plugin):
    inputs, outputs, attributes, alike = contract_of(plugin.operator)
    assert list(plugin.inputs) == inputs
    assert list(plugin.outputs) == outputs
    assert list(plugin.attributes) == attributes
    assert list(plugin.alike[1:]) == alike


def test_both_sides_know_one_version_of_the_contract():
    header = (ROOM.parents[1] / "runtimes/tensorrt/src/contract.h").read_text()
    assert re.search(r"kContract = (\d+);", header)[1] == str(ops.CONTRACT)


def test_both_sides_give_a_gpu_the_same_kernels():
    source = (ROOM.parents[1] / "runtimes/tensorrt/src/kernel.cpp").read_text()
    rule = re.search(r"bool runs_on\(int compiled, int device\) noexcept \{(.*?)\n\}", source, re.DOTALL)[1]
    jetsons = {int(number) for number in re.findall(r"device == (\d+)", rule)}
    assert "compiled / 10 == device / 10 && compiled < device" in rule
    for device in (72, 75, 80, 86, 87, 89, 90, 100, 101, 103, 110, 120, 121):
        for compiled in (80, 86, 87, 89, 90, 100, 110, 120):
            wanted = compiled == device or (
                not {compiled, device} & jetsons and compiled // 10 == device // 10 and compiled < device
            )
            assert PluginPage(1, "", (compiled,), {}).serves(device) == wanted


def test_every_plugin_has_a_body_of_its_inputs_and_its_own_name():
    bodies = {body.name: body for body in ops.plugin_bodies()}
    assert set(bodies) == set(ops.PLUGIN_NAMES)
    for name, plugin in ops.PLUGIN_NAMES.items():
        assert [value.name for value in bodies[name].inputs] == [name for name, _ in plugin.inputs]
        assert list(bodies[name].attributes) == list(plugin.attributes)
