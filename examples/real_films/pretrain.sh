#!/usr/bin/env bash
# Four pretrainings on the same films at the same budget, two at a time; about 20 minutes on 2 cores.
#   examples/real_films/pretrain.sh FOLDER OUT
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
[ -f "$out/tables/union.csv" ] || "${PYTHON:-.venv/bin/python}" examples/real_films/prepare.py "$folder" "$out/tables"
pretrain() {
    for method in "$@"; do
        "$bin/hilum" pretrain "$method" --records "$out/tables/union.csv" --out "$out/pretrained/$method" \
            --hold-out "$out/tables/opacity.csv" "$out/tables/findings.csv" "$out/tables/sex.csv" \
            --arch resnet18 --image-size 96 --store-size 112 --store "$out/store" --threads 1 \
            --epochs 5 --batch-size 128 --lr 1e-3 --view crop_min=0.3
    done
}
pretrain simclr supervised &
pretrain moco barlow_twins
wait
