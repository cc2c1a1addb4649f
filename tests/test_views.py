"""Random views, the centre view, and objects at other scales."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from simplejpeg import decode_jpeg
from small_model import MODEL

from dacsm.config.params import Augment
from dacsm.data.transforms import centre_view, normalise, train_views

PLAIN = Augment(flip=False, rotate=0, zoom=0, shear=0, shift=0)
WILD = Augment(flip=True, rotate=20, zoom=0.3, shear=0.2, shift=0.1)
CROPPED = MODEL.model_copy(update={"image_size": 28, "resize": 32})


def picture(side: int = 28, mode: str = "L") -> Image.Image:
    rng = np.random.default_rng(0)
    shape = (side, side) if mode == "L" else (side, side, 3)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """The image as uint8 (C, H, W)."""
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1).permute(2, 0, 1).contiguous()


def test_a_view_depends_on_its_name_and_position_alone():
    one, two = (train_views(CROPPED, WILD, 50, 0, 3, "source") for _ in range(2))
    assert torch.equal(one(picture(), 7), two(picture(), 7))
    assert not torch.equal(one(picture(), 7), one(picture(), 8))
    for names in ((1, 3, "source"), (0, 4, "source"), (0, 3, "target")):
        assert not torch.equal(one(picture(), 7), train_views(CROPPED, WILD, 50, *names)(picture(), 7))


def test_without_augmentation_a_view_is_the_image():
    assert torch.equal(train_views(MODEL, PLAIN, 1, 0)(picture(), 0), to_tensor(picture()))


def test_every_crop_lies_inside_and_all_places_are_reached():
    image = picture(32)
    views = train_views(CROPPED, PLAIN, 400, 0)
    places = {to_tensor(image.crop((x, y, x + 28, y + 28))).numpy().tobytes() for x in range(5) for y in range(5)}
    assert {views(image, position).numpy().tobytes() for position in range(400)} == places


def test_half_of_the_views_are_flipped():
    flip = Augment(flip=True, rotate=0, zoom=0, shear=0, shift=0)
    views = train_views(MODEL, flip, 400, 0)
    flipped = sum(torch.equal(views(picture(), i), to_tensor(picture()).flip(-1)) for i in range(400))
    assert 150 < flipped < 250


def test_a_warp_turns_about_the_centre():
    dot = Image.new("L", (28, 28))
    dot.paste(255, (12, 12, 16, 16))
    turn = Augment(flip=False, rotate=45, zoom=0, shear=0, shift=0)
    views = train_views(MODEL, turn, 20, 0)
    for position in range(20):
        view = views(dot, position)[0].double()
        grid = torch.arange(28, dtype=torch.float64)
        assert abs((view.sum(0) @ grid / view.sum()).item() - 13.5) < 0.3
        assert abs((view.sum(1) @ grid / view.sum()).item() - 13.5) < 0.3


def test_the_centre_view_is_the_middle():
    image = picture(32)
    assert torch.equal(centre_view(image, CROPPED), to_tensor(image.crop((2, 2, 30, 30))))


def test_colour_images_keep_their_channels_first():
    view = centre_view(picture(mode="RGB"), MODEL)
    assert view.shape == (3, 28, 28)
    assert torch.equal(view, to_tensor(picture(mode="RGB")))


def test_normalised_pixels():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    expected = (torch.tensor([0.0, 1.0]) - 0.1) / 0.3
    torch.testing.assert_close(normalise(pixels, MODEL).flatten(), expected)


def disc(side: int, radius: float) -> Image.Image:
    """A white disc in the middle of black."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return Image.fromarray(((rows**2 + columns**2 <= radius**2) * 255).astype(np.uint8))


@given(st.floats(0.4, 1.8))
def test_an_object_is_shown_as_large_as_asked(scale):
    model = MODEL.model_copy(update={"resize": 64, "image_size": 64})
    view = centre_view(disc(64, 16), model, scale)
    assert view.shape == (1, 64, 64)
    radius = (view.float().sum().item() / 255 / np.pi) ** 0.5
    assert radius == pytest.approx(16 * scale, abs=0.7)
    assert torch.equal(centre_view(disc(64, 16), model, 1.0), centre_view(disc(64, 16), model))


def test_training_views_show_objects_at_all_scales_asked_for():
    model = MODEL.model_copy(update={"resize": 64, "image_size": 64})
    views = train_views(model, PLAIN, 200, 0, scales=(0.5, 1.5))
    sizes = np.array(
        [(views(disc(64, 16), number).float().sum().item() / 255 / np.pi) ** 0.5 / 16 for number in range(200)]
    )
    assert 0.48 < sizes.min() < 0.55
    assert 1.4 < sizes.max() < 1.53
    assert np.median(sizes) == pytest.approx(0.75**0.5, abs=0.08)  # log-uniform: the middle is the geometric mean
    again = train_views(model, PLAIN, 200, 0, scales=(0.5, 1.5))
    assert torch.equal(views(disc(64, 16), 7), again(disc(64, 16), 7))


@pytest.mark.parametrize("augment", [PLAIN, WILD])
def test_a_decoded_array_gives_the_view_of_its_image(augment: Augment) -> None:
    """The decoder of JPEGs and Pillow's agree bit for bit, and so do the views of what they give."""
    file = io.BytesIO()
    picture(mode="RGB", side=40).save(file, "jpeg", quality=95, subsampling=0)
    image = Image.open(file)
    array = decode_jpeg(file.getvalue()).transpose(2, 0, 1)
    for resize in (40, 36):
        model = CROPPED.model_copy(update={"resize": resize})
        views = train_views(model, augment, 20, 0)
        assert all(torch.equal(views(image, i), views(array, i)) for i in range(20))
        assert torch.equal(centre_view(image, model), centre_view(array, model))
        assert views(array, 0).is_contiguous()
