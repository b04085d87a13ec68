"""Films of `dfplan eval --video`, read back from their files."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import dfplan, elsewhere  # noqa: F401  fixtures

from dfplan.show import video
from dfplan.tools.film import Frame

WORDS = (
    "eval",
    "maze2d-umaze",
    "--episodes",
    2,
    "--seed",
    3,
    "--planner.steps",
    1,
    "--planner.candidates",
    1,
)
needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="needs PyAV: pip install 'dfplan[video]'"
)


def pictures(path):
    """(N, h, w, 3) uint8 of a GIF or MP4."""
    if path.suffix == ".gif":
        with Image.open(path) as film:
            return np.stack([film.seek(i) or np.asarray(film.convert("RGB")) for i in range(film.n_frames)])
    import av

    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def first_line(picture):
    """The upper half of the text below a picture of 400 pixels."""
    assert picture.shape[1] == 400
    return picture[-48:-24].astype(float)


def written(step):
    """The same of a step of a maze."""
    return first_line(video.captioned([Frame(np.zeros((9, 400, 3), np.uint8), step, step / 100)])[0])


@pytest.mark.parametrize("kind", ["gif", pytest.param("mp4", marks=needs_av)])
def test_each_picture_of_a_film_has_its_step_time_and_success(dfplan, kind):  # noqa: F811
    words = ("--env-args", "max_episode_steps=101", "--video", "films", "--video-format", kind)
    done = dfplan(*WORDS, *words)
    assert done.code == 0, done.err
    paths = [Path(f"films/maze2d-umaze-{seed}.{kind}") for seed in (3, 4)]
    assert sorted(Path("films").iterdir()) == paths and all(str(path) in done.out for path in paths)
    for path in paths:
        seen = pictures(path)
        assert len(seen) == 52  # every second of 101 steps, and the end
        for at, step in ((0, 0), (7, 14), (51, 101)):
            near, *far = (np.abs(first_line(seen[at]) - written(step + more)).mean() for more in (0, 1, -1))
            assert near < min(far), (path, step)


def test_what_is_said_is_what_is_known():
    picture = np.zeros((4, 4, 3), np.uint8)
    assert (
        Frame(picture, 12, 0.6, 10, True, 1.0).caption()
        == "step 12, 0.60 s\nbest progress 1.00, success at step 10"
    )
    assert Frame(picture, 12, None, None, False).caption() == "step 12\nno success yet"
    assert Frame(picture, 12).caption() == "step 12\n"


def test_pictures_are_large_enough_to_be_read_and_text_hides_nothing():
    for shape in ((96, 96, 3), (240, 320, 3), (600, 900, 3)):
        picture = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        longest = Frame(picture, 10_000, 1000.0, 10_000, True, 1.0)
        (got,) = video.captioned([longest])
        times = got.shape[1] // shape[1]
        assert got.shape[1] >= 320 and (got[: shape[0] * times : times, ::times] == picture).all()
        below = got[shape[0] * times :]
        assert (
            below.min() < 100 and below[-3:].min() > 200 and below[:, -3:].min() > 200
        )  # text, and room around it


@needs_av
def test_pictures_of_odd_sizes_are_written_as_mp4(tmp_path):
    frames = [np.full((33, 47, 3), value, np.uint8) for value in (0, 90, 250)]
    seen = pictures(video.write_mp4(frames, tmp_path / "new" / "odd.mp4", 10))
    assert seen.shape == (3, 34, 48, 3)
    assert np.abs(seen.astype(float) - np.array([0, 90, 250]).reshape(3, 1, 1, 1)).max() < 6
    with pytest.raises(ValueError, match="no frames"):
        video.write_mp4([], tmp_path / "none.mp4", 10)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["odd.mp4"]


def test_what_is_missing_is_said_before_an_episode_runs(dfplan, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("dfplan.rollout.run", lambda *_: pytest.fail("an episode ran"))
    got = dfplan(*WORDS, "--video", "films", "--video-format", "mp4")
    assert got.code == 2 and got.err == "dfplan: av is not installed; run: pip install 'dfplan[video]'\n"
    got = dfplan(*WORDS, "--video-format", "mp4")
    assert got.code == 2 and "got --video-format mp4 without --video; add --video FOLDER" in got.err
    assert not list(Path().iterdir())
