#!/bin/sh
# Make a virtual environment and install Skerry into it.  usage: venv.sh PYTHON DIRECTORY EXTRA
set -eu
python=$1 directory=$2 extra=$3

if [ -z "$python" ]; then
    echo "Skerry needs Python 3.11 or newer; none was found on PATH." >&2
    echo "  Debian/Ubuntu: sudo apt-get install python3 python3-venv" >&2
    exit 2
fi
if [ ! -x "$directory/bin/python" ]; then
    echo "Creating a virtual environment in $directory with $($python --version)" >&2
    if ! "$python" -m venv "$directory" >/dev/null 2>"$directory.log"; then
        rm -rf "$directory"
        echo "$python cannot make virtual environments:" >&2
        sed 's/^/  /' "$directory.log" | head -5 >&2
        rm -f "$directory.log"
        echo "  Debian/Ubuntu: sudo apt-get install python3-venv" >&2
        exit 2
    fi
    rm -f "$directory.log"
fi
echo "Installing Skerry and what it needs (extra: $extra)" >&2
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$extra]"
