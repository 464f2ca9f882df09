#!/bin/sh
# Make a virtual environment in the folder $1 with the first interpreter of a supported version that
# is there and answers: a version manager's command may exist and fail. PYTHON=... chooses one.
set -eu
folder=$1
supported="Python 3.11, 3.12, 3.13 or 3.14"

fail() {
    echo "error: $*" >&2
    exit 2
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

version() {
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null
}

# Every supported interpreter of the search path, a line each, the preferred one first.
interpreters() {
    for name in python3 python3.13 python3.12 python3.11 python3.14; do
        IFS=:
        for directory in $PATH; do
            [ -x "$directory/$name" ] && is_supported "$directory/$name" && echo "$directory/$name"
        done
        unset IFS
    done
}

if [ -n "${PYTHON:-}" ]; then
    is_supported "$PYTHON" || fail "PYTHON=$PYTHON: it does not answer or is not $supported"
    found=$(command -v "$PYTHON")
else
    found=$(interpreters)
    [ -n "$found" ] || fail "no $supported is on the search path: install one" \
        "(Debian, Ubuntu: apt install python3 python3-venv) or say where it is with PYTHON=..."
fi
first=$(echo "$found" | head -n 1)

# An environment that works is kept, and only brought to the locked versions.
if is_supported "$folder/bin/python" && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    if [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$folder/bin/python")" ]; then
        exit 0
    fi
fi

start() {
    echo "setting up $folder with Python $(version "$1") ($1): some minutes"
    rm -rf "$folder"
}

for python in $found; do
    if has_venv "$python"; then
        start "$python"
        exec "$python" -m venv "$folder"
    fi
done
if command -v uv >/dev/null; then
    start "$first"
    exec uv venv --quiet --seed --python "$first" "$folder"
fi
if command -v virtualenv >/dev/null; then
    start "$first"
    exec virtualenv --quiet --python "$first" "$folder"
fi
fail "$first cannot make virtual environments, for its module ensurepip is missing" \
    "(Debian, Ubuntu: apt install python3-venv); uv or virtualenv would do as well"
