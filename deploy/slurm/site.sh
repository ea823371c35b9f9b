# Read by the batch scripts: the site's settings, and `biolmm` on the PATH. Nothing is run by calling this file.
# shellcheck shell=bash
umask 077
biolmm_site=${BIOLMM_SITE:-$PWD/site.env}
# shellcheck disable=SC1090
if [[ -r $biolmm_site ]]; then source "$biolmm_site"; fi
# One word each: names of modules.
# shellcheck disable=SC2086
if [[ -n ${BIOLMM_MODULES:-} ]]; then module load $BIOLMM_MODULES; fi
if [[ -n ${BIOLMM_VENV:-} ]]; then PATH=$BIOLMM_VENV/bin:$PATH; fi
export PATH OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg
# Since SLURM 22.05 a step does not inherit it.
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
if ! command -v biolmm >/dev/null; then
    echo "biolmm is not on the PATH of $(hostname): set BIOLMM_VENV or BIOLMM_MODULES in $biolmm_site." >&2
    exit 64
fi
