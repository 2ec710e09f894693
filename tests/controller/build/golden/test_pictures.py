"""Pictures as inputs: the arithmetic that a model was trained with, and pictures as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_controller.build.golden.pictures import prepare, read_picture, stretched
from litefleet_controller.common.errors import UsageError
from litefleet_controller.config.preprocess import PreprocessConfig
from PIL import Image
from pydantic import ValidationError


def how(**keys: object) -> PreprocessConfig:
    return PreprocessConfig.model_validate(keys)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def test_by_default_a_picture_is_rgb_between_0_and_1() -> None:
    pixels = picture(5, 7)
    made = prepare(pixels, how())
    assert (made.shape, made.dtype) == ((1, 3, 5, 7), np.float32)
    np.testing.assert_allclose(made[0], pixels.transpose(2, 0, 1) / 255.0, atol=1e-7)
    assert made.flags.c_contiguous


def test_mean_and_std_go_with_the_order_of_the_colours() -> None:
    pixels = picture(4, 4)
    made = prepare(pixels, how(color="bgr", mean=[0.1, 0.2, 0.3], std=[1, 2, 4]))
    for channel, (mean, std) in enumerate(((0.1, 1), (0.2, 2), (0.3, 4))):
        np.testing.assert_allclose(made[0, channel], (pixels[:, :, 2 - channel] / 255 - mean) / std, atol=1e-6)


def test_scale_may_be_a_fraction_in_words() -> None:
    assert how(scale="1/127.5").scale == pytest.approx(1 / 127.5)
    made = prepare(np.full((1, 1, 3), 255, np.uint8), how(scale="1/127.5", mean=[1]))
    np.testing.assert_allclose(made.ravel(), [1, 1, 1], atol=1e-6)


def test_layout_dtype_and_gray() -> None:
    pixels = picture(3, 2)
    assert prepare(pixels, how(layout="nhwc")).shape == (1, 3, 2, 3)
    raw = prepare(pixels, how(scale=1, dtype="uint8"))
    np.testing.assert_array_equal(raw[0], pixels.transpose(2, 0, 1))
    gray = prepare(pixels, how(color="gray", scale=1))
    assert gray.shape == (1, 1, 3, 2)
    np.testing.assert_allclose(gray[0, 0], np.asarray(Image.fromarray(pixels).convert("L"), np.float32), atol=1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_larger_is_as_pillow_has_it(height: int, width: int, up: int, across: int) -> None:
    """Enlarged, Pillow's bilinear filter has no smoothing, and is the same arithmetic by another hand."""
    pixels = np.random.RandomState(height * 100 + width).rand(height, width).astype(np.float32)
    ours = stretched(pixels[:, :, np.newaxis], height * up, width * across)[:, :, 0]
    theirs = Image.fromarray(pixels).resize((width * across, height * up), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


def test_smaller_takes_the_neighbours_of_each_centre() -> None:
    row = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    # centres lie at 1.5 and 5.5 of the old pixels
    np.testing.assert_allclose(stretched(row, 1, 2).ravel(), [1.5, 5.5])
    np.testing.assert_allclose(stretched(row, 1, 3).ravel(), [5 / 6, 3.5, 37 / 6], atol=1e-6)


@pytest.mark.parametrize(
    ("resize", "size", "shape"),
    [
        ([48, 192], (10, 10), (48, 192)),
        ({"height": 20, "width": 40, "keep_ratio": True}, (10, 10), (20, 40)),
        ({"height": 48, "max_width": 192}, (24, 48), (48, 192)),
        ({"height": 48, "max_width": 192, "pad": "none"}, (24, 48), (48, 96)),
        ({"height": 48, "max_width": 192, "pad": "none"}, (24, 480), (48, 192)),
        ({"longest_side": 64}, (100, 200), (32, 64)),
        ({"longest_side": 64}, (10, 20), (32, 32)),
        ({"longest_side": 64, "multiple_of": 8}, (30, 20), (32, 16)),
        ({"shortest_side": 64}, (16, 32), (64, 128)),
        ({"shortest_side": 64}, (100, 200), (96, 192)),
        ({"height": 8, "max_width": 8, "pad": "none"}, (800, 1), (8, 1)),
    ],
)
def test_sizes(resize: object, size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert prepare(picture(*size), how(resize=resize)).shape == (1, 3, *shape)


def test_what_padding_adds_is_0_after_the_arithmetic() -> None:
    made = prepare(np.zeros((4, 4, 3), np.uint8), how(resize={"height": 4, "max_width": 8}, mean=[0.5], std=[0.5]))
    np.testing.assert_allclose(made[0, :, :, :4], -1)
    np.testing.assert_array_equal(made[0, :, :, 4:], 0)


def test_a_size_that_nobody_can_hold_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match="a picture of 60000 x 1 pixels would become 44160000 x 736"):
        prepare(np.zeros((1, 60000, 3), np.uint8), how(resize={"shortest_side": 736}))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"resize": {"height": 4}}, "give [HEIGHT, WIDTH], `height` with `max_width`, `longest_side`, or"),
        ({"resize": [4]}, "a list is [HEIGHT, WIDTH]"),
        ({"resize": {"longest_side": 4, "pad": "none"}}, "`pad` does not go with `longest_side`"),
        ({"resize": {"longest_side": 4, "shortest_side": 4}}, "`shortest_side` does not go with `longest_side`"),
        ({"resize": {"height": 4, "max_width": 9, "keep_ratio": False}}, "`max_width` keeps the ratio"),
        ({"resize": {"height": 0, "width": 4}}, "greater than or equal to 1"),
        ({"mean": [0.5, 0.5]}, "`mean` has 2 numbers; rgb has 3 channels"),
        ({"color": "gray", "std": [1, 1, 1]}, "`std` has 3 numbers; gray has 1 channels"),
        ({"std": [0]}, "`std` holds 0, and is divided by"),
        ({"scale": "1/0"}, "'1/0' is no number and no fraction such as 1/255"),
        ({"colour": "rgb"}, "Extra inputs are not permitted"),
    ],
)
def test_what_can_not_be_is_said(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        how(**keys)
    assert words in str(caught.value)


# --- files


@pytest.mark.parametrize("ending", ["png", "bmp", "webp"])
def test_pictures_come_back_pixel_by_pixel(tmp_path: Path, ending: str) -> None:
    pixels = picture(9, 5)
    path = tmp_path / f"p.{ending}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read_picture(path), pixels)


def test_a_photograph_lies_as_its_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(picture(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    image.save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png"), np.rot90(picture(4, 6), -1))


def test_what_is_transparent_is_white_and_gray_is_rgb(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").tolist() == [[[255] * 3] * 2] * 2
    Image.new("L", (1, 1), 7).save(tmp_path / "gray.png")
    assert read_picture(tmp_path / "gray.png").tolist() == [[[7, 7, 7]]]
    Image.new("P", (1, 1)).save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").shape == (1, 1, 3)


@pytest.mark.parametrize("data", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_picture_is_a_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="as a picture: it is damaged, or no PNG, JPEG, BMP or WebP"):
        read_picture(path)


def test_a_cut_picture_and_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(picture(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UsageError, match=r"cannot read .* as a picture"):
        read_picture(path)
    with pytest.raises(UsageError, match="No such file or directory"):
        read_picture(tmp_path / "none.png")


def test_a_picture_that_claims_to_be_huge_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.new("1", (10000, 10000)).save(path)
    with pytest.raises(UsageError, match="has 10000 x 10000 pixels; 64000000 are read"):
        read_picture(path)


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert (read_picture(tmp_path / "deep.png")[:, :, 0].ravel() == np.arange(256)).all()


def test_whole_numbers_stay_as_they_are_unless_said_otherwise() -> None:
    pixels = picture(3, 2)
    assert (prepare(pixels, how(dtype="uint8", layout="nhwc"))[0] == pixels).all()
    assert prepare(pixels, how(dtype="uint8", scale=0)).max() == 0
