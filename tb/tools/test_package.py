"""The SystemVerilog package says what the sidecar says, bit for bit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from hw.config import PRESETS, preset
from hw.cores.attention_core import AttentionCore
from hw.formats import Status
from hw.tools.package import PackageError, identifier, package
from hw.tools.ports import StreamPort, find_streams
from hw.tools.verilog import describe
from tb.tools.lint import lint

PKG = "attention_core_pkg"


@cache
def emitted(name: str) -> tuple[str, dict[str, Any]]:
    """Package and sidecar of a preset."""
    core = AttentionCore(preset(name))
    streams = find_streams(core.signature)
    return package(core.config, streams, core.counters, PKG), describe(core, "attention_core")


def probe(sidecar: dict[str, Any]) -> str:
    """Return a module whose elaboration fails wherever the package differs from the sidecar.

    Per leaf of every payload one function checks which bits it is, another one its sign.
    """
    lines = ["/* verilator lint_off UNSIGNED */", f"module probe import {PKG}::*; ();"]

    def require(condition: str, message: str) -> None:
        lines.append(f'  if (!({condition})) $error("{message}");')

    widths = {port["name"]: port["width"] for port in sidecar["ports"]}
    for stream, facts in sidecar["streams"].items():
        kind, bits = stream.replace("__", "_") + "_t", widths[f"{stream}__payload"]
        require(f"$bits({kind}) == {bits}", f"width of {stream}")
        for number, field in enumerate(facts["fields"]):
            first, bracket, index = field["name"].partition("[")
            path = (f".{identifier(first)}" if first else "") + bracket + index
            name = f"{kind}_{number}"
            mask = f"{bits}'h{(1 << field['width']) - 1 << field['offset']:x}"
            lines += [
                f"  function automatic bit placed_{name}(); {kind} item;",
                f"    item = {mask}; if (!(&{{item{path}}})) return 0;",
                f"    item = ~{mask}; if (|{{item{path}}}) return 0;",
                f"    return $bits(item{path}) == {field['width']};",
                "  endfunction",
                f"  function automatic bit negative_{name}(); {kind} item;",
                f"    item = '1; return item{path} < 0;",
                "  endfunction",
            ]
            require(f"placed_{name}()", f"position of {stream} {field['name']}")
            require(
                f"negative_{name}() == {field['signed']:d}", f"sign of {stream} {field['name']}"
            )
    for row in sidecar["registers"]:
        name = f"REGISTER_{row['owner']}_{row['name']}".upper()
        require(f"{name} == {row['address']}", name)
        require(f"$bits({name}) == {widths['counter_address']}", f"width of {name}")
    for name, code in sidecar["status"].items():
        require(f"STATUS_{name} == {code}", f"STATUS_{name}")
    for name, value in (sidecar["config"] | sidecar["records"]).items():
        constant = name.upper()
        if isinstance(value, str):
            require(f'{constant} == "{value}"', name)
        else:
            require(f"64'({constant}) == 64'd{value}", name)
    require(f"CONFIG_HASH == 32'h{sidecar['config_hash'][2:]}", "config hash")
    require(f"FORMAT_VERSION == {sidecar['format_version']}", "format version")
    return "\n".join([*lines, "endmodule", ""])


def findings(text: str, sidecar: dict[str, Any], folder: Path) -> str:
    files = (folder / f"{PKG}.sv", folder / "probe.sv")
    for file, content in zip(files, (text, probe(sidecar)), strict=True):
        file.write_text(content)
    return lint(files, "probe", style=False)


@pytest.mark.parametrize("name", PRESETS)
def test_the_package_agrees_with_the_sidecar(name: str, tmp_path: Path) -> None:
    assert findings(*emitted(name), tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("logic [15:0] job_context_t", "logic [14:0] job_context_t", "width of job"),
        ("job_layer_t layer;", "job_layer_t kv_head;", "position of job layer"),
        ("logic signed [12:0] completion_m", "logic [12:0] completion_m", "sign of completion max"),
        ("sum_element_t [1:0]", "sum_element_t [0:1]", "position of completion sum[0]"),
        ("REGISTER_CORE_CYCLES = 5'd2", "REGISTER_CORE_CYCLES = 5'd3", "REGISTER_CORE_CYCLES"),
        ("ROWS = 32'd2", "ROWS = 32'd3", "rows"),
        ('GROUP_COMBINE = "max"', 'GROUP_COMBINE = "mean"', "group_combine"),
        ("CONFIG_HASH = 32'h", "CONFIG_HASH = ~32'h", "config hash"),
    ],
)
def test_a_wrong_package_is_found(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    text, sidecar = emitted("tiny")
    assert text.count(right) == 1
    text = text.replace(right, wrong)
    if message.startswith("position of job"):
        # Swap the two fields: their widths are the same.
        text = text.replace("job_kv_head_t kv_head;", "job_layer_t layer;", 1)
    assert message in findings(text, sidecar, tmp_path)


def test_a_wrong_status_is_found(tmp_path: Path) -> None:
    text, sidecar = emitted("tiny")
    wrong = sidecar | {"status": {Status.OK.name: 1}}
    assert "STATUS_OK" in findings(text, wrong, tmp_path)


def test_reserved_words_get_an_underscore(tmp_path: Path) -> None:
    assert [identifier(name) for name in ("context", "table", "job_id")] == [
        "context_",
        "table_",
        "job_id",
    ]
    text, sidecar = emitted("tiny")
    plain = text.replace(" context_;", " context;")
    assert "syntax error" in findings(plain, sidecar, tmp_path)


def declared(**streams: object) -> str:
    ports = [StreamPort(name, "input", shape) for name, shape in streams.items()]
    return package(preset("tiny"), ports, [], "p")


def test_parameters_of_a_system() -> None:
    """Truth values are bits, and large numbers long."""
    text = package(preset("tiny"), [], [], "p", {"writes": True, "plain": False, "large": 1 << 32})
    for line in (
        "bit WRITES = 1'b1",
        "bit PLAIN = 1'b0",
        "longint unsigned LARGE = 64'd4294967296",
    ):
        assert f"  localparam {line};\n" in text


def test_nested_payloads(tmp_path: Path) -> None:
    inner = data.StructLayout({"low": 3, "none": 0, "high": signed(1)})
    text = declared(nest=data.ArrayLayout(data.ArrayLayout(inner, 2), 3), plain=7)
    for line in (
        "typedef logic [2:0] nest_element_element_low_t;",
        "typedef logic signed [0:0] nest_element_element_high_t;",
        "typedef nest_element_t [2:0] nest_t;",
        "typedef logic [6:0] plain_t;",
    ):
        assert f"  {line}\n" in text
    assert "none" not in text
    file = tmp_path / "p.sv"
    check = "if ($bits(nest_t) != 24) $error; if ($bits(nest_element_element_t) != 4) $error;"
    file.write_text(text + f"module probe import p::*; (); {check} endmodule\n")
    assert lint([file], "probe", style=False) == ""
    file.write_text(file.read_text().replace("!= 24", "!= 25"))
    assert "%Error" in lint([file], "probe", style=False)


def test_what_has_no_form_is_refused() -> None:
    union = data.UnionLayout({"a": 1, "b": 2})
    with pytest.raises(PackageError, match=r"^the payload one_of is neither a struct nor an array"):
        declared(one=data.StructLayout({"of": union}))
    with pytest.raises(PackageError, match=r"^status_t would be declared twice$"):
        declared(status=1)
    with pytest.raises(PackageError, match=r"^a_b_t would be declared twice$"):
        declared(a__b=1, a=data.StructLayout({"b": 1}))
