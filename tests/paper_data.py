"""The paper's image sets in miniature, each in the layout that people download or unpack it in.

A few random images of each class; folders, archives, file names and label files are those of the originals.
"""

import csv
import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lsncli.reference.classes import class_list

SIDE = 16


def lay_out(
    root: Path,
    classes: str = "imagenet1k",
    *,
    train: int = 3,
    val: int = 1,
    ood: int = 6,
    imagenet: str = "torchvision",
    open_sets: bool = True,
) -> Path:
    """Everything the paper's suite asks for, below ``root``; ImageNet has the classes of one list.

    ``train`` images of each class are for the classes of ImageNet-10, -20 and -100; others have one.
    """
    wnids = [one.wnid for one in class_list("imagenet1k").classes if one.wnid in class_list(classes).by_key]
    few = {one.wnid for size in ("10", "20", "100") for one in class_list(f"imagenet{size}").classes}
    write_imagenet(root, {wnid: train if wnid in few else 1 for wnid in wnids}, val, imagenet)
    for number, name in enumerate(("iNaturalist", "SUN", "Places")):
        for image in range(ood):
            write_jpeg(root / name / "images" / f"{image:04d}.jpg", (900 + number, image), 70 * number)
    for number, name in enumerate(class_list("dtd").names):
        write_jpeg(root / "dtd" / "images" / name / f"{name}_0001.jpg", (950, number), 60)
    if open_sets:
        write_cifar_python(root, 10, train, val)
        write_cifar_binary(root, 100, train, val)
        write_tiny(root, train, val)
    return root


def write_imagenet(root: Path, counts: Mapping[str, int], val: int, layout: str) -> None:
    """``torchvision``: folders in both; ``kaggle`` and ``devkit``: a flat val with that kind of labels."""
    top = root / ("ILSVRC/Data/CLS-LOC" if layout == "kaggle" else "ImageNet")
    wnids = list(counts)
    for number, wnid in enumerate(wnids):
        for image in range(counts[wnid]):
            write_jpeg(top / "train" / wnid / f"{wnid}_{image}.JPEG", (number, image), number % 90)
    labels = [wnid for _ in range(val) for wnid in wnids]
    for number, wnid in enumerate(labels, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        folder = top / "val" / wnid if layout == "torchvision" else top / "val"
        write_jpeg(folder / name, (2000, number), wnids.index(wnid) % 90)
    if layout == "kaggle":
        with (root / "LOC_val_solution.csv").open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ImageId", "PredictionString"])
            for number, wnid in reversed(list(enumerate(labels, start=1))):
                rows.writerow([f"ILSVRC2012_val_{number:08d}", f"{wnid} 1 2 14 15 {wnid} 3 3 9 9 "])
    if layout == "devkit":
        write_devkit(root / "ILSVRC2012_devkit_t12" / "data", wnids, labels)


def write_devkit(folder: Path, wnids: Sequence[str], labels: Sequence[str]) -> None:
    """``meta.mat`` and the ground truth; numbers are not in the order of the alphabet."""
    from scipy.io import savemat

    folder.mkdir(parents=True)
    numbers = {wnid: number for number, wnid in enumerate(reversed(wnids), start=1)}
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(n, wnid, f"word {n}", 0) for wnid, n in numbers.items()], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets[:, None]})
    lines = "".join(f"{numbers[wnid]}\n" for wnid in labels)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def write_cifar_python(root: Path, classes: int, train: int, test: int, *, archive: bool = False) -> None:
    """The python version: pickles of protocol 2 with keys of bytes."""
    name = "cifar-10-batches-py" if classes == 10 else "cifar-100-python"
    files = {}
    for file, (labels, pixels) in cifar_files(classes, train, test).items():
        content: dict[bytes, object] = {b"data": pixels, b"filenames": [b"x.png"] * len(labels)}
        if classes == 10:
            content |= {b"labels": labels, b"batch_label": b"batch"}
        else:
            content |= {b"fine_labels": labels, b"coarse_labels": [0] * len(labels)}
        files[file] = pickle.dumps(content, protocol=2)
    write_files(root, name, files, f"cifar-{classes}-python.tar.gz" if archive else "")


def write_cifar_binary(root: Path, classes: int, train: int, test: int, *, archive: bool = False) -> None:
    """The binary version: labels and planar pixels, record by record."""
    name = "cifar-10-batches-bin" if classes == 10 else "cifar-100-binary"
    files = {}
    for file, (labels, pixels) in cifar_files(classes, train, test).items():
        coarse = [b""] if classes == 10 else [b"\x07"]
        records = (
            coarse[0] + bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)
        )
        files[f"{file}.bin"] = b"".join(records)
    write_files(root, name, files, f"cifar-{classes}-binary.tar.gz" if archive else "")


def cifar_files(classes: int, train: int, test: int) -> dict[str, tuple[list[int], np.ndarray]]:
    """Labels and pixels (N, 3072) by file: the same in every version."""
    parts = {f"data_batch_{n}": 0 for n in range(1, 6)} if classes == 10 else {"train": 0}
    found = {}
    for number, file in enumerate([*parts, "test_batch" if classes == 10 else "test"]):
        each = test if file.startswith("test") else train
        labels = [label for label in range(classes) for _ in range(each)][number:] + list(range(number))
        random = np.random.default_rng([classes, number])
        pixels = random.integers(0, 256, size=(len(labels), 3, 32 * 32), dtype=np.uint8)
        pixels[:, 0] //= 1 + np.array(labels, dtype=np.uint8)[:, None] % 7
        found[file] = labels, pixels.reshape(len(labels), 3072)
    return found


def write_files(root: Path, name: str, files: dict[str, bytes], archive: str) -> None:
    """A folder of files, or an archive of it."""
    root.mkdir(parents=True, exist_ok=True)
    if not archive:
        (root / name).mkdir()
        for file, data in files.items():
            (root / name / file).write_bytes(data)
        return
    with tarfile.open(root / archive, "w:gz") as tar:
        for file, data in files.items():
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_tiny(root: Path, train: int, val: int) -> None:
    """Tiny-ImageNet as its zip unpacks: ``train/<wnid>/images`` and a flat ``val/images``."""
    top = root / "tiny-imagenet-200"
    wnids = [one.wnid for one in class_list("tinyimagenet").classes]
    for number, wnid in enumerate(wnids):
        for image in range(train):
            write_jpeg(top / "train" / wnid / "images" / f"{wnid}_{image}.JPEG", (3000 + number, image), 40)
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    lines = []
    for number, wnid in enumerate(wnids * val):
        write_jpeg(top / "val" / "images" / f"val_{number}.JPEG", (4000, number), 40)
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (top / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (top / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    (top / "words.txt").write_text("n00001740\tentity\n")


def write_jpeg(path: Path, seed: tuple[int, int], low: int) -> None:
    """A small picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(low, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=60)
