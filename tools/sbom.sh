#!/usr/bin/env bash
# Writes the list of parts (SBOM) of a release as CycloneDX 1.6 JSON: what `pip install WHEEL` brings, each with version, licence
# and what it needs.  usage: tools/sbom.sh OUT WHEEL [PYTHON of an environment that has the wheel already]
# Run with the development environment's programs on PATH.  The document is validated before it is written; it has no time and
# no random number, so that two runs over the same environment are one file.
set -euo pipefail
out=$1 wheel=$2 python=${3:-}
if [ -z "$python" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    uv venv -q "$folder/venv"
    python=$folder/venv/bin/python
    uv pip install -q --python "$python" "$wheel"
fi
mkdir -p "$(dirname "$out")"
cyclonedx-py environment --output-reproducible --sv 1.6 --of JSON --validate --pyproject "$(dirname "$0")/../pyproject.toml" -o "$out" "$python"
