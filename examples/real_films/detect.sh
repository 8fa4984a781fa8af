#!/usr/bin/env bash
# Detection of lung opacity on the films that RSNA's readers judged: encoders from nothing, from labels and from views alone, frozen and
# fine-tuned; about an hour and a half on 2 cores without bfloat16.
#   examples/real_films/detect.sh FOLDER OUT      (after pretrain.sh)
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
mkdir -p "$out/detect"
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
view: {translate: 0.0625}
lr: 0.001
clip: 1
epochs: 8
frozen_norm: true
axes:
  start:
    random: {init: random, arch: resnet18, frozen_norm: false, encoder_lr: 0.001}
    cross entropy: {init: $out/pretrained/supervised}
    SimCLR: {init: $out/pretrained/simclr}
YAML
sweep() { # name setting seeds
    { cat "$out/detect/starts.yaml"; echo "  seeds: $3"; } > "$out/detect/$1.yaml"
    "$bin/hilum" sweep detect --config "$out/detect/$1.yaml" --records "$out/tables/opacity.csv" --out "$out/detect/$1" \
        --set "$2" --parallel 2
}
sweep frozen freeze=1 "[0, 1, 2]"
sweep fine-tuned encoder_lr=0.0002 "[0, 1]" # takes twice as long each
"${PYTHON:-.venv/bin/python}" examples/detection/table.py docs/results.md detection "$out/detect/frozen" "$out/detect/fine-tuned"
