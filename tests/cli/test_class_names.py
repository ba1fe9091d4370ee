"""Folders as people have them: what the command line says of their classes."""

from pathlib import Path

from PIL import Image

from lsncli.store.reader import read_split


def touch(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 9 % 256, 10, 200)).save(root / name)
    return root


def test_numbered_folders_with_a_list_of_names_a_loose_image_and_system_folders(lsn, tiny_model) -> None:
    numbers = [f"{number}/{image}.png" for number in range(13) for image in "ab"]
    root = touch(Path("photos"), *numbers, "top.png", "@eaDir/x.png", "3/#recycle/x.png")
    Path("names.txt").write_text("# digits\r\n" + "".join(f"name {number}\r\n" for number in range(13)))
    done = lsn("extract", root, "--classes", "names.txt", "--model", tiny_model, "--device", "cpu")
    assert done.code == 0, done.err
    split = read_split(Path("lsn-work/features.h5"), "train")
    named = {
        key: split.classes[label] for key, label in zip(split.keys, split.labels, strict=True) if label >= 0
    }
    assert named == {name: f"name {name.partition('/')[0]}" for name in numbers}
    for line in (
        "Class 0 is name 0 of names.txt, counted from 0: 'name 0'.",
        "Warning: 1 of 27 images have no class, so nothing is learned from them: 'top.png'.",
        "Skipped, as hidden or no image: 2, with system folders (#recycle, @eaDir).",
    ):
        assert line in done.err
    quiet = lsn(
        "extract", root, "--classes", "names.txt", "--model", tiny_model, "--device", "cpu", "--quiet"
    )
    assert (quiet.code, quiet.err) == (0, "")
    shots = lsn("extract", root, "--shots", "1", "--split", "few", "--device", "cpu")
    assert shots.code == 2
    assert "1 of 27 images have no class, such as 'top.png'" in shots.err


def test_a_split_without_classes_is_said_and_how_to_have_them(lsn, tiny_model) -> None:
    model = ("--model", tiny_model, "--device", "cpu")
    root = touch(Path("photos"), "cat/a.png", "dog/b.png")
    said = "Split 'flat' has no classes: use it as OOD images or score it"
    one = lsn("extract", root / "cat", "--split", "flat", *model)
    assert (one.code, said in one.err, "one folder per class" in one.err) == (0, True, True)
    several = lsn("extract", root / "cat", root / "dog", "--split", "flat", "--overwrite", *model)
    assert "If these folders are classes, name the folder that holds them: photos\n" in several.err
    for words in ((root, "--split", "flat"), (root / "cat", "--split", "more", "-q")):
        done = lsn("extract", *words, "--overwrite", *model)
        assert (done.code, said in done.err) == (0, False)


def test_what_cannot_be_classes_is_said_at_once(lsn, tiny_model) -> None:
    model = ("--model", tiny_model, "--device", "cpu")
    root = touch(Path("my set"), "train/cat/a.png", "train/dog/a.png", "val/cat/b.png")
    done = lsn("extract", root, *model)
    assert done.code == 2
    assert "lsn extract 'my set/train', lsn extract --split test 'my set/val'." in done.err
    churches = touch(Path("churches"), "Church/a.png", "church/a.png", "church/b.png")
    for words in (
        ("extract", churches),
        ("train-head", churches, "--tune", "last-blocks"),
        ("not", churches),
        ("score", churches, "--classes", "Church,church,dog"),
        ("calibrate", churches, "--classes", "Church,church,dog"),
    ):
        done = lsn(*words, *model)
        assert (done.code, "'Church', 'church' are one text" in done.err) == (2, True), (words, done.err)
    assert not Path("lsn-work/features.h5").exists()


def test_what_a_names_file_holds_cannot_move_the_cursor(lsn, tiny_model) -> None:
    root = touch(Path("photos"), "a/1.png", "b/1.png")
    Path("names.txt").write_text("\x1b[2Jone\ntwo\n")
    done = lsn("extract", root, "--classes", "names.txt", "--model", tiny_model, "--device", "cpu")
    assert r"'a' is '\x1b[2Jone', 'b' is 'two'." in done.err
    assert "\x1b" not in done.err
