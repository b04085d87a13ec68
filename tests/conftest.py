import pytest
import torch
from hypothesis import settings

from dfplan.train import trainer

torch.set_num_threads(1)
settings.register_profile("fast", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("fast")


@pytest.fixture(autouse=True, scope="session")
def roadmaps(tmp_path_factory):
    """What tests build is not kept in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFPLAN_ROADMAPS", str(tmp_path_factory.mktemp("roadmaps")))
        yield


@pytest.fixture(autouse=True)
def seed():
    """The same global random numbers in every test, whatever ran before it."""
    torch.manual_seed(0)
    return 0


class Few:
    """The same windows, of which eight are drawn whoever asks for more."""

    def __init__(self, windows):
        self.windows, self.episodes = windows, windows.episodes

    def draw(self, rng, batch, longest_of):
        return self.windows.draw(rng, min(batch, 8), longest_of)


@pytest.fixture(autouse=True)
def few_windows(monkeypatch):
    """Every save measures the model on 2,048 windows; a tiny one that a test trains is measured on 64."""
    measure = trainer.calibrate

    def few(denoiser, normalizer, windows, *rest):
        return measure(denoiser, normalizer, Few(windows), *rest)

    monkeypatch.setattr(trainer, "calibrate", few)
