#!/usr/bin/env bash
# Build both wheels, install them from hashes in a fresh environment of the given Python, and use them from there.
# The environment has nothing of this repository on its path, as on an operator's machine.
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.venv/bin
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
chmod 711 "$place"   # the embedded Postgres runs as another user if we are root
unset PYTHONPATH RAILWATCH_CONFIG
env=$place/env/bin

step() { echo "-- $*"; }
fail() { echo "$*" >&2; exit 1; }

install_wheel() {  # by its hash, like every other package
    printf '%s @ file://%s --hash=sha256:%s\n' "$1" "$2" "$(sha256sum "$2" | cut -d ' ' -f 1)" > "$place/wheel.txt"
    "$env/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$place/wheel.txt"
}

step "build both distributions and a third party's rail"
cp -r "$root/tests/third_party/project" "$place/project"
for project in "$root" "$root/dev" "$place/project"; do
    (cd "$project" && "$tools/python" -m hatchling build -t wheel -d "$place/dist" 2>/dev/null)
done

step "install the production wheel with $("$python" --version)"
"$python" -m venv "$place/env"
"$env/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements/run.lock"
install_wheel railwatch "$place"/dist/railwatch-*.whl

cd "$place"
step "railwatch --version, docs, config example; the demo is refused"
"$env/railwatch" --version
"$env/railwatch" config example | cmp - "$root/config/railwatch.example.toml"
"$env/railwatch" docs runbooks/rail-stalled | cmp - "$root/docs/runbooks/rail-stalled.md"
if refusal=$("$env/railwatch" demo 2>&1); then fail "the demo runs without railwatch-dev"; fi
grep -q "pip install railwatch-dev==" <<< "$refusal" || fail "$refusal"

step "railwatch check, with an embedded Postgres and a third party's rail"
install_wheel railwatch-tiny "$place"/dist/railwatch_tiny-*.whl
"$env/python" "$root/tests/third_party/check_command.py" "$place/check"

step "the types of the wheel refuse a method that does not exist"
types=("$tools/mypy" --strict --no-incremental --cache-dir=/dev/null --config-file= --python-executable "$env/python")
"${types[@]}" -p railwatch_tiny
printf 'from railwatch.rail import RailAdapter\n\n\nasync def newest(rail: RailAdapter) -> object:\n    return await rail.latest()\n' > wrong.py
if refusal=$("${types[@]}" wrong.py); then fail "mypy accepts a method that does not exist"; fi
grep -q '"RailAdapter" has no attribute "latest"' <<< "$refusal" || fail "$refusal"

step "the conformance kit passes the third party's rail"
"$env/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements/dev.lock"
(cd "$place/project" && "$env/python" -m pytest -q -p no:cacheprovider test_tiny.py)

step "core, configuration and decoding, with both wheels on this Python"
install_wheel railwatch-dev "$place"/dist/railwatch_dev-*.whl
cd "$root"
# CI=1: a busy machine is no reason for Hypothesis to fail a test by its time.
CI=1 RAILWATCH_CORE_SHARE=0.05 "$env/python" -m pytest -q -p no:cacheprovider -o pythonpath= --numprocesses=2 -m "not long" \
    -k "not tales and not sixteen_bytes and not model" \
    tests/core tests/test_config.py tests/*/test_address.py tests/*/test_decode.py tests/*/test_wire.py
