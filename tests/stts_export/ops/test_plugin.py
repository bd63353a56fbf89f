"""What graphs are held to is what the plugins' own tables in C++ say, and there is a body to verify each by."""

import re
from pathlib import Path

import pytest

from stts_export import ops


ROOM = Path(ops.__file__).parent
KINDS = {
    "kHalves": ("float16", "bfloat16"),
    "kFloats": ("float16", "bfloat16", "float32"),
    "kFLOAT": ("float32",),
    "kINT64": ("int64",),
    "kBOOL": ("bool",),
}
TENSOR = re.compile(r"\{\"(\w+)\", (\d), (?:only\(DataType::)?(\w+)\)?(?:, (\d))?\}")


def contract_of(name):
    """Inputs with their kinds, and attributes, as the table in plugin.cpp has them; None without a plugin.cpp."""
    folder = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
    file = ROOM / folder / "plugin.cpp"
    if not file.is_file():
        return None
    table = re.search(rf'contract\{{\s*"Stts{name}",(.*?)\}};', file.read_text(), re.DOTALL)[1]
    inputs, _, rest = table.partition("}},")
    inputs = {found[1]: KINDS[found[3]] for found in TENSOR.finditer(f"{inputs}}}")}
    attributes = re.findall(r"\{\"(\w+)\", -?\d+, -?\w+\}", rest.rpartition("}},")[2])
    return inputs, attributes


@pytest.mark.parametrize("plugin", ops.PLUGINS.values(), ids=ops.PLUGINS)
def test_the_table_is_the_plugins_own(plugin):
    found = contract_of(plugin.operator)
    if found is None:
        pytest.skip("its plugin is not written yet")
    assert (dict(plugin.inputs), list(plugin.attributes)) == (found[0], found[1])


def test_both_sides_know_one_version_of_the_contract():
    header = (ROOM.parents[1] / "runtimes/tensorrt/src/contract.h").read_text()
    assert re.search(r"kContract = (\d+);", header)[1] == str(ops.CONTRACT)


def test_every_plugin_has_a_body_of_its_inputs_and_its_own_name():
    bodies = {body.name: body for body in ops.plugin_bodies()}
    assert set(bodies) == set(ops.PLUGIN_NAMES)
    for name, plugin in ops.PLUGIN_NAMES.items():
        assert [value.name for value in bodies[name].inputs] == [name for name, _ in plugin.inputs]
        assert list(bodies[name].attributes) == list(plugin.attributes)
