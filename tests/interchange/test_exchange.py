"""Features come in from other tools and go out again, to the bit, and never as code."""

import builtins
import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import FingerprintMismatch, LsnError, Unavailable, UsageError
from lsncli.images.parquet_file import Limit
from lsncli.interchange import exchange, tables
from lsncli.interchange import table_files as framefiles
from lsncli.interchange.exchange import export_features, import_features
from lsncli.interchange.tables import READERS, WRITERS
from lsncli.store.format import MAX_COSINE_LOSS, Split, shortest_safe_length
from lsncli.store.reader import read_fingerprint, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text
from lsncli.types import Failure

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((6, 4)).astype(np.float16)
LABELS = np.array([0, 1, 2, -1, 0, 2], np.int32)
FINGERPRINT = exchange.imported_fingerprint("other", 4, 100.0)


def split(**changes: object) -> Split:
    content = Split(
        name="train",
        features=FEATURES,
        labels=LABELS,
        keys=("a.jpg", "b,c.jpg", 'd"\n.jpg', "NA", "", "é.jpg"),
        classes=("cat", "null", "a, dog"),
        failures=(Failure("x.jpg", "an empty file"),),
        source="photos",
        listing="ab",
    )
    return replace(content, **changes)


def stored(path: Path, content: Split, text: bool = False) -> Path:
    write_split(path, content, FINGERPRINT)
    if text:
        write_text(path, ("cat", "dog"), np.eye(2, 4, dtype=np.float32) / 3)
    return path


def same_rows(one: Split, other: Split) -> bool:
    return (
        one.features.tobytes() == other.features.tobytes()
        and one.labels.tolist() == other.labels.tolist()
        and one.keys == other.keys
        and one.classes == other.classes
    )


@pytest.mark.parametrize(
    "text", ["# three\ncat\n\nowl\na  dog\n", "2 a dog\n0 cat\n1 owl\n", "owl,1\ncat,0\na dog,2\n"]
)
def test_a_file_of_classes_may_hold_comments_and_the_numbers_of_labels(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "f.npz", features=FEATURES, labels=LABELS)
    (tmp_path / "c.txt").write_text(text)
    store = tmp_path / "s.h5"
    made = import_features(
        store, "train", tmp_path / "f.npz", classes_file=tmp_path / "c.txt", model_name="other"
    )
    assert (made.classes, made.labels.tolist()) == (("cat", "owl", "a dog"), LABELS.tolist())


def test_classes_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "f.npz", features=FEATURES, labels=np.array(["Cat", "cat", "owl", "owl", "owl", "cat"])
    )
    with pytest.raises(UsageError, match="'Cat', 'cat' are one text"):
        import_features(tmp_path / "s.h5", "train", tmp_path / "f.npz", model_name="other")
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize("extension", [".npz", ".parquet", ".csv"])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_round_trip_is_exact(tmp_path: Path, extension: str, labelled: bool) -> None:
    content = split() if labelled else split(labels=np.full(6, -1, np.int32), classes=())
    store = stored(tmp_path / "a.h5", content)
    export_features(store, "train", tmp_path / f"out{extension}")
    made = import_features(tmp_path / "b.h5", "train", tmp_path / f"out{extension}", model_name="other")
    back = read_split(tmp_path / "b.h5", "train")
    assert same_rows(back, content)
    assert same_rows(made, back)
    assert back.failures == (() if extension == ".csv" else content.failures)
    assert verify(tmp_path / "b.h5") == []


def test_npz_also_carries_text_features(tmp_path: Path) -> None:
    store = stored(tmp_path / "a.h5", split(), text=True)
    export_features(store, "train", tmp_path / "out.npz")
    import_features(tmp_path / "b.h5", "train", tmp_path / "out.npz", model_name="other")
    before, after = read_text(store), read_text(tmp_path / "b.h5")
    assert before is not None
    assert after is not None
    assert before[0] == after[0]
    assert (before[1] == after[1]).all()


def test_npy_carries_features_alone(tmp_path: Path) -> None:
    export_features(stored(tmp_path / "a.h5", split()), "train", tmp_path / "new/out.npy")
    made = import_features(tmp_path / "b.h5", "train", tmp_path / "new/out.npy", model_name="other")
    assert (made.features == FEATURES).all()
    assert made.labels.tolist() == [-1] * 6
    assert made.keys == ("0", "1", "2", "3", "4", "5")
    assert made.classes == ()


@pytest.mark.parametrize("extension", [".npz", ".parquet", ".csv"])
def test_an_empty_split_goes_out_and_in(tmp_path: Path, extension: str) -> None:
    empty = split(features=FEATURES[:0], labels=LABELS[:0], keys=(), classes=())
    export_features(stored(tmp_path / "a.h5", empty), "train", tmp_path / f"out{extension}")
    made = import_features(tmp_path / "b.h5", "train", tmp_path / f"out{extension}", model_name="other")
    assert made.features.shape == (0, 4)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
half = st.floats(-60000, 60000, width=16).filter(lambda value: value != 0)


@given(st.lists(texts, unique=True, max_size=5), st.data(), st.sampled_from([".npz", ".parquet", ".csv"]))
def test_any_keys_and_features_come_back(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], data: st.DataObject, extension: str
) -> None:
    folder = tmp_path_factory.mktemp("exchange")
    rows = len(keys)
    values = data.draw(st.lists(st.lists(half, min_size=4, max_size=4), min_size=rows, max_size=rows))
    content = split(
        features=np.array(values, np.float16).reshape(rows, 4),
        labels=np.arange(rows, dtype=np.int32) % 2,
        keys=tuple(keys),
        classes=("0", "x")[: min(rows, 2)],
    )
    export_features(stored(folder / "a.h5", content), "train", folder / f"out{extension}")
    assert same_rows(
        import_features(folder / "b.h5", "train", folder / f"out{extension}", model_name="m"), content
    )


@pytest.mark.parametrize("extension", [".npz", ".csv"])
def test_a_key_that_is_not_utf8_comes_back(tmp_path: Path, extension: str) -> None:
    content = split(keys=("caf\udce9.jpg", "b", "c", "d", "e", "f"))
    export_features(stored(tmp_path / "a.h5", content), "train", tmp_path / f"out{extension}")
    made = import_features(tmp_path / "b.h5", "train", tmp_path / f"out{extension}", model_name="m")
    assert made.keys == content.keys


def test_parquet_cannot_hold_a_key_that_is_not_utf8_and_says_so(tmp_path: Path) -> None:
    store = stored(tmp_path / "a.h5", split(keys=("caf\udce9.jpg", "b", "c", "d", "e", "f")))
    with pytest.raises(LsnError, match="UTF-8 only") as caught:
        export_features(store, "train", tmp_path / "out.parquet")
    assert ".npz" in caught.value.hint


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def bring(tmp_path: Path, source: Path, **options: object) -> Split:
    return import_features(tmp_path / "f.h5", "train", source, **{"model_name": "other", **options})


def test_the_fingerprint_is_the_name_so_that_models_never_mix(tmp_path: Path) -> None:
    source = save(tmp_path / "f.npz", features=FEATURES)
    bring(tmp_path, source, logit_scale=50.0)
    found = read_fingerprint(tmp_path / "f.h5")
    assert (found.model, found.dim, found.logit_scale) == ("imported:other", 4, 50.0)
    with pytest.raises(FingerprintMismatch):
        import_features(tmp_path / "f.h5", "test", source, model_name="another", logit_scale=50.0)
    with pytest.raises(LsnError, match="already"):
        bring(tmp_path, source, logit_scale=50.0)
    bring(tmp_path, source, logit_scale=50.0, replace=True)


@pytest.mark.parametrize(
    ("labels", "classes", "expected_labels", "expected_classes"),
    [
        ([0, 2, 0, -1, 0, 0], None, [0, 2, 0, -1, 0, 0], ("0", "1", "2")),
        (list("bacbab"), None, [1, 0, 2, 1, 0, 1], ("a", "b", "c")),
        (list("bacbab"), ["c", "b", "a"], [1, 2, 0, 1, 2, 1], ("c", "b", "a")),
        (["a", "", "a", "", "a", "a"], None, [0, -1, 0, -1, 0, 0], ("a",)),
        ([0, 1, 0, 1, 0, 1], ["x", "y", "z"], [0, 1, 0, 1, 0, 1], ("x", "y", "z")),
    ],
)
def test_labels_are_numbers_or_names(
    tmp_path: Path,
    labels: list[object],
    classes: list[str] | None,
    expected_labels: list[int],
    expected_classes: tuple[str, ...],
) -> None:
    named = {} if classes is None else {"classes": np.array(classes)}
    made = bring(tmp_path, save(tmp_path / "f.npz", features=FEATURES, labels=np.array(labels), **named))
    assert made.labels.tolist() == expected_labels
    assert made.labels.dtype == np.int32
    assert made.classes == expected_classes


def test_files_beside_win_over_arrays_inside(tmp_path: Path) -> None:
    source = save(
        tmp_path / "f.npz", features=FEATURES, labels=np.zeros(6, int), keys=np.array(list("abcdef"))
    )
    np.save(tmp_path / "labels.npy", np.arange(6, dtype=np.int64) % 2)
    (tmp_path / "keys.txt").write_text("1\n2\n3\n4\n5\n6\n")
    (tmp_path / "classes.json").write_text(json.dumps(["cat", "dog"]))
    np.save(tmp_path / "text.npy", np.eye(2, 4))
    made = bring(
        tmp_path,
        source,
        labels_file=tmp_path / "labels.npy",
        keys_file=tmp_path / "keys.txt",
        classes_file=tmp_path / "classes.json",
        text_file=tmp_path / "text.npy",
    )
    assert made.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert made.keys == tuple("123456")
    assert made.classes == ("cat", "dog")
    text = read_text(tmp_path / "f.h5")
    assert text is not None
    assert text[0] == ("cat", "dog")
    assert (text[1] == np.eye(2, 4)).all()


def test_a_csv_may_have_columns_of_any_name_and_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("f10,key,f2,f1,label\n3,x,2,1,dog\n6,y,5,4,cat\n")
    made = bring(tmp_path, tmp_path / "a.csv")
    assert made.features.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (made.keys, made.labels.tolist(), made.classes) == (("x", "y"), [1, 0], ("cat", "dog"))
    (tmp_path / "b.tsv").write_text("name\tu\tv\nx\t1\t2\n")
    made = import_features(tmp_path / "g.h5", "train", tmp_path / "b.tsv", model_name="m")
    assert made.features.tolist() == [[1, 2]]


def test_a_parquet_of_another_tool_is_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"features": [[1.0, 2.0], [3.0, 4.0]], "label": [1.0, None], "key": ["x", "y"]})
    frame.to_parquet(tmp_path / "a.parquet")
    made = bring(tmp_path, tmp_path / "a.parquet", classes_file=write(tmp_path, "c.txt", "cat\ndog\n"))
    assert made.features.tolist() == [[1, 2], [3, 4]]
    assert made.labels.tolist() == [1, -1]
    assert (made.keys, made.classes) == (("x", "y"), ("cat", "dog"))
    frame["features"] = [[1.0, 2.0], [3.0]]
    frame.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(LsnError, match="cannot be read"):
        bring(tmp_path, tmp_path / "b.parquet", replace=True)


def write(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"features": FEATURES.astype(np.float32), "labels": LABELS}, tmp_path / "f.safetensors")
    made = bring(tmp_path, tmp_path / "f.safetensors")
    assert (made.features == FEATURES).all()
    assert made.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_wider_numbers_become_half(tmp_path: Path, dtype: type) -> None:
    made = bring(tmp_path, save(tmp_path / "f.npz", features=np.arange(1, 9).reshape(2, 4).astype(dtype)))
    assert made.features.dtype == np.float16
    assert made.features.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": FEATURES}, "expected an array 'features', found x"),
        ({"features": FEATURES[0]}, r"expected features \(rows, dimension\), found the shape \(4,\)"),
        ({"features": np.empty((3, 0))}, "found the shape"),
        ({"features": np.array([["a"]])}, "expected numbers"),
        ({"features": np.array([[1, np.nan]])}, "1 of 1 rows hold NaN or infinity"),
        ({"features": np.array([[7e4, 1]])}, "largest feature is 7e.04, more than float16 holds"),
        ({"features": np.array([[0, 0], [1, 0]])}, "1 of 2 rows are zero"),
        ({"features": FEATURES, "labels": LABELS[:5]}, "Expected 6 labels, one per row of features, found 5"),
        ({"features": FEATURES, "labels": LABELS - 1}, r"Expected labels in -1\.\.1, found -2\.\.1"),
        ({"features": FEATURES, "labels": np.full(6, 2**40)}, "too large for a class number"),
        ({"features": FEATURES, "labels": LABELS, "classes": np.array(["a"])}, r"Expected labels in -1\.\.0"),
        (
            {"features": FEATURES, "labels": np.array(list("aaabbb")), "classes": np.array(["a"])},
            "'b' is not",
        ),
        ({"features": FEATURES, "keys": np.array(list("aabcde"))}, "the key 'a' occurs 2 times"),
        ({"features": FEATURES, "keys": np.array(["a"])}, "equally many"),
        ({"features": FEATURES, "keys": np.array([["a"]])}, "expected one dimension of 'keys'"),
        ({"features": FEATURES, "text": np.eye(4), "classes": np.array(["a"])}, "1 classes, found 4 rows"),
        ({"features": FEATURES, "failure_keys": np.array(["a"])}, "1 failure_keys but 0"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(LsnError, match=message):
        bring(tmp_path, save(tmp_path / "f.npz", **arrays))
    assert not (tmp_path / "f.h5").exists()


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (Path.write_text, (Path("exploded"), "x"))


@pytest.mark.parametrize("extension", [".npy", ".npz"])
def test_pickles_inside_numpy_files_are_never_opened(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.array([Bomb(), None], dtype=object)
    path = tmp_path / f"f{extension}"
    with open(path, "wb") as file:
        if extension == ".npy":
            np.save(file, array, allow_pickle=True)
        else:
            np.savez(file, features=array)
    with pytest.raises(LsnError, match="cannot be read") as caught:
        bring(tmp_path, path)
    assert "pickles" in caught.value.hint
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("extension", [".pt", ".pth", ".pkl", ".joblib"])
def test_pickle_files_are_refused_by_name(tmp_path: Path, extension: str) -> None:
    (tmp_path / f"f{extension}").write_bytes(pickle.dumps(1))
    with pytest.raises(UsageError, match="a pickle can run code"):
        bring(tmp_path, tmp_path / f"f{extension}")


@pytest.mark.parametrize("extension", sorted(READERS))
def test_missing_and_broken_files_are_one_sentence(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"f{extension}"
    with pytest.raises(LsnError, match="There is no file"):
        bring(tmp_path, path)
    for data in (b"", b"PK\x03\x04junk", b"\x93NUMPY\x01\x00", b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(LsnError):
            bring(tmp_path, path)


def test_other_extensions_name_those_there_are(tmp_path: Path) -> None:
    for call in (
        lambda: bring(tmp_path, tmp_path / "f.xlsx"),
        lambda: export_features(stored(tmp_path / "a.h5", split()), "train", tmp_path / "f.xlsx"),
    ):
        with pytest.raises(UsageError, match=r"ending in \.npz, \.npy.*found '\.xlsx'"):
            call()
    assert set(WRITERS) < set(READERS)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    store = stored(tmp_path / "a.h5", split())
    with pytest.raises(Unavailable) as caught:
        export_features(store, "train", tmp_path / "f.parquet")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "pip install 'lsncli[parquet]'"


@pytest.mark.parametrize(("name", "scale"), [("", 100.0), (" ", 100.0), ("m", 0.0), ("m", float("nan"))])
def test_a_model_needs_a_name_and_a_scale(tmp_path: Path, name: str, scale: float) -> None:
    with pytest.raises(UsageError):
        bring(tmp_path, save(tmp_path / "f.npz", features=FEATURES), model_name=name, logit_scale=scale)


def test_a_csv_with_two_names_of_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="label 0 has two classes"):
        bring(tmp_path, write(tmp_path, "a.csv", "f0,label,class\n1,0,cat\n2,0,dog\n"))
    with pytest.raises(LsnError, match="whole-number labels, found 'x'"):
        bring(tmp_path, write(tmp_path, "a.csv", "f0,label,class\n1,x,cat\n"))
    with pytest.raises(LsnError, match="expected a column 'features'"):
        bring(tmp_path, write(tmp_path, "a.csv", "key,label\na,0\n"))


def test_text_labels_stay_text(tmp_path: Path) -> None:
    three = ["007", "07", "7", "07", "", "7"]
    (tmp_path / "f.csv").write_text(
        "f0,label\n" + "".join(f"{at + 1},{text}\n" for at, text in enumerate(three))
    )
    write(tmp_path, "labels.txt", "007\n07\n7\n07\n\n7\n")
    (tmp_path / "labels.json").write_text(json.dumps([*three[:4], None, 7]))
    np.save(tmp_path / "labels.npy", np.array(three))
    source = save(tmp_path / "f.npz", features=FEATURES)
    made = [bring(tmp_path, tmp_path / "f.csv")]
    for name in ("labels.txt", "labels.json", "labels.npy"):
        store = tmp_path / f"{name}.h5"
        made.append(import_features(store, "train", source, labels_file=tmp_path / name, model_name="m"))
    for one in made:
        assert one.classes == ("007", "07", "7")
        assert one.labels.tolist() == [0, 1, 2, 1, -1, 2]


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["00", "01", "02", "00", "01", ""], ["a", "b", "c"], [0, 1, 2, 0, 1, -1]),
        (["00", "01", "02", "00", "01", ""], ["02", "01", "00"], [2, 1, 0, 2, 1, -1]),
        (["cat", "-1", "dog", "cat", "", "dog"], ["dog", "cat"], [1, -1, 0, 1, -1, 0]),
    ],
)
def test_padded_numbers_are_numbers_only_beside_other_names(
    tmp_path: Path, labels: list[str], classes: list[str], expected: list[int]
) -> None:
    source = save(tmp_path / "f.npz", features=FEATURES, labels=np.array(labels), classes=np.array(classes))
    assert bring(tmp_path, source).labels.tolist() == expected


def test_padded_numbers_that_are_one_number_are_not_merged(tmp_path: Path) -> None:
    labels = np.array(["07", "7", "7", "7", "7", "7"])
    source = save(tmp_path / "f.npz", features=FEATURES, labels=labels, classes=np.array(list("abcdefgh")))
    with pytest.raises(LsnError, match="The label '07' is not among the 8 class names"):
        bring(tmp_path, source)


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        (np.array([b"cat", b"dog"] * 3), [0, 1] * 3, ("cat", "dog")),
        (np.array([1.0, 0.0, np.nan] * 2), [1, 0, -1] * 2, ("0", "1")),
        (np.array([True, False] * 3), [1, 0] * 3, ("false", "true")),
        (np.array([[1], [0]] * 3), [1, 0] * 3, ("0", "1")),
    ],
)
def test_labels_of_any_type_in_arrays(
    tmp_path: Path, labels: np.ndarray, expected: list[int], classes: tuple[str, ...]
) -> None:
    made = bring(tmp_path, save(tmp_path / "f.npz", features=FEATURES, labels=labels))
    assert made.labels.tolist() == expected
    assert made.classes == classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.5] * 6), "labels 'labels', row 0: '0.5' is not a class"),
        (np.zeros((6, 3), int), r"expected one dimension of 'labels', found \(6, 3\)"),
        (np.array([10**8] * 6), "too large for the number of a class"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    with pytest.raises(LsnError, match=message):
        bring(tmp_path, save(tmp_path / "f.npz", features=FEATURES, labels=labels))


def test_arrays_of_other_names_hold_labels(tmp_path: Path) -> None:
    said: list[str] = []
    source = save(tmp_path / "f.npz", features=FEATURES, targets=LABELS, boxes=np.zeros((6, 4)))
    made = bring(tmp_path, source, remark=said.append)
    assert made.labels.tolist() == LABELS.tolist()
    assert said == ["f.npz: labels from the array 'targets'."]
    source = save(tmp_path / "f.npz", features=FEATURES, targets=LABELS, kind=np.array(list("aabbaa")))
    assert bring(tmp_path, source, replace=True).classes == ("0", "1", "2")
    assert bring(tmp_path, source, replace=True, label_column="kind").classes == ("a", "b")
    assert bring(tmp_path, source, replace=True, label_column="none").classes == ()
    source = save(tmp_path / "f.npz", features=FEATURES, targets=LABELS, y=LABELS)
    with pytest.raises(UsageError, match="'targets', 'y'"):
        bring(tmp_path, source)
    with pytest.raises(UsageError, match="no column 'z'"):
        bring(tmp_path, source, label_column="z")


CSV = "id,variety,f0,f1\nx,007,1,2\ny,07,3,4\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", CSV),
        ("a.csv", CSV.replace(",", ";")),
        ("a.csv", CSV.replace(",", "\t")),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("a.csv", '"id","variety","f0","f1"\n"x","007","1","2"\n"y","07","3","4"\n'),
        ("a.csv", CSV.replace("f0,f1", "u,v")),
        ("a.csv", CSV.replace("id", "file_name").replace("variety", "target").replace("f0,f1", "u,v")),
        ("a.csv", CSV.replace("id", "").replace("f0,f1", "0,1")),  # as pandas writes a frame with its index
    ],
)
def test_a_csv_of_any_form_has_features_labels_and_keys(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    made = bring(tmp_path, tmp_path / name)
    assert made.features.tolist() == [[1, 2], [3, 4]]
    assert (made.keys, made.classes, made.labels.tolist()) == (("x", "y"), ("007", "07"), [0, 1])


def test_numbers_beside_features_are_labels_and_no_features(tmp_path: Path) -> None:
    said: list[str] = []
    made = bring(tmp_path, write(tmp_path, "a.csv", "u,target,v\n1,0,2\n3,1,4\n"), remark=said.append)
    assert made.features.tolist() == [[1, 2], [3, 4]]
    assert (made.labels.tolist(), said) == ([0, 1], ["a.csv: labels from 'target'."])
    made = bring(tmp_path, write(tmp_path, "a.csv", "x,y\n1,2\n3,4\n"), replace=True)
    assert made.features.tolist() == [[1, 2], [3, 4]]  # points in a plane
    source = write(tmp_path, "a.csv", "u,v,kind\n1,2,7\n3,4,07\n")
    made = bring(tmp_path, source, replace=True, label_column="kind")
    assert (made.features.tolist(), made.classes) == ([[1, 2], [3, 4]], ("07", "7"))
    with pytest.raises(UsageError, match=r"'target', 'class_name'\. Choose one with --label-column"):
        bring(tmp_path, write(tmp_path, "a.csv", "f0,target,class_name\n1,0,cat\n"))


def test_a_parquet_of_plain_columns_keeps_labels_and_keys_apart(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"u": [1.0, 3.0], "target": [1, 0], "id": [8, 9], "v": [2.0, 4.0], "__index_level_0__": [0, 1]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    made = bring(tmp_path, tmp_path / "a.parquet")
    assert made.features.tolist() == [[1, 2], [3, 4]]
    assert (made.labels.tolist(), made.keys) == ([1, 0], ("8", "9"))


def test_a_csv_without_a_header_loses_no_row(tmp_path: Path) -> None:
    said: list[str] = []
    made = bring(tmp_path, write(tmp_path, "a.csv", "1.5,2\n3,4\n"), remark=said.append)
    assert made.features.tolist() == [[1.5, 2], [3, 4]]
    assert said == ["a.csv: no header, all columns are features."]
    made = bring(tmp_path, write(tmp_path, "a.csv", "0,1\n3,4\n"), replace=True)
    assert made.features.tolist() == [[3, 4]]  # the numbers of columns, as pandas writes them
    made = bring(tmp_path, write(tmp_path, "a.csv", "f0;f1\n1,5;2\n"), replace=True)
    assert made.features.tolist() == [[1.5, 2]]
    with pytest.raises(LsnError, match=r"expected names of columns in line 1, found numbers such as '0\.5'"):
        bring(tmp_path, write(tmp_path, "a.csv", "x.jpg,0.5,2\ny.jpg,3,4\n"))


def test_parquet_of_another_tool_has_labels_of_any_type_and_name(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4]), 2)
    features = {"info": {"features": {"kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for labels, classes, rows in [
        ([b"cat", b"dog"], ("cat", "dog"), [0, 1]),
        (["07", "7"], ("07", "7"), [0, 1]),
        ([["dog"], []], ("dog",), [0, -1]),
        ([1.0, float("nan")], ("0", "1"), [1, -1]),
        ([True, None], ("true",), [0, -1]),
    ]:
        for column in (lists, [[1.0, 2.0], [3.0, 4.0]]):
            pq.write_table(pa.table({"features": column, "target": labels}), tmp_path / "a.parquet")
            made = bring(tmp_path, tmp_path / "a.parquet", replace=True)
            assert (made.features.tolist(), made.classes) == ([[1, 2], [3, 4]], classes)
            assert made.labels.tolist() == rows
    pq.write_table(
        pa.table({"features": lists, "kind": [1.0, None], "size": [0.5, 1]}), tmp_path / "a.parquet"
    )
    assert bring(tmp_path, tmp_path / "a.parquet", replace=True).labels.tolist() == [1, -1]
    table = pa.table({"features": lists, "kind": [1, -1]})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "a.parquet"
    )
    made = bring(tmp_path, tmp_path / "a.parquet", replace=True)
    assert (made.classes, made.labels.tolist()) == (("cat", "dog"), [1, -1])


def test_labels_in_a_csv_of_their_own(tmp_path: Path) -> None:
    source = save(tmp_path / "f.npz", features=FEATURES[:2], keys=np.array(["x", "y"]))
    plain = save(tmp_path / "g.npz", features=FEATURES[:2])

    def brought(text: str, features: Path = source, **options: object) -> list[int]:
        labels = write(tmp_path, "l.csv", text)
        return bring(tmp_path, features, labels_file=labels, replace=True, **options).labels.tolist()

    assert brought("label\n1\n0\n") == [1, 0]
    assert brought("1\n0\n") == [1, 0]
    assert brought("file_name,label\ny,1\nx,0\n") == [0, 1]  # joined by the keys
    assert brought("file_name,label\ny,1\nx,0\n", plain) == [1, 0]
    assert brought("label;author\n1;a\n0;b\n") == [1, 0]
    assert brought("label,variety\n1,a\n0,b\n", label_column="variety") == [0, 1]
    assert brought("a,1\nb,0\n", label_column="2") == [1, 0]
    with pytest.raises(LsnError, match=r"keys of the 2 features, each once, but 'x' is missing"):
        brought("file_name,label\ny,1\nz,0\n")
    with pytest.raises(UsageError, match="'label', 'variety'"):
        brought("label,variety\n1,a\n0,b\n")
    with pytest.raises(UsageError, match="found 2 columns without a header"):
        brought("a,1\nb,0\n")
    with pytest.raises(UsageError, match="no column of labels"):
        brought("file_name,width\nx,1\ny,0\n")
    with pytest.raises(UsageError, match=r"expected labels as .*, found '\.npz'"):
        bring(tmp_path, source, labels_file=source)


def test_bfloat16_is_read_without_loss(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    values = torch.tensor(FEATURES.astype(np.float32)).bfloat16()
    save_file({"features": values, "labels": torch.tensor(LABELS)}, tmp_path / "f.safetensors")
    made = bring(tmp_path, tmp_path / "f.safetensors")
    assert made.features.tolist() == values.double().tolist()
    assert made.labels.tolist() == LABELS.tolist()
    np.save(tmp_path / "f.npy", values.view(torch.int16).numpy().view("V2"))
    with pytest.raises(LsnError, match="NumPy lacks, such as bfloat16") as caught:
        bring(tmp_path, tmp_path / "f.npy")
    assert "float32" in caught.value.hint


def test_features_that_float16_would_turn_are_refused_with_a_factor(tmp_path: Path) -> None:
    features = RNG.standard_normal((50, 64)).astype(np.float32)
    tiny = save(tmp_path / "f.npz", features=features * np.float32(1e-6))
    with pytest.raises(
        LsnError, match="stored as float16, which changes the direction of 50 of 50"
    ) as caught:
        bring(tmp_path, tiny)
    factor = float(caught.value.hint.split("such as ")[1].split(":")[0])
    assert np.log2(factor).is_integer()
    scaled = bring(tmp_path, save(tmp_path / "f.npz", features=features * np.float32(1e-6) * factor))
    exact, stored = features.astype(np.float64), scaled.features.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(stored, axis=1)
    assert (1 - (exact * stored).sum(axis=1) / lengths).max() < MAX_COSINE_LOSS
    with pytest.raises(LsnError, match="more than float16 holds") as caught:
        bring(tmp_path, save(tmp_path / "f.npz", features=features * 1e6))
    factor = float(caught.value.hint.split("such as ")[1].split(":")[0])
    bring(tmp_path, save(tmp_path / "f.npz", features=features * 1e6 * factor), replace=True)
    features[7] *= 1e-9
    with pytest.raises(LsnError, match="direction of 1 of 50") as caught:
        bring(tmp_path, save(tmp_path / "f.npz", features=features))
    assert "leave those rows out" in caught.value.hint


@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8).filter(any), st.integers(-9, 15))
def test_a_row_is_refused_only_for_values_below_the_normal_range(values: list[float], power: int) -> None:
    row = np.array([values], np.float32) * np.float32(2.0**power)
    cosine = exchange._cosines(row, row.astype(np.float16))[0]
    if np.abs(row[row != 0]).min() >= np.finfo(np.float16).tiny:
        assert cosine > 1 - MAX_COSINE_LOSS / 4
    if np.linalg.norm(row) >= shortest_safe_length(8):
        assert cosine > 1 - 1.2 * MAX_COSINE_LOSS


def test_files_that_unpack_to_far_too_much_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kilobytes each; the limits are lower here, so that the files are made in no time."""
    assert tables.MOST_UNPACKED == framefiles.FEATURES.column == 1 << 28
    monkeypatch.setattr(tables, "MOST_UNPACKED", 1 << 22)
    monkeypatch.setattr(framefiles, "FEATURES", Limit(1 << 26, 1 << 22, listed=1 << 16))
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    header = io.BytesIO()
    numpy_header = {"descr": "<f4", "fortran_order": False, "shape": (10_000, 800)}
    np.lib.format.write_array_header_1_0(header, numpy_header)
    with zipfile.ZipFile(tmp_path / "zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", header.getvalue() + bytes(32_000_000))
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(1001):
            archive.writestr(f"a{number}.npy", b"")
    zeros = arrow.array(np.zeros(2_000_000, np.float32))
    lists = arrow.table({"features": arrow.FixedSizeListArray.from_arrays(zeros, 20_000)})
    parquet.write_table(lists, tmp_path / "lists.parquet", compression="zstd")
    text = arrow.DictionaryArray.from_arrays(arrow.array([0] * 5000, arrow.int32()), ["a" * 100_000])
    texts = arrow.table({"f0": np.random.default_rng(0).random(5000), "label": text})
    parquet.write_table(texts, tmp_path / "texts.parquet", store_schema=False)
    for name, reason in (
        ("zeros.npz", "bytes would unpack to 32,000,128 bytes"),
        ("many.npz", "it holds 1,001 arrays, and 1,000 are allowed"),
        ("lists.parquet", "bytes of column 'features' would unpack to .* bytes or more"),
        ("texts.parquet", "a value of 100,000 bytes in column 'label'"),
    ):
        with pytest.raises(LsnError, match=f"{name} cannot be read: .*{reason}"):
            bring(tmp_path, tmp_path / name)
