#!/usr/bin/env bash
# How fast merging is and how much memory it takes, on sources that it makes itself, offline.
#
#   scripts/bench.sh                        200,000 points × 512 out of three sources, by rebuild
#   scripts/bench.sh --full                 that; 1,000,000 × 128: memory must not grow with points;
#                                           graft of 300,000 × 512, warm and cold, of logs to take in
#                                           and of conflicts; of 1,000,000 and 10,000,000 tiny points
#                                           with numbers and UUIDs; graft of 100,000 to 1,000,000 × 128;
#                                           proof and archive of 300,000 × 512
#   scripts/bench.sh --points N --dims N --sources N --indexed --cold --runs N --stages LIST
#
# LIST is some of open,scan,merge,whole,graft,graft-checked,graft-tail,graft-overlap,graft-ids,
# graft-uuids,stamp,consolidate,many-sources,archive-add,archive-get,archive-check,archive-add-warm,archive-get-warm,verify,
# verify-deep,live: merge is by
# rebuild without graphs, whole with them; an archive is compared with copying on the disk, and, where
# it says warm, out of the page cache; live needs a Qdrant (QDRANT_BIN, or qdrant on PATH), and
# compares capture with curl, and, where SNAPMERGE_BENCH_GUIDE names the script of Qdrant's guide and
# SNAPMERGE_BENCH_PYTHON a Python that can run it, replay, graft and restore with that. With --indexed the sources have graphs, as a server's
# have; making those takes minutes the first time. Sources are kept in SNAPMERGE_BENCH_DIR (or a
# folder for temporary files), which must lie on the disk that is to be measured. Other work on the
# machine shows: seconds grow, CPU seconds hardly. Goals are judged under each table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=0 args=()
for arg in "$@"; do
  case $arg in
  --full) full=1 ;;
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) args+=("$arg") ;;
  esac
done
if [ "$full" = 1 ] && [ ${#args[@]} != 0 ]; then
  echo "bench: --full has its own sizes: give it alone" >&2
  exit 2
fi

. scripts/toolchain.sh
export SNAPMERGE_BENCH_DIR=${SNAPMERGE_BENCH_DIR:-${TMPDIR:-/tmp}/snapmerge-bench}
mkdir -p "$SNAPMERGE_BENCH_DIR"

cargo build --locked
bench() { cargo test --locked --quiet --test bench -- "$@"; }

echo "machine: $(nproc) processors, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
  "$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo), load $(cut -d ' ' -f 1 /proc/loadavg)"
if [ "$full" = 1 ]; then
  bench
  bench --points 1000000 --dims 128 --stages open,scan,merge
  graft=(--points 300000 --indexed --runs 5)
  bench "${graft[@]}" --stages graft,graft-checked,graft-tail,graft-overlap
  bench "${graft[@]}" --stages graft,graft-checked,graft-tail,graft-overlap --cold
  bench "${graft[@]}" --stages verify,verify-deep
  bench "${graft[@]}" --stages archive-add,archive-get,archive-check,archive-add-warm,archive-get-warm
  bench --points 300000 --indexed --runs 1 --stages graft,stamp,consolidate,whole
  bench --points 300000 --dims 64 --sources 1000 --runs 1 --stages many-sources
  for points in 100000 300000 1000000; do
    bench --points "$points" --dims 128 --runs 5 --stages graft
  done
  # Memory must not grow with points; by hand with --points 100000000 too, which takes 35 GB three times.
  for points in 1000000 10000000; do
    bench --points "$points" --stages graft-ids,graft-uuids
  done
else
  bench "${args[@]+"${args[@]}"}"
fi
