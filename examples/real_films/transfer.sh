#!/usr/bin/env bash
# Four tasks, floors and pretrainings, 1 %, 10 % and 100 % of the labels, five draws; about 20 minutes on 2 cores.
#   examples/real_films/transfer.sh FOLDER OUT      (after pretrain.sh)
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
few="--label-fraction 0.01 0.1 1 --seeds 0 1 2 3 4 --threads 1"
probe() { # task name init [settings]
    task=$1 name=$2 init=$3
    shift 3
    "$bin/hilum" transfer --records "$out/tables/$task.csv" --out "$out/transfer/$task/$name" --init "$init" $few \
        --store "$out/store" "$@"
}
all() {
    for task in "$@"; do
        small="--image-size 96 --store-size 112"
        probe "$task" "pixels 32x32" pixels $small
        probe "$task" "random encoder" random $small
        probe "$task" "ImageNet SqueezeNet" "$folder/imagenet_squeezenet/squeezenet1_0_imagenet.pth" \
            --arch torchvision/squeezenet1_0 --mean 0.449 --std 0.226 --store-size 256
        for method in simclr moco barlow_twins supervised; do
            probe "$task" "$method" "$out/pretrained/$method" --store-size 112
        done
        probe "$task" "from scratch" random $small --fit finetune --steps 40 --batch-size 32 --lr 1e-3
        "$bin/hilum" compare "$out/transfer/$task"/* --baseline "random encoder" --out "$out/compared/$task"
    done
}
all opacity opacity_pa &
all sex findings
wait
"${PYTHON:-.venv/bin/python}" examples/real_films/results.py "$out/compared" docs
