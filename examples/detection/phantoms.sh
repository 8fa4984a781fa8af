#!/usr/bin/env bash
# Detectors of synthetic opacities and large hearts from random and from pretrained encoders, frozen and fine-tuned; 40 minutes on 2 cores.
#   examples/detection/phantoms.sh OUT
set -euo pipefail
out=$1
bin=${HILUM_BIN:-.venv/bin}
films="$out/films-split.csv"
if [ ! -f "$films" ]; then
    "${PYTHON:-.venv/bin/python}" -c "from pathlib import Path; from hilum.images.phantom import write_phantoms
write_phantoms(Path('$out/films'), count=800, size=160, seed=11)"
    "$bin/hilum" records split --records "$out/films/records.csv" --val 0.15 --test 0.35 --out "$films"
fi
pretrain() {
    for method in "$@"; do
        "$bin/hilum" pretrain "$method" --records "$films" --findings Cardiomegaly Consolidation --out "$out/$method" \
            --arch resnet18 --image-size 96 --store-size 96 --store "$out/store" --threads 1 --epochs 30 --batch-size 64 --lr 1e-3
    done
}
pretrain supervised &
pretrain supcon
wait
cat > "$out/starts.yaml" <<YAML
detector: retinanet
boxes: [Cardiomegaly, Consolidation]
image_size: 128
store: $out/store
store_size: 128
threads: 1
width: 64
head_depth: 2
batch_size: 8
steps: 150
lr: 0.001
clip: 1
frozen_norm: true
axes:
  start:
    random: {init: random, arch: resnet18, frozen_norm: false}
    cross entropy: {init: $out/supervised}
    SupCon: {init: $out/supcon}
  label_fraction: [0.1, 1]
  seeds: [0, 1, 2]
YAML
sweep() { # name settings
    "$bin/hilum" sweep detect --config "$out/starts.yaml" --records "$films" --out "$out/$1" --set "$2" --parallel 2
}
sweep frozen freeze=1
sweep fine-tuned freeze=0
"${PYTHON:-.venv/bin/python}" examples/detection/table.py docs/detection.md phantoms "$out/frozen" "$out/fine-tuned"
