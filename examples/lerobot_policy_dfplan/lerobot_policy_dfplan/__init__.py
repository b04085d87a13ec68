"""Registers dfplan with LeRobot: the policy type `dfplan` and the processor step `dfplan_chunk_check`."""

from dfplan.deploy.lerobot import ChunkCheckStep
from dfplan.policies.lerobot import DfplanConfig, DfplanPolicy, export

__all__ = ["ChunkCheckStep", "DfplanConfig", "DfplanPolicy", "export"]
