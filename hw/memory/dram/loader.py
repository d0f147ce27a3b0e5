"""Reads the tables of the DRAM standards, each value of which names its source."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from hw.memory.dram.standard import DramStandard, StandardError

_TOP = ("name", "description", "family", "sources", "organisation", "protocol", "timing")
_ORGANISATION = (
    *("clock_ps", "pseudo_channels", "data_bits", "transfers_per_clock", "burst_length"),
    *("stacks", "bank_groups", "banks_per_group", "rows", "row_bytes"),
)
_PROTOCOL = (
    *("activate_cycles", "activate_reference", "banks_per_refresh", "postponed_refreshes"),
)


def standard_names() -> tuple[str, ...]:
    """Names of the standards that `load_standard` knows."""
    folder = resources.files(__package__) / "standards"
    files = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name[: -len(".toml")] for name in files if name.endswith(".toml")))


def standard_text(name: str) -> str:
    """The table of the standard called ``name``, as text.

    Raises
    ------
    StandardError
        There is no such standard.
    """
    if name not in standard_names():
        raise StandardError(f"standard must be one of {', '.join(standard_names())}, not {name!r}")
    return (resources.files(__package__) / "standards" / f"{name}.toml").read_text("utf-8")


@cache
def load_standard(name: str) -> DramStandard:
    """The standard called ``name``.

    Raises
    ------
    StandardError
        There is no such standard, or its table is wrong.
    """
    standard = parse_standard(standard_text(name))
    if standard.name != name:
        raise StandardError(f"name must be that of the file, {name!r}, not {standard.name!r}")
    return standard


def parse_standard(text: str) -> DramStandard:
    """The standard that a TOML text describes; docs/dram.md has the form.

    Raises
    ------
    StandardError
        The text is no TOML, an entry is missing, unknown or without a known source, or
        `DramStandard` refuses it.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StandardError(f"a standard must be a TOML text: {error}") from error
    only_keys("the table", table, _TOP)
    for key in _TOP:
        if key not in table:
            raise StandardError(f"the table must have {key!r}, which is missing")
    for key in _TOP[:3]:
        if not isinstance(table[key], str):
            raise StandardError(f"{key} must be a string, not {table[key]!r}")
    for key in _TOP[3:]:
        if not isinstance(table[key], dict):
            raise StandardError(f"{key} must be a table, not {table[key]!r}")
    known = table["sources"]
    sources: dict[str, str] = {}
    values: dict[str, dict[str, int]] = {}
    for section, legal in (("organisation", _ORGANISATION), ("protocol", _PROTOCOL)):
        only_keys(section, table[section], legal)
        for name in legal:
            if name not in table[section]:
                raise StandardError(f"{section} must have {name!r}, which is missing")
    for section in ("organisation", "protocol", "timing"):
        values[section] = {}
        for name, entry in table[section].items():
            values[section][name], sources[name] = sourced_value(name, entry, known)
    check_sources(known, [entry for section in values for entry in table[section].values()])
    return DramStandard(
        name=table["name"],
        description=table["description"],
        family=table["family"],
        timing=values["timing"],
        sources=sources,
        **values["organisation"],
        **values["protocol"],
    )


def check_sources(known: Mapping[str, object], entries: Sequence[Mapping[str, str]]) -> None:
    """Refuse sources that no entry names, with a `StandardError`."""
    used = {entry["source"] for entry in entries}
    for name in known:
        if name not in used:
            raise StandardError(f"source {name!r} must be used by a value, or left out")


def only_keys(what: str, table: Mapping[str, object], legal: tuple[str, ...]) -> None:
    """Refuse keys of a table that are not legal, with a `StandardError`."""
    for key in table:
        if key not in legal:
            raise StandardError(f"{what} must not have {key!r}; it has {', '.join(legal)}")


def sourced_value(name: str, entry: object, known: Mapping[str, object]) -> tuple[Any, str]:
    """Return the value of an entry, of whatever type, and its source in words.

    Raises
    ------
    StandardError
        It has no value, no source or an unknown one.
    """
    if not isinstance(entry, dict) or not {"value", "source"} <= set(entry):
        raise StandardError(f"{name} must be a table with 'value' and 'source', not {entry!r}")
    only_keys(name, entry, ("value", "source", "note"))
    source = entry["source"]
    if source not in known:
        raise StandardError(
            f"the source of {name} must be one of {', '.join(known)}, not {source!r}"
        )
    note = f" ({entry['note']})" if "note" in entry else ""
    return entry["value"], f"{known[source]}{note}"
