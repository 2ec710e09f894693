"""Data sets as files: folders of classes, .npz files, CSV; every problem is one sentence, all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.formats.nb import Tensor
from litefleet_controller.build.golden.dataset import DataSet, read_dataset
from litefleet_controller.build.golden.labels import Boxes
from litefleet_controller.common.errors import ConfigError, UsageError
from litefleet_controller.config.choices import AccuracySpec, MetricName
from litefleet_controller.config.preprocess import PreprocessConfig
from litefleet_controller.evaluate.samples import Task, batches
from PIL import Image

X = Tensor("x", "float32", (1, 3, -1, -1))
Y = Tensor("y", "float32", (1, 2))


def read(path: Path, metric: MetricName = "top1", samples: int = 100, characters: Path | None = None) -> DataSet:
    return read_dataset(AccuracySpec(path, metric, samples=samples, characters=characters), "m")


def problems(path: Path, metric: MetricName = "top1", characters: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path, metric, characters=characters)
    return [problem.replace(str(path.parent), "") for problem in caught.value.problems]


def picture(path: Path, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("path,label", *lines)) + "\n", encoding="utf-8")
    return path


def labels(data: DataSet) -> list[object]:
    return [one.label.tolist() if isinstance(one.label, np.ndarray) else one.label for one in data.samples]


def test_folders_are_numbered_by_name_by_number_or_by_classes_txt(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        picture(tmp_path / "set" / name / "1.png")
    found = read(tmp_path / "set")
    assert (found.classes, labels(found)) == (("cat", "dog"), [[0], [1]])
    (tmp_path / "set" / "classes.txt").write_text("dog\nbird\ncat\n")
    found = read(tmp_path / "set")
    assert (labels(found), found.class_name(1), found.class_name(7)) == ([[2], [0]], "bird", "7")
    for name in ("7", "10"):
        picture(tmp_path / "numbered" / name / "1.png")
    assert labels(read(tmp_path / "numbered")) == [[10], [7]]


def test_a_part_of_a_large_set_is_evenly_spaced(tmp_path: Path) -> None:
    for number in range(10):
        picture(tmp_path / "set" / f"{number // 5}" / f"{number}.png")
    found = read(tmp_path / "set", samples=4)
    assert ([one.path.stem for one in found.samples], found.total) == (["0", "2", "5", "7"], 10)


def test_samples_for_goldens_are_spread_and_more_begin_with_the_same(tmp_path: Path) -> None:
    for number in range(8):
        picture(tmp_path / "set" / f"{number // 4}" / f"{number}.png")
    found = read(tmp_path / "set")
    assert [path.stem for path in found.spread(2)] == ["4", "1"]
    assert found.spread(4)[:2] == found.spread(2)
    assert len(set(found.spread(99))) == 8


def test_another_label_or_file_is_another_digest(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    one = read(table(tmp_path / "t.csv", "a.png,0")).digest
    assert read(table(tmp_path / "t.csv", "a.png,0")).digest == one
    assert read(table(tmp_path / "t.csv", "a.png,1")).digest != one
    picture(tmp_path / "a.png", (9, 9))
    assert read(table(tmp_path / "t.csv", "a.png,0")).digest != one


def test_boxes_masks_and_texts(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("cat\nbig dog\n")
    found = read(table(tmp_path / "t.csv", "a.png,cat 0 1 2 3; big dog 4 4 8 8.5", "a.png,"), "map50")
    assert isinstance(found.samples[0].label, Boxes)
    assert found.samples[0].label.classes.tolist() == [0, 1]
    assert found.samples[0].label.corners.tolist() == [[0, 1, 2, 3], [4, 4, 8, 8.5]]
    np.save(tmp_path / "mask.npy", np.zeros((2, 2), "uint8"))
    assert labels(read(table(tmp_path / "t.csv", "a.png,mask.npy"), "iou")) == [tmp_path / "mask.npy"]
    (tmp_path / "keys.txt").write_text("a\nb\n")
    found = read(table(tmp_path / "t.csv", 'a.png,"a b, ""c"""'), "cer", characters=tmp_path / "keys.txt")
    assert (labels(found), found.characters) == (['a b, "c"'], ("a", "b"))
    assert labels(read(table(tmp_path / "t.csv", "a.png,1 4 4"), "cer")) == [(1, 4, 4)]


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = table(tmp_path / "t.csv", "a.png,x", "b.png,1", "a.png,1")
    assert problems(path) == [
        "models.m.golden.dataset: t.csv:2: the label 'x' is not the number of a class.",
        "models.m.golden.dataset: t.csv:3: /b.png cannot be read: No such file or directory.",
    ]
    assert problems(table(tmp_path / "t.csv", "a.png,0 1 2"), "map50") == [
        "models.m.golden.dataset: t.csv:2: the label '0 1 2' is not a box: write CLASS X1 Y1 X2 Y2."
    ]
    assert "second corner" in problems(table(tmp_path / "t.csv", "a.png,0 5 5 1 1"), "map50")[0]
    assert len(problems(table(tmp_path / "t.csv", *["a.png,x"] * 30))) == 21
    assert problems(table(tmp_path / "t.csv")) == [
        "models.m.golden.dataset: /t.csv holds no labelled files (.png, .jpg, .jpeg, .bmp, .webp, .npz, .npy)"
    ]
    assert "is missing: name a folder" in problems(tmp_path / "none")[0]
    (tmp_path / "t.csv").write_text("file,class\n")
    assert "must name the columns path and label" in problems(tmp_path / "t.csv")[0]
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe")
    assert "cannot be read as CSV" in problems(tmp_path / "t.csv")[0]


def task(data: DataSet, *inputs: Tensor, how: PreprocessConfig | None = None) -> Task:
    return Task("m", data, inputs or (X,), (Y,), how)


def test_samples_are_loaded_with_labels_from_the_npz(tmp_path: Path) -> None:
    x = np.zeros((1, 3, 2, 2), "float32")
    np.savez(tmp_path / "a.npz", x=x, label=np.array([4]))
    one = task(read(tmp_path)).load(0)
    assert (list(one.case.arrays), np.asarray(one.label).tolist()) == (["x"], [4])
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(UsageError, match=r"a\.npz holds no array `label`"):
        task(read(tmp_path)).load(0)
    np.savez(tmp_path / "a.npz", x=x, label=np.array([0.5]))
    with pytest.raises(UsageError, match=r"a\.npz: the label is float64 \[1\]; top1 takes whole numbers"):
        task(read(tmp_path)).load(0)


def test_batches_are_bounded_by_number_and_bytes(tmp_path: Path) -> None:
    for number in range(5):
        np.savez(tmp_path / f"{number}.npz", x=np.zeros((1, 3, 2, 2), "float32"), label=np.array([0]))
    one = task(read(tmp_path))
    assert [[c.number for c in batch] for batch in batches(one, range(5), 2, 1 << 20)] == [[0, 1], [2, 3], [4]]
    assert [len(batch) for batch in batches(one, range(5), 9, 96)] == [2, 2, 1]  # 48 bytes each
    assert [len(batch) for batch in batches(one, range(5), 9, 1)] == [1] * 5


def test_boxes_of_a_stretched_picture_are_scaled_to_its_own_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (40, 20))
    data = read(table(tmp_path / "t.csv", "a.png,0 0 0 1 1"), "map50")
    how = PreprocessConfig.model_validate({"resize": [10, 10]})
    assert task(data, how=how).load(0).scale == (4.0, 2.0)
    padded = PreprocessConfig.model_validate({"resize": {"height": 10, "width": 10, "keep_ratio": True}})
    assert task(data, how=padded).load(0).scale == (4.0, 4.0)


def test_samples_of_sequences_keep_them(tmp_path: Path) -> None:
    words = np.array([[5], [17], [2]])
    np.savez(tmp_path / "a.npz", **{"words": words, "words@lod0": np.array([0, 1, 3]), "label": np.array([1])})
    (case,) = [task(read(tmp_path), Tensor("words", "int64", (-1, 1))).load(0).case]
    assert {name: array.tolist() for name, array in case.arrays.items()} == {
        "words": [[5], [17], [2]],
        "words@lod0": [0, 1, 3],
    }
