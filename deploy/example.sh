#!/usr/bin/env bash
# Set up, simulate a cohort, and run the main job on it: from a fresh clone to report.html.
# Usage: deploy/example.sh [FOLDER]   (default example). SAMPLES and VARIANTS set the size.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-example}
venv=$(deploy/setup.sh "${VENV:-.venv}")
biolmm="$venv/bin/biolmm"
cohort="$out/cohort"

if [[ ! -e "$cohort.zarr" ]]; then
    mkdir -p "$out"
    "$biolmm" simulate "$cohort.zarr" --samples "${SAMPLES:-3000}" --variants "${VARIANTS:-20000}" --traits 2 \
        --h2 0.4,0.2 --large 5
fi
"$biolmm" gwas --genotypes "$cohort.zarr" --traits "$cohort.traits.tsv" --covariates "$cohort.covariates.tsv" \
    --method linear --out "$out/results"
