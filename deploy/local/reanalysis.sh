#!/usr/bin/env bash
# One scheduled reanalysis on this machine: the release that a plan describes, made from the last one (docs/reanalysis.md).
# What was stopped is continued, nothing is done where nothing has changed, and only one runs at a time in a folder of releases.
# Usage: BIOLMM_PLAN=plan.yaml MEMORY=24G WORKERS=4 deploy/local/reanalysis.sh
# Exit codes: those of `biolmm run`; 65: done, but for traits that cannot be analysed.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
if [[ -z ${BIOLMM_PLAN:-} ]]; then
    echo "set BIOLMM_PLAN to the plan of the releases" >&2
    exit 64
fi
exec "$here/run.sh" reanalyse "$BIOLMM_PLAN"
