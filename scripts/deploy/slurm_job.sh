#!/usr/bin/env bash
# A merge on many nodes with Slurm: plans it, and submits an array for each stage, which depends on the one
# before, and the join. Every node reaches the store and the archive; `snapmerge` and `jq` are on the PATH.
#
#   scripts/deploy/slurm_job.sh MASTER.snapshot /shared/jobs --archive /shared/backups archive:a archive:b
#
# The first word is the master; the others are those of `snapmerge job plan`. SBATCH_FLAGS goes to sbatch, as
# SBATCH_FLAGS='--mem=4G --tmp=100G'; SCRATCH is a folder of each node [/tmp].
set -euo pipefail

if [[ ${1:-} == --task ]]; then
    # One element of the array; the index comes from SLURM_ARRAY_TASK_ID.
    code=0
    snapmerge job task "$2" --stage "$3" --scratch "${SCRATCH:-/tmp}" || code=$?
    case $code in
        # These may go away (`snapmerge help exit-codes`).
        1 | 14)
            if ((${SLURM_RESTART_COUNT:-0} < 3)); then
                scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
            fi
            ;;
    esac
    exit "$code"
fi

(($# >= 3)) || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
master=$1
shift
# 3: planned, but a source lacks something, and --allow-incomplete was given.
code=0
plan=$(snapmerge job plan "$@" --json) || code=$?
((code == 0 || code == 3)) || exit "$code"
job=$(jq -r .job <<<"$plan")
read -ra flags <<<"${SBATCH_FLAGS:-}"
after=()
stages=$(jq -r '.stages[] | "\(.stage) \(.tasks | length)"' <<<"$plan")
while read -r stage tasks <&3; do
    array=$(sbatch --parsable --requeue "--array=0-$((tasks - 1))" "${after[@]}" "${flags[@]}" "$0" --task "$job" "$stage")
    array=${array%%;*}
    after=("--dependency=afterok:$array")
    echo "$job: $tasks tasks of the stage $stage in $array"
done 3<<<"$stages"
join=$(sbatch --parsable "${after[@]}" "${flags[@]}" \
    --wrap "$(printf 'snapmerge job join %q -o %q' "$job" "$master")")
echo "$job: joined by $join"
