#!/usr/bin/env bash
# Run biolmm with worker processes on this machine and a limit that the system enforces, so that an analysis that needs
# more memory than it should ends with an error, and the machine and everybody else's work go on.
# Usage: MEMORY=24G WORKERS=4 deploy/local/run.sh gwas --genotypes cohort.zarr --traits traits.tsv --out results
# MEMORY: of all processes together where systemd can limit them, of each process otherwise (default: three quarters of
# what is free). WORKERS: processes (default: one for each processor). Exit codes: those of `biolmm run`.
set -euo pipefail
umask 077
if (($# == 0)); then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 64
fi
free_mb=$(awk '/^MemAvailable/ {print int($2 / 1024 * 3 / 4)}' /proc/meminfo)
memory=${MEMORY:-${free_mb}M}
if [[ ! $memory =~ ^[0-9]+[MG]$ ]]; then
    echo "MEMORY is '$memory' but must be a number with M or G, such as 24G." >&2
    exit 64
fi
megabytes=${memory%[MG]}
if [[ $memory == *G ]]; then megabytes=$((megabytes * 1024)); fi
workers=${WORKERS:-$(nproc)}
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=${MPLBACKEND:-Agg}

# Each worker and the driver get a share below the limit: Dask acts before the system has to.
share=$((megabytes * 9 / 10 / (workers + 1)))
export BIOLMM_MEMORY=${share}MiB # where the command has no --memory
command=("${BIOLMM:-biolmm}" run --cluster local --workers "$workers" --worker-memory "${share}MiB" -- "$@")

if [[ -z ${NO_SYSTEMD:-} ]] && systemd-run --user --scope --quiet true 2>/dev/null; then
    exec systemd-run --user --scope --quiet -p MemoryMax="${megabytes}M" -p MemorySwapMax=0 -- "${command[@]}"
fi
ulimit -d $((megabytes * 1024))
exec "${command[@]}"
