#!/usr/bin/env bash
# Where to start fine-tuning, how much to train, who is scored worse, and what was looked at; about half an hour on 2 cores.
#   examples/real_films/trust.sh FOLDER OUT
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
films="--records $out/tables/opacity.csv"
small="store=$out/store store_size=112 image_size=96 threads=1"
[ -f "$out/tables/union.csv" ] || "${PYTHON:-.venv/bin/python}" examples/real_films/prepare.py "$folder" "$out/tables"
mkdir -p "$out/trust"
"$bin/hilum" pretrain simclr --records "$out/tables/union.csv" --out "$out/trust/simclr" \
    --hold-out "$out/tables/opacity.csv" "$out/tables/findings.csv" "$out/tables/sex.csv" \
    --arch resnet18 --image-size 96 --store-size 112 --store "$out/store" --threads 1 \
    --epochs 1 --batch-size 128 --lr 1e-3 --view crop_min=0.3
cat > "$out/trust/strategies.yaml" <<YAML
fit: finetune
steps: 40
batch_size: 32
lr: 0.0005
label_fraction: [0.1, 1]
seeds: [0, 1, 2, 3, 4]
axes:
  strategy:
    from scratch: {init: random}
    ImageNet SqueezeNet: {init: $folder/imagenet_squeezenet/squeezenet1_0_imagenet.pth, arch: torchvision/squeezenet1_0, mean: 0.449, std: 0.226}
    SimCLR: {init: $out/trust/simclr}
YAML
cat > "$out/trust/freezing.yaml" <<YAML
init: $out/trust/simclr
steps: 40
batch_size: 32
lr: 0.0005
seeds: [0, 1, 2]
axes:
  trained:
    head alone: {fit: linear}
    from layer4: {fit: finetune, train_from: layer4}
    from layer3: {fit: finetune, train_from: layer3}
    from layer2: {fit: finetune, train_from: layer2}
    from layer1: {fit: finetune, train_from: layer1}
    all: {fit: finetune}
YAML
for sweep in strategies freezing; do
    "$bin/hilum" sweep transfer --config "$out/trust/$sweep.yaml" $films --out "$out/trust/$sweep" --set $small --parallel 2
done
one="$films --store $out/store --store-size 112 --threads 1"
"$bin/hilum" transfer $one --init "$out/trust/simclr" --calibrate platt --out "$out/trust/logistic"
"$bin/hilum" transfer $one --init "$out/trust/simclr" --fit finetune --steps 120 --batch-size 32 --lr 5e-4 \
    --out "$out/trust/finetuned"
for run in logistic finetuned; do
    "$bin/hilum" explain "$out/trust/$run" $films --store "$out/store" --store-size 112 --finding Opacity --split test \
        --limit 0 --score always --out "$out/trust/maps-$run"
done
"${PYTHON:-.venv/bin/python}" examples/real_films/trust.py "$out/trust" docs
