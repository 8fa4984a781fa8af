#!/usr/bin/env bash
# Detection of lung opacity on the films that RSNA's readers judged: a random and a pretrained encoder, frozen and fine-tuned.
#   examples/real_films/detect.sh FOLDER OUT      (after pretrain.sh)
set -euo pipefail
folder=$1 out=$2
bin=${HILUM_BIN:-.venv/bin}
detect() { # name settings
    name=$1
    shift
    "$bin/hilum" detect retinanet --records "$out/tables/opacity.csv" --boxes Opacity --out "$out/detect/$name" \
        --store "$out/store" --store-size 512 --threads 1 --seeds 0 1 --width 64 --head-depth 2 --dropout 0.2 \
        --batch-size 4 --negatives 1 --frozen-norm --views rsna_10 --lr 5e-4 --clip 1 --epochs 6 "$@"
}
scratch="--arch resnet18 --image-size 512 --image-fit squash"
detect "random, frozen" --init random $scratch --freeze 1 &
detect "SimCLR, frozen" --init "$out/pretrained/simclr" --freeze 1
wait
detect "random, fine-tuned" --init random $scratch --encoder-lr 5e-4 &
detect "SimCLR, fine-tuned" --init "$out/pretrained/simclr" --encoder-lr 1e-4
wait
"$bin/hilum" compare "$out"/detect/* --baseline "random, frozen" --against all --out "$out/compared/detection"
