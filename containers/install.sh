#!/bin/sh
# The steps of the image, as root; the Dockerfile and the Apptainer definition run them.
#
#     install.sh packages cpu|cuda    the system's packages, and those of requirements-lock.txt
#     install.sh project              grok-lab itself
set -eu
cd "$(dirname "$0")/.."
bin=/opt/grok/bin

case "$*" in
"packages cpu" | "packages cuda")
    # A compiler and Python's headers for generated C++ and Triton, git for projects that are mounted,
    # libcurl for mongod, tini because a first process has no default signal handlers.
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates g++ git libcurl4 python3-dev python3-venv tini
    rm -rf /var/lib/apt/lists/*
    python3 -m venv /opt/grok
    if [ "$2" = cpu ]; then # PyPI's torch brings CUDA along
        $bin/pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu \
            "$(grep '^torch==' requirements-lock.txt)"
    fi
    # incense asks for JupyterLab without importing it
    grep -v ^incense requirements-lock.txt | $bin/pip install --no-cache-dir -r /dev/stdin
    grep ^incense requirements-lock.txt | $bin/pip install --no-cache-dir --no-deps -r /dev/stdin
    ;;
project)
    $bin/pip install --no-cache-dir --use-pep517 --no-deps --no-build-isolation .
    if $bin/pip check | grep -v -e ' requires jupyterlab,' -e '^No broken requirements found'; then
        exit 1
    fi
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
