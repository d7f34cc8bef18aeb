#!/bin/sh
# On a machine with a Hopper GPU: check every FP8 kernel against its reference, then time them. Needs
# torch >= 2.11, Triton >= 3.6, numpy and pyarrow; nothing installed of ours. Under ten minutes; JSON
# into $OUT.
#   OUT=folder PYTHON=python3 scripts/gpu.sh
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3} out=${OUT:-runs/gpu} failed=0
PYTHONPATH="$PWD:$PWD/tests/helpers${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
mkdir -p "$out"
: >"$out/summary.txt"

# run SECONDS NAME COMMAND...: a part that hangs or fails does not take the others with it.
run() {
    limit=$1 name=$2
    shift 2
    started=$(date +%s)
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    [ "$code" = 0 ] || failed=1
    echo "$name: exit $code after $(($(date +%s) - started)) s" | tee -a "$out/summary.txt"
}

# time_section SECONDS SECTION
time_section() {
    run "$1" "$2" "$python" benchmarks/kernels.py "$2" --out "$out/$2.json"
}

run 150 checks "$python" tests/helpers/kernel_checks.py cuda 0 1
grep -h '^{"check"' "$out/checks.log" >"$out/checks.jsonl"
time_section 90 dense
time_section 80 grouped
time_section 40 quantise
time_section 100 model
time_section 80 training
if command -v compute-sanitizer >/dev/null; then
    run 50 sanitizer compute-sanitizer --error-exitcode 9 \
        "$python" tests/helpers/kernel_checks.py cuda --small 0
else
    echo "sanitizer: compute-sanitizer is not on this machine" | tee -a "$out/summary.txt"
fi
"$python" benchmarks/kernels_table.py "$out" >"$out/tables.md" || failed=1
exit $failed
