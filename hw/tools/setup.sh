#!/bin/sh
# Make or complete the virtual environment .venv from the pinned versions in pyproject.toml.
#
#   hw/tools/setup.sh rtl     what Verilog and area need (no torch)
#   hw/tools/setup.sh all     that, and simulation, golden model, training, benchmarks, linters
#
# Environment: PYTHON (default python3), TORCH_INDEX (package index to take torch from, alone).
set -eu
cd "$(dirname "$0")/../.."

level=${1:?level: rtl or all}
python=${PYTHON:-python3}
case $level in
    rtl) needs="rtl" extras="rtl" ;;
    all) needs="rtl test" extras="rtl,test,train,bench,dev" ;;
    *) echo "setup: the level must be rtl or all, not '$level'" >&2; exit 2 ;;
esac

say() { echo "setup: $*"; }

if ! command -v "$python" > /dev/null; then
    echo "missing system packages: python3 -- install with: apt install python3 python3-venv" >&2
    exit 1
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "setup: $(uname -sm) is not supported: the pinned tools are built for Linux x86_64" >&2
    exit 1
fi
case $PWD in
    *[[:space:]]*)
        echo "setup: the path '$PWD' holds a space, which make cannot build under" >&2
        exit 1 ;;
esac
# The words of $needs are separate arguments.
# shellcheck disable=SC2086
"$python" hw/tools/check_system.py $needs

say "[1/3] virtual environment .venv ($("$python" --version))"
[ -x .venv/bin/python ] || "$python" -m venv .venv

install() { .venv/bin/python -m pip install --disable-pip-version-check "$@"; }

torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml | head -n 1)
if [ "$level" = rtl ]; then
    say "[2/3] torch is not needed here"
elif [ -n "${TORCH_INDEX:-}" ]; then
    say "[2/3] $torch from $TORCH_INDEX"
    install --index-url "$TORCH_INDEX" "$torch"
elif .venv/bin/python -c "import torch" 2> /dev/null; then
    say "[2/3] torch is installed already"
else
    say "[2/3] $torch from the default package index. On Linux that build may bring CUDA, several"
    say "      gigabytes; for a small CPU build stop here and run: make setup TORCH_INDEX=<url>"
    say "      with the CPU index from PyTorch's own install page."
fi

say "[3/3] pinned packages: $extras"
install --editable ".[$extras]"
if [ "$level" = all ]; then
    .venv/bin/python -c "import find_libpython as f, sys; sys.exit(f.find_libpython() is None)" || {
        version=$(.venv/bin/python -c "import sys; print('%d.%d' % sys.version_info[:2])")
        echo "missing system packages: libpython$version -- install with: apt install libpython$version" >&2
        exit 1
    }
fi
say "done"
