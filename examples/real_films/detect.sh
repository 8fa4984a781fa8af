#!/usr/bin/env bash
# Detection of lung opacity on the films that RSNA's readers judged: encoders from nothing, from labels and from views alone, frozen and
# fine-tuned; about an hour on 2 cores.
#   examples/real_films/detect.sh FOLDER OUT      (after pretrain.sh)
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
mkdir -p "$out/detect"
"$bin/hilum" pretrain supcon --records "$out/tables/union.csv" --out "$out/detect/supcon" \
    --hold-out "$out/tables/opacity.csv" "$out/tables/findings.csv" "$out/tables/sex.csv" \
    --arch resnet18 --image-size 96 --store-size 112 --store "$out/store" --threads 1 \
    --epochs 5 --batch-size 128 --lr 1e-3 --view crop_min=0.3
cat > "$out/detect/starts.yaml" <<YAML
detector: retinanet
boxes: [Opacity]
image_size: 512
image_fit: squash
store: $out/store
store_size: 512
threads: 1
width: 64
head_depth: 2
dropout: 0.2
batch_size: 4
negatives: 1
views: rsna_10
lr: 0.001
clip: 1
epochs: 10
frozen_norm: true
axes:
  start:
    random: {init: random, arch: resnet18, frozen_norm: false, encoder_lr: 0.001}
    cross entropy: {init: $out/pretrained/supervised}
    SupCon: {init: $out/detect/supcon}
    SimCLR: {init: $out/pretrained/simclr}
  seeds: [0, 1, 2]
YAML
sweep() { # name setting
    "$bin/hilum" sweep detect --config "$out/detect/starts.yaml" --records "$out/tables/opacity.csv" --out "$out/detect/$1" \
        --set "$2" --parallel 2
}
sweep frozen freeze=1
sweep fine-tuned encoder_lr=0.0002
"${PYTHON:-.venv/bin/python}" examples/detection/table.py docs/results.md detection "$out/detect/frozen" "$out/detect/fine-tuned"
