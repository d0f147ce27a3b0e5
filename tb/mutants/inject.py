r"""Put faults into emitted Verilog, all into one text: a plusarg of the run chooses one of them.

A fault replaces the right side of one statement. The statement is found by its text, in which
``<name>`` stands for any identifier or constant, between brackets for the numbers there, and for
the same wherever it is repeated. So a pattern need not depend on widths, nor on the numbers that
the emitter gives to what has no name::

    assign <full> = level != 4'h8       also matches      assign \$17  = level != 4'h8;

Without the plusarg, and with the number 0, the text means what it meant before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Plusarg that carries the number of the fault to switch on: ``+memory_mutant=7``. The options of
#: the memory model are the plusargs that a test run can set, and this is one more of them.
OPTION = "mutant"
PLUSARG = f"memory_{OPTION}"

_MODULE = re.compile(r"^module (?P<name>\w+) ?\([^;]*;.*?^endmodule$", re.M | re.S)
_TOKEN = re.compile(r"<[a-z]\w*>|\\\S+|[$\w']+|\S")
_IDENTIFIER = r"\\\S+|[A-Za-z_]\w*"
_OPERAND = rf"{_IDENTIFIER}|\d+'[a-z][0-9a-f]+"
_RANGE = r"\d+(?::\d+)?"
_PARTS = re.compile(
    rf"(?P<assign>assign\s+)?(?P<left>(?:{_IDENTIFIER})\s*(?:\[[^\]]*\])?)\s*(?P<sign><?=)\s*"
    r"(?P<right>.*?)\s*;",
    re.S,
)


class InjectionError(ValueError):
    """A fault does not fit the Verilog: the message names it and what was looked for."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake that a designer could have made.

    Parameters
    ----------
    name
        Words joined by hyphens.
    module
        Regular expression for the whole name of its module, without the name of the top module and
        the underscore after it; empty for the top module itself.
    kind
        What is done to the statement, such as "off by one".
    description
        What the designer got wrong.
    statement
        The statement to change, without its semicolon; see this module's description.
    faulty
        Its new right side; ``<name>`` stands for what was found.
    context
        Statements that must be there too, to tell apart what looks the same: they are looked for
        in order, before ``statement``; ``<name>`` is the same in all of them.
    killed_by
        Name of the test that finds it.
    """

    name: str
    module: str
    kind: str
    description: str
    statement: str
    faulty: str
    context: tuple[str, ...] = ()
    killed_by: str


def modules(text: str) -> dict[str, str]:
    """Return the text of every module by its name; the first one is the top module."""
    return {match["name"]: match[0] for match in _MODULE.finditer(text)}


def short_names(text: str) -> dict[str, str]:
    """Return the name of every module, and what remains of it without that of the top module."""
    names = list(modules(text))
    return {name: name.removeprefix(names[0]).removeprefix("_") for name in names}


def inject(text: str, faults: Sequence[Fault]) -> str:
    """Return Verilog in which ``+memory_mutant=N`` switches the N-th fault on, counted from 1.

    Raises
    ------
    InjectionError
        The module or a statement of a fault is not there, or there more than once.
    """
    numbered: dict[str, list[tuple[int, Fault]]] = {}
    shorts = short_names(text)
    for number, fault in enumerate(faults, start=1):
        found = [name for name, short in shorts.items() if re.fullmatch(fault.module, short)]
        if len(found) != 1:
            raise InjectionError(
                f"{fault.name}: {len(found)} modules match {fault.module!r}, must be one"
            )
        numbered.setdefault(found[0], []).append((number, fault))
    return _MODULE.sub(lambda m: _schemata(m[0], numbered.get(m["name"], [])), text)


def _schemata(module: str, faults: Sequence[tuple[int, Fault]]) -> str:
    if not faults:
        return module
    # All are looked for in the text as it came, so that no fault can be found inside another one.
    places = [(*_find(module, fault), number) for number, fault in faults]
    places.sort(key=lambda place: place[:2])
    for (_, end, *_), (start, *_, number) in pairwise(places):
        if start < end:
            raise InjectionError(f"fault {number} changes the same statement as another one")
    for start, end, faulty, number in reversed(places):
        module = module[:start] + _choice(module[start:end], faulty, number) + module[end:]
    header_end = module.index(";") + 1
    return f"{module[:header_end]}\n{_CHOOSER}{module[header_end:]}"


_CHOOSER = f"""\
  integer mutant;
  initial begin
    mutant = 0;
    void'($value$plusargs("{PLUSARG}=%d", mutant));
  end"""


def _find(module: str, fault: Fault) -> tuple[int, int, str]:
    """Return where the statement of ``fault`` starts and ends, and its new right side."""
    bound: dict[str, str] = {}
    place = (0, 0)
    for statement in (*fault.context, fault.statement):
        matches = list(re.finditer(_pattern(statement, bound), module, re.M))
        if len(matches) != 1:
            raise InjectionError(
                f"{fault.name}: {len(matches)} statements of module {fault.module!r} match "
                f"{statement!r}, must be one"
            )
        bound |= matches[0].groupdict()
        place = matches[0].span("statement")
    del bound["statement"]
    unknown = set(re.findall(r"<([a-z]\w*)>", fault.faulty)) - set(bound)
    if unknown:
        raise InjectionError(f"{fault.name}: nothing is called {', '.join(sorted(unknown))}")
    return *place, _fill(fault.faulty, bound)


def _pattern(statement: str, bound: Mapping[str, str]) -> str:
    """Return the regular expression of a statement that starts a line, whatever its spaces."""
    new: set[str] = set()
    parts = []
    previous = ""
    for token in _TOKEN.findall(statement):
        name = token[1:-1]
        if not (token.startswith("<") and token.endswith(">") and name):
            parts.append(re.escape(token))
        elif name in bound:
            parts.append(re.escape(bound[name]))
        elif name in new:
            parts.append(f"(?P={name})")
        else:
            new.add(name)
            parts.append(f"(?P<{name}>{_RANGE if previous == '[' else _OPERAND})")
        previous = token
    return r"^[ \t]*(?P<statement>" + r"\s*".join([*parts, ";"]) + ")"


def _fill(faulty: str, bound: Mapping[str, str]) -> str:
    return re.sub(r"<([a-z]\w*)>", lambda m: f"{bound[m[1]]} ", faulty)


def _choice(statement: str, faulty: str, number: int) -> str:
    """Return ``statement`` with a second right side, of the same width and sign rules."""
    parts = _PARTS.fullmatch(statement)
    assert parts is not None, f"{statement!r} was found by a pattern that is no assignment"
    # The space ends an escaped identifier.
    left, sign, right = parts["left"], parts["sign"], parts["right"] + " "
    if parts["assign"] is None:
        return (
            f"begin if (mutant == {number}) {left} {sign} {faulty}; else {left} {sign} {right}; end"
        )
    # Both sides get a wire: in one expression each would change the width and sign of the other.
    width = f"[$bits({left}) - 1:0]"
    return (
        f"wire {width} intact_{number};\n  wire {width} faulty_{number};\n"
        f"  assign intact_{number} = {right};\n  assign faulty_{number} = {faulty};\n"
        f"  assign {left} = mutant == {number} ? faulty_{number} : intact_{number};"
    )
