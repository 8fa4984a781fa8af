"""One file per family of published checkpoints: how it is recognised, what it becomes, how it sees a film.

A file defines `FAMILY`. Nothing else lists it: `hilum encoder inspect` and `--init` find it by its file.
"""
