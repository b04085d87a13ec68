"""A scripted policy: the tool goes to a pose by inverse kinematics, as smoothly as a policy would."""

import numpy as np

from dfplan.deploy.loop.inference import Answer


class Reach:
    """A minimum-jerk motion of the joints from where a run begins to `position` (3,) m and `rotation` (3, 3), in `seconds`."""

    stride, steps, ahead, chunk = 1, 1, 30, 8

    def __init__(self, body, dt, position, rotation, seconds):
        self.body, self.position, self.rotation = body, position, rotation
        shares = np.arange(1, 1 + round(seconds / dt)) / round(seconds / dt)
        self.shares, self.run = shares**3 * (10 - 15 * shares + 6 * shares**2), -1

    def __call__(self, request):
        first = request.step + len(request.committed)
        if request.run != self.run:
            goal, met = self.body.inverse(request.joints, self.position, self.rotation)
            assert met
            self.run = request.run
            self.rows = request.joints + self.shares[:, None] * (goal - request.joints)
        rows = self.rows[np.minimum(np.arange(first, request.step + self.ahead), len(self.rows) - 1)]
        return Answer(first, rows, rows, 0.0, run=request.run)
