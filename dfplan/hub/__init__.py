"""Models and demonstrations on the Hugging Face Hub: `push` and `pull`. Needs the package `huggingface_hub`."""

from dfplan.hub.pull import pull
from dfplan.hub.push import push

__all__ = ["pull", "push"]
