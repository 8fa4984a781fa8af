#!/usr/bin/env bash
# Four pretrainings on the same films at the same budget; about 40 minutes on 2 cores.
#   examples/real_films/pretrain.sh FOLDER OUT
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
[ -f "$out/tables/union.csv" ] || "$bin/python" examples/real_films/prepare.py "$folder" "$out/tables"
for method in simclr moco barlow_twins supervised; do
    "$bin/hilum" pretrain "$method" --records "$out/tables/union.csv" --out "$out/pretrained/$method" \
        --hold-out "$out/tables/opacity.csv" "$out/tables/findings.csv" "$out/tables/sex.csv" \
        --arch resnet18 --image-size 128 --store-size 144 --store "$out/store" \
        --epochs 10 --batch-size 128 --lr 1e-3 --view crop_min=0.3
done
