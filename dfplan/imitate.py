"""From demonstrations to a training configuration, as `dfplan.train.imitate` has it."""

from dfplan.train.imitate import DEFAULTS, complete, imitation_config, imitation_spec

__all__ = ["DEFAULTS", "complete", "imitation_config", "imitation_spec"]
