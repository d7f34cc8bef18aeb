#!/bin/sh
# On a machine with a Hopper GPU, torch >= 2.11 and Triton >= 3.6: check every FP8 kernel against its
# reference, then time them. Needs nothing installed of ours. Under ten minutes; JSON into $OUT.
#   OUT=folder PYTHON=python3 scripts/gpu.sh
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3} out=${OUT:-runs/gpu} failed=0
PYTHONPATH="$PWD:$PWD/tests/helpers${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
mkdir -p "$out"

# run SECONDS NAME COMMAND...: a part that hangs or fails does not take the others with it.
run() {
    limit=$1 name=$2
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    [ "$code" = 0 ] || failed=1
    echo "$name: exit $code" | tee -a "$out/summary.txt"
}

# -P: this folder's file names must not hide the standard library's.
run 150 checks "$python" -P tests/helpers/kernel_checks.py cuda 0 1
run 60 dense "$python" -P benchmarks/kernels.py dense --out "$out/dense.json"
run 80 grouped "$python" -P benchmarks/kernels.py grouped --out "$out/grouped.json"
run 40 quantise "$python" -P benchmarks/kernels.py quantise --out "$out/quantise.json"
run 120 model "$python" -P benchmarks/kernels.py model --out "$out/model.json"
run 60 training "$python" -P benchmarks/kernels.py training --out "$out/training.json"
run 30 specialised "$python" -P benchmarks/kernels.py specialised --out "$out/specialised.json"
if command -v compute-sanitizer >/dev/null; then
    run 50 sanitizer compute-sanitizer --error-exitcode 9 \
        "$python" -P tests/helpers/kernel_checks.py cuda --small 0
else
    echo "sanitizer: compute-sanitizer is not on this machine" | tee -a "$out/summary.txt"
fi
grep -h '^{"check"' "$out/checks.log" >"$out/checks.jsonl"
exit $failed
