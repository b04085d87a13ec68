"""Work shared out over the processes and machines of a Ray cluster (extra `cluster`)."""

from dfplan.cluster.rays import LOCAL, mapped

__all__ = ["LOCAL", "mapped"]
