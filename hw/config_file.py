"""Configurations from a TOML file, or from a preset: what ``CONFIG=`` and ``PRESET=`` mean.

A file holds fields of ``AttentionConfig``. Those left out have the values of the preset that
``preset`` names, or else the defaults::

    preset = "lm"
    rows = 4
    budget = 256
"""

import re
import tomllib
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import get_type_hints

from hw.config import PRESETS, AttentionConfig, ConfigError, preset

DEFAULT_PRESET = "lm"
_BASE = "preset"


def choose_config(preset_name: str | None, file: Path | None) -> AttentionConfig:
    """The configuration that a command line asks for, ``DEFAULT_PRESET`` if it names none.

    Raises
    ------
    ConfigError
        Both are given, there is no such preset, or the file is refused.
    """
    if preset_name is not None and file is not None:
        raise ConfigError(
            f"give a preset or a configuration file, not both ({preset_name!r} and '{file}')"
        )
    if file is not None:
        return load_config(file)
    return preset(DEFAULT_PRESET if preset_name is None else preset_name)


def load_config(file: Path) -> AttentionConfig:
    """The configuration in a TOML file; its name is the file's, unless the file gives one.

    Raises
    ------
    ConfigError
        The file cannot be read, a field is unknown or has an illegal value, or the name is that of
        a preset with other parameters. The message begins with the file's path.
    """
    try:
        return _configuration(tomllib.loads(file.read_text(encoding="utf-8")), file.stem)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: must be a TOML file: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _configuration(content: dict[str, object], stem: str) -> AttentionConfig:
    types: dict[str, type] = get_type_hints(AttentionConfig)
    for field in content:
        if field not in types and field != _BASE:
            raise ConfigError(_unknown(field, [_BASE, *types]))
    base: dict[str, object] = {}
    if _BASE in content:
        chosen = content.pop(_BASE)
        if not isinstance(chosen, str):
            raise ConfigError(f"{_BASE} must be one of {', '.join(PRESETS)}, not {chosen!r}")
        base = asdict(preset(chosen))
    name = content.setdefault("name", re.sub("[^A-Za-z0-9_-]", "-", stem))
    if not isinstance(name, str):
        raise ConfigError(f"name must be a string, not {name!r}")
    config = AttentionConfig(**(base | content))  # type: ignore[arg-type]
    # 64.0 equals the integer, so a comparison with the legal values lets it through.
    for field, value in asdict(config).items():
        if not isinstance(value, types[field]):
            raise ConfigError(f"{field} must be an integer, not {value!r}")
    # A preset's name in a report promises the preset's parameters.
    if name in PRESETS and config != PRESETS[name]:
        raise ConfigError(f"name must not be that of a preset with other parameters, not {name!r}")
    return config


def _unknown(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"the fields are {', '.join(known)}"
    return f"there is no field {name!r}; {hint}"
