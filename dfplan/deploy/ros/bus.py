"""What the adapters and the simulated arm ask of a connection to ROS: one contract for rclpy and rosbridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Publish = Callable[[Mapping[str, Any], float], bool]
"""(fields, expires) -> whether it was handed over; never later than `expires`, s on the robot's clock."""
Heard = Callable[[Any, float], None]
"""(message, received): called in the bus's own thread; `received` in s of `time.perf_counter`."""
Trigger = Callable[[], tuple[bool, str]]
"""() -> (success, message)."""


class Bus(Protocol):
    """A node on a ROS graph. Declare everything, then `open`; types are written `pkg/msg/Type`."""

    def advertise(self, topic: str, message: str, *, lifespan: float = 0.0, command: bool = False) -> Publish:
        """Declare a topic that is written; `~/x` is the node's own.

        What has not been delivered after `lifespan` s is dropped (0: never); `connected` waits for a `command`'s reader.
        """

    def subscribe(
        self, topic: str, message: str, heard: Heard, *, rate: float = 0.0, several: bool = False
    ) -> None:
        """Declare a topic that is read: the newest message only, from any publisher whatever its QoS.

        More than `rate` Hz is not needed, so a server in between may leave messages out; 0: all. `several` nodes write to it:
        what one of them says is not dropped for what another says.
        """

    def serve(self, name: str, handler: Trigger) -> None:
        """Declare a std_srvs/Trigger service."""

    def follow(self, action: str, goal: Mapping[str, Any], done: Callable[[bool, str], None]) -> bool:
        """Send a FollowJointTrajectory goal; `done` is called later. False if that is not possible here."""

    def writers(self, topic: str) -> Sequence[str]:
        """Full names of the nodes that declare to write a topic, as far as is known here."""

    def cancel(self) -> None:
        """Cancel all goals that were sent."""

    def open(self) -> None:
        """Connect; returns without waiting for the other side."""

    def connected(self) -> bool:
        """Whether something that is written now would be handed over."""

    def connection(self) -> int:
        """How often a connection was made."""

    def now(self) -> float:
        """The ROS clock, s."""

    def close(self) -> None:
        """Disconnect. Never raises; may be repeated."""
