"""The classes of ILSVRC's devkit as its `meta.mat` has them, plain and deflated, by SciPy.

    .venv/bin/python peers/fixtures_meta_mat.py --out crates/polynet/src/data/fixtures
"""

import argparse
import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

FIELDS = [
    "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images",
]
LEAF = np.zeros((1, 0))
SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", "small grey fox of southwestern United States", 0, LEAF, 0, 1300),
    (490, "n01751748", "sea snake", "any of numerous venomous aquatic viviparous snakes", 0, LEAF, 0, 1300),
    (1001, "n00001740", "entity", "that which is perceived", 3, np.array([[1.0, 2.0, 3.0]]), 18, 0),
]
# In place of the line that tells the day.
TEXT = b"MATLAB 5.0 MAT-file".ljust(116)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    synsets = np.array(SYNSETS, dtype=[(field, "O") for field in FIELDS]).reshape(-1, 1)
    for name, deflated in [("meta.mat", False), ("meta_deflated.mat", True)]:
        file = io.BytesIO()
        savemat(file, {"before": np.arange(3.0), "synsets": synsets}, do_compression=deflated)
        (out / name).write_bytes(TEXT + file.getvalue()[len(TEXT):])


if __name__ == "__main__":
    main()
