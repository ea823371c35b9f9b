#!/usr/bin/env bash
# One scheduled reanalysis: a new release, or the one that was not finished. It runs the whole analysis again; that unchanged
# inputs are recognised and only what is new is computed is not part of it yet.
# Usage: BIOLMM_ARGUMENTS="gwas …" BIOLMM_RELEASES=FOLDER deploy/local/reanalysis.sh
set -euo pipefail
umask 077
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
releases=${BIOLMM_RELEASES:?set BIOLMM_RELEASES to the folder of releases}
read -ra arguments <<<"${BIOLMM_ARGUMENTS:?set BIOLMM_ARGUMENTS to what biolmm should do}"
mkdir -p "$releases"
# One at a time, whoever starts it.
exec 9>"$releases/.lock"
if ! flock --nonblock 9; then
    echo "another reanalysis is running in $releases" >&2
    exit 75
fi
# What was stopped is finished first.
release=
for found in "$releases"/20*; do
    if [[ -d $found ]] && ! grep -q '"finished": "' "$found/run.json" 2>/dev/null; then release=$found; fi
done
release=${release:-$releases/$(date +%FT%H%M%S)}
echo "release $release"
"$here/run.sh" "${arguments[@]}" --out "$release"
ln -sfn "$(basename "$release")" "$releases/latest"
