"""From demonstrations to a training configuration: what `dfplan.train.imitate` has, by its documented name."""

from dfplan.train.imitate import DEFAULTS, complete, imitation_config, imitation_spec

__all__ = ["DEFAULTS", "complete", "imitation_config", "imitation_spec"]
