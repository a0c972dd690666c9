#!/usr/bin/env bash
# Build what Binder would build, in an empty folder and a new environment, and run all notebooks there, each in 2 GB.
#
#   binder/check.sh [NOTEBOOK ...]
#
# Memory is looked at from outside (tests/run_notebooks.py): no container is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$folder"

wanted=$(tr -d - < binder/runtime.txt)
"$(command -v "$wanted" || command -v python3)" -m venv "$folder/.binder"
cd "$folder"
unset PYTHONPATH
export PATH="$folder/.binder/bin:$PATH" JAX_COMPILATION_CACHE_DIR="$folder/.cache" MPLBACKEND=Agg
python -m pip install --quiet --disable-pip-version-check --requirement binder/requirements.txt
echo "environment: $(python --version), $(du -sm .binder | cut -f 1) MB"
binder/postBuild
binder/start python tests/run_notebooks.py --limit 2 "$@"
