"""Small weight files by PyTorch, as an archive and as it wrote before, and a pickle of another kind: what
fuzzing begins with.

    python peers/fixtures_pickles.py --out crates/polynet-fuzz/seeds
"""

import argparse
import collections
import pickle
from pathlib import Path

import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    tensors = collections.OrderedDict(
        weight=torch.arange(6.0).reshape(2, 3), half=torch.ones(4).half(), count=torch.tensor(3)
    )
    file = {"state_dict": tensors, "epoch": 3}
    torch.save(file, out / "zip.pth")
    torch.save(file, out / "legacy.pth", _use_new_zipfile_serialization=False)
    with open(out / "dict.pkl", "wb") as plain:
        pickle.dump({"weight": [1.0, 2.0], "name": "x"}, plain, protocol=2)


if __name__ == "__main__":
    main()
