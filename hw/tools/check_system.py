"""Find the system packages that are missing, before anything is installed.

Runs with the system's Python, outside the environment, so it uses the standard library only::

    python3 hw/tools/check_system.py rtl test

Each argument is a need: ``rtl`` (an environment), ``test`` (building simulations), ``waves``
(recording them). Prints one line that names the Debian packages, and exits with 1, if one is
missing. With ``--names`` it prints only their names and exits with 0.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig

OLDEST_PYTHON = (3, 11)
"""The oldest Python, as (major, minor), that the project supports."""

PROGRAMS = {"g++": "g++", "make": "make", "perl": "perl"}
"""Programs that building a simulation runs, and the Debian package of each."""

WAVE_HEADERS = {"lz4.h": "liblz4-dev", "zlib.h": "zlib1g-dev"}
"""Headers that a simulation with FST waves is compiled with, and the Debian package of each."""

NEEDS = ("rtl", "test", "waves")
"""What packages can be checked for."""


def python_version() -> tuple[int, int]:
    """Return (major, minor) of the running Python."""
    return sys.version_info[0], sys.version_info[1]


def has_shared_python() -> bool:
    """Say whether the shared library of this Python, which a simulation loads, can be found."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    if not name.startswith("libpython") or ".so" not in name:
        return False
    directory = sysconfig.get_config_var("LIBDIR") or ""
    if os.path.exists(os.path.join(directory, name)):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_header(header: str, compiler: str = "g++") -> bool:
    """Say whether C++ code that includes ``header`` passes the preprocessor."""
    try:
        tried = subprocess.run(
            [compiler, "-E", "-x", "c++", "-o", os.devnull, "-"],
            input=f"#include <{header}>\n",
            text=True,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0


def missing_packages(*needs: str) -> list[str]:
    """Return the Debian packages that are missing for ``needs``, which are among `NEEDS`.

    Raises
    ------
    ValueError
        A need is unknown.
    """
    for need in needs:
        if need not in NEEDS:
            raise ValueError(f"a need must be one of {', '.join(NEEDS)}, not {need!r}")
    missing = []
    if python_version() < OLDEST_PYTHON:
        missing.append("python3 (>= {}.{})".format(*OLDEST_PYTHON))
    if "rtl" in needs and not importlib.util.find_spec("ensurepip"):
        missing.append("python3-venv")
    if "test" in needs:
        missing += [package for name, package in PROGRAMS.items() if not shutil.which(name)]
        if not has_shared_python():
            missing.append("libpython{}.{}".format(*python_version()))
    if "waves" in needs:
        missing += [package for name, package in WAVE_HEADERS.items() if not has_header(name)]
    return missing


def advice(packages: list[str]) -> str:
    """Return the one line that tells a user which packages to install."""
    plain = " ".join(package.partition(" ")[0] for package in packages)
    return f"missing system packages: {', '.join(packages)} -- install with: apt install {plain}"


def main(arguments: list[str]) -> int:
    """Check the needs named in ``arguments``; return the exit status."""
    names_only = "--names" in arguments
    packages = missing_packages(*(need for need in arguments if need != "--names"))
    if names_only:
        print(" ".join(package.partition(" ")[0] for package in packages))
        return 0
    if packages:
        print(advice(packages), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
