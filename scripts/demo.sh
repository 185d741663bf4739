#!/usr/bin/env bash
# Shows what snapmerge does, on a bare machine: builds it, then looks into the three albums of
# fixtures/ (real Qdrant 1.18.3 snapshots), merges them, proves the master and reads it.
#
#   scripts/demo.sh            into a new temporary folder, which stays
#   scripts/demo.sh FOLDER     into FOLDER
set -euo pipefail
[ $# -le 1 ] && [[ ${1:-} != -* ]] || { echo "usage: scripts/demo.sh [FOLDER]" >&2; exit 2; }
if [ $# = 1 ]; then
  mkdir -p "$1"
  out=$(cd "$1" && pwd)
else
  out=$(mktemp -d "${TMPDIR:-/tmp}/snapmerge-demo.XXXXXX")
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

master=$out/album_master.snapshot
if [ -e "$master" ]; then
  echo "demo: $master is there already: remove it, or give another folder" >&2
  exit 2
fi
albums=(fixtures/album_2017.snapshot.gz fixtures/album_2018.snapshot.gz fixtures/album_2019_overlap.snapshot.gz)

. scripts/toolchain.sh
heading() { printf '\n== %s\n' "$1"; }
# show COMMAND...: prints the command as one could type it, then runs it. Exit code 3 (done, but
# something differs: two albums have other payload indexes than the third) is a result, not a failure.
show() {
  local code=0
  printf '$ %s\n' "$*"
  "$@" || code=$?
  [ "$code" = 3 ] && echo "(exit code 3: done, but something differs or was left out)" && return 0
  return "$code"
}

heading "build"
show cargo build --locked
PATH=$CARGO_TARGET_DIR/debug:$PATH

heading "what is in the three albums, and what would stop them from merging"
show snapmerge inspect "${albums[@]}"

heading "merge them; 200 ids are in two albums, and the later album wins"
show snapmerge merge "${albums[@]}" -o "$master"

heading "verify the master against its sources, with 50 searches and a look at its clusters"
show snapmerge verify "$master" --queries 50 --structure 300 --against "${albums[@]}"

heading "the same as one HTML page"
printf '$ snapmerge verify %s … --json > verify.json; snapmerge report verify.json -o report.html\n' "$master"
snapmerge verify "$master" --quiet --queries 50 --structure 300 --json --against "${albums[@]}" > "$out/verify.json"
snapmerge report "$out/verify.json" -o "$out/report.html" --force

heading "what is in the master: its first three points"
printf '$ snapmerge export %s | head -n 3\n' "$master"
# head ends the pipe early, which is no failure here; what export says about it would still be seen.
(set +o pipefail; snapmerge export "$master" | head -n 3)

heading "done"
echo "the master: $master"
echo "the report: $out/report.html"
echo "any Qdrant restores it: curl -X POST 'http://HOST:6333/collections/album_master/snapshots/upload?priority=snapshot' -F 'snapshot=@$master'"
