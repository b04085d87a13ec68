import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fast", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("fast")


@pytest.fixture(autouse=True)
def seed():
    """The same global random numbers in every test, whatever ran before it."""
    torch.manual_seed(0)
    return 0
