#!/bin/sh
# `make gpu`: what only a Hopper GPU can tell, in under ten minutes. Most important first; a section
# that fails or hangs does not stop the next; what is known is in $OUT at every moment.
#
#   section     plan  limit  what
#   checks        55    110  every kernel against its reference, in processes that may hang or die
#   dense         30     60  GEMMs of DeepSeek-V3's linear layers: ours, cuBLAS, BF16
#   grouped       40     75  GEMMs of its experts, three directions: ours, BF16
#   quantise      15     40  memory-bound kernels beside a copy of as many bytes
#   gate         185    190  `small` in FP8 and BF16 on real rows, three seeds, against 0.25 %
#   train         25     45  `dsv3data train` in FP8, again, and stopped half-way: the same losses?
#   model         60     90  a step of `small`: tokens/s, MFU, memory, the longest kernels
#   checkpoint    30     50  how long training waits for one; pinned copies
#   attention     45     60  flex against torch's own kernels, with and without borders of documents
#   optimizer     12     25  AdamW beside torch's fused one
#   loader        10     20  tokens/s from packed shards to the GPU
#   sanitizer     45     60  compute-sanitizer on small matrices, where it is installed
#
# Seconds. The plan is an estimate: 8 s to import torch and make the model, then mostly compiling
# (0.4 to 1.7 s a GEMM on a CPU core, six cuts, three kinds). `gate` takes the time it is given. After
# LIMIT seconds in all nothing starts and what runs is ended, so a late section may be lost, not an
# early one.
#
#   OUT=folder      results.jsonl, tables.md, summary.txt, log.txt, gemm-choices.json
#   ROWS=folder     a packed set for `gate`, `train` and `loader`, made on any machine, 22 MB:
#                     make demo
#                     .venv/bin/dsv3data pack runs/demo/tokens --context 4096 --fim-rate 0.1 \
#                         --out runs/gpu-rows
#   SECTIONS="…"    these alone, in this order; what OUT has of others stays
#   LIMIT=seconds   in all
#   SMOKE=1         tiny sizes on a CPU, in Triton's interpreter: does the script work?
#   PYTHON=…        needs torch ≥ 2.11, Triton ≥ 3.6, numpy, pyarrow; `gate`, `train` and `checkpoint`
#                   also safetensors. Nothing of ours need be installed.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3} out=${OUT:-runs/gpu} rows=${ROWS:-runs/gpu-rows} failed=0
sections=${SECTIONS:-checks dense grouped quantise gate train model checkpoint attention optimizer loader sanitizer}
smoke='' slower=1
if [ -n "${SMOKE:-}" ]; then
    smoke=--smoke slower=5 TRITON_INTERPRET=1 OMP_NUM_THREADS=1
    export TRITON_INTERPRET OMP_NUM_THREADS
fi
deadline=$(($(date +%s) + slower * ${LIMIT:-570}))
PYTHONPATH="$PWD:$PWD/tests/helpers${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
mkdir -p "$out" && : >"$out/summary.txt" && { nvidia-smi || true; } >"$out/log.txt" 2>&1 || exit 1

say() { echo "$*" | tee -a "$out/summary.txt"; }

# run SECONDS NAME COMMAND...
run() {
    limit=$((slower * $1)) name=$2
    shift 2
    started=$(date +%s)
    left=$((deadline - started))
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -lt 5 ]; then
        failed=1
        say "$name: no time left"
        return
    fi
    UNTIL=$((started + limit - 5)) # when a section should be done, five seconds before it is ended
    export UNTIL
    echo "== $name" >>"$out/log.txt"
    timeout -k 5 "$limit" "$@" >>"$out/log.txt" 2>&1
    code=$?
    [ "$code" = 0 ] || failed=1
    say "$name: exit $code after $(($(date +%s) - started)) s"
    "$python" benchmarks/kernels_table.py "$out" >"$out/tables.md" 2>>"$out/log.txt" || failed=1
}

# measure SECONDS SECTION SCRIPT
measure() {
    run "$1" "$2" "$python" "benchmarks/$3" "$2" --out "$out" --rows "$rows" $smoke
}

for section in $sections; do
    case $section in
    checks) measure 110 checks kernels.py ;;
    dense) measure 60 dense kernels.py ;;
    grouped) measure 75 grouped kernels.py ;;
    quantise) measure 40 quantise kernels.py ;;
    gate) measure 190 gate gpu_training.py ;;
    train) measure 45 train gpu_training.py ;;
    model) measure 90 model gpu_training.py ;;
    checkpoint) measure 50 checkpoint gpu_training.py ;;
    attention) measure 60 attention gpu_training.py ;;
    optimizer) measure 25 optimizer gpu_training.py ;;
    loader) measure 20 loader gpu_training.py ;;
    sanitizer)
        if command -v compute-sanitizer >/dev/null; then
            run 60 sanitizer compute-sanitizer --error-exitcode 9 \
                "$python" tests/helpers/kernel_checks.py cuda --small 0
        else
            say "sanitizer: compute-sanitizer is not on this machine"
        fi
        ;;
    *)
        failed=1
        say "$section: no such section"
        ;;
    esac
done
cat "$out/tables.md" 2>/dev/null
exit $failed
