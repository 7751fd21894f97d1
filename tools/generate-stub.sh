#!/usr/bin/env bash
# Generate the type stub of the compiled core from the installed package into the given folder.
set -euo pipefail
out=${1:-python/cgc_fast}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m pybind11_stubgen cgc_fast._core --output-dir "$folder" --root-suffix '' > /dev/null
mkdir -p "$out"
cp "$folder/cgc_fast/_core.pyi" "$out/_core.pyi"
