"""The MJCF of a Franka-Panda-like arm: masses and shapes on the kinematics of `dfplan.deploy.robot.panda`.

Masses and inertias are the published identification (Gaz et al. 2019, rounded), shapes are capsules around the
links. All in SI units: m, kg, rad, s, N m. Nothing here needs MuJoCo.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

from dfplan.deploy.robot.panda import DH, FLANGE, HAND_YAW, LIMITS, TCP

TIMESTEP = 0.0025
"""Physics step, s."""
SUBSTEPS = 20
"""Physics steps per control step."""
DT = TIMESTEP * SUBSTEPS
"""Control step, s."""
LAG = 0.06
"""Time constant of the joint controllers (damping / stiffness), s."""
STIFFNESS = (1200.0, 1200.0, 1000.0, 1000.0, 600.0, 500.0, 300.0)
"""Stiffness of each joint controller, N m/rad."""
TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""Most that each joint may do, N m."""


@dataclass(frozen=True)
class Capsule:
    """A rounded bar on a link: from `start` to `end` (m, in the link's frame) with `radius` (m)."""

    link: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


# Links 1 to 7 by number, 8 is the hand.
CAPSULES = (
    Capsule(1, (0, 0, -0.20), (0, 0, 0), 0.065),
    Capsule(2, (0, 0, -0.05), (0, 0, 0.05), 0.065),
    Capsule(2, (0, -0.02, 0), (0, -0.13, 0), 0.06),
    Capsule(3, (0, 0, -0.18), (0, 0, -0.03), 0.06),
    Capsule(3, (0, 0, -0.03), (0.0825, 0, 0), 0.055),
    Capsule(4, (0, 0, -0.045), (0, 0, 0.045), 0.06),
    Capsule(4, (0, 0, 0), (-0.07, 0.10, 0), 0.055),
    Capsule(5, (0, 0, -0.27), (0, 0.04, -0.18), 0.055),
    Capsule(5, (0, 0.055, -0.18), (0, 0.055, -0.03), 0.045),
    Capsule(6, (0, 0, -0.05), (0, 0, 0.03), 0.052),
    Capsule(6, (0, 0, 0.01), (0.088, 0, 0.01), 0.045),
    Capsule(7, (0, 0, -0.02), (0, 0, 0.075), 0.045),
    Capsule(8, (0, -0.07, 0.035), (0, 0.07, 0.035), 0.032),
)
FINGERS = Capsule(8, (0, -0.045, 0.09), (0, 0.045, 0.09), 0.02)
"""Envelope of both fingers at any opening, for clearance; in the physics they are boxes."""

# Per link: mass (kg), centre of mass (m), inertia xx yy zz xy xz yz (kg m^2), all in the link's frame.
_MASSES: tuple[tuple[float, str, str], ...] = (
    (4.9707, "0.003875 0.002081 -0.04762", "0.70337 0.70661 0.009117 -0.000139 0.006772 0.019169"),
    (0.6469, "-0.003141 -0.02872 0.003495", "0.007962 0.02811 0.025995 -0.003925 0.010254 0.000704"),
    (3.2286, "0.027518 0.039252 -0.066502", "0.037242 0.036155 0.01083 -0.004761 -0.011396 -0.012805"),
    (3.5879, "-0.05317 0.104419 0.027454", "0.025853 0.019552 0.028323 0.007796 -0.001332 0.008641"),
    (1.2259, "-0.011953 0.041065 -0.038437", "0.035549 0.029474 0.008627 -0.002117 -0.004037 0.000229"),
    (1.6666, "0.060149 -0.014117 -0.010517", "0.001964 0.004354 0.005433 0.000109 -0.001158 0.000341"),
    (0.7355, "0.010517 -0.004252 0.061597", "0.012516 0.010027 0.004815 -0.000428 -0.001196 -0.000741"),
)
# Contact bits: the arm meets the world (table, obstacles) and objects; objects meet the world.
_DEFAULTS = """<default>
  <geom condim="3" friction="0.6 0.01 0.001"/>
  <default class="arm">
    <joint armature="0.1" damping="1" actuatorgravcomp="true"/>
    <geom type="capsule" contype="1" conaffinity="0" rgba="0.9 0.91 0.93 1"/>
  </default>
  <default class="finger">
    <joint type="slide" armature="0.1" damping="5" range="0 0.04" solreflimit="0.01 1"/>
    <geom type="box" contype="1" conaffinity="0" rgba="0.25 0.26 0.28 1"/>
  </default>
  <default class="pad">
    <geom type="box" contype="1" conaffinity="0" condim="4" friction="1.5 0.02 0.001" priority="1"
      solref="0.01 1" solimp="0.9 0.95 0.002" rgba="0.15 0.15 0.16 1"/>
  </default>
  <default class="world"><geom contype="2" conaffinity="5"/></default>
  <default class="object"><geom contype="4" conaffinity="1" condim="4" friction="0.9 0.01 0.001"/></default>
  <default class="mark"><geom contype="0" conaffinity="0" group="2"/></default>
</default>"""
_SKY = """<asset>
  <texture type="skybox" builtin="gradient" rgb1="0.93 0.95 0.97" rgb2="0.75 0.8 0.86" width="64" height="64"/>
</asset>"""
_TABLE = """<light pos="0.3 -0.8 2.2" dir="0.1 0.35 -1" diffuse="0.6 0.6 0.6" castshadow="true"/>
<light pos="0.8 1.2 1.8" dir="-0.2 -0.6 -1" diffuse="0.3 0.3 0.3" castshadow="false"/>
<camera name="overview" pos="1.42 -0.86 0.92" xyaxes="0.54 0.84 0 -0.39 0.25 0.885" fovy="38"/>
<geom name="floor" type="plane" pos="0 0 -0.7" size="4 4 0.1" rgba="0.83 0.85 0.88 1" class="mark"/>
<geom name="table" type="box" pos="0.38 0 -0.025" size="0.62 0.65 0.025" rgba="0.72 0.6 0.46 1"
  class="world"/>"""


def _shape(capsule: Capsule) -> str:
    ends = " ".join(f"{value:g}" for value in (*capsule.start, *capsule.end))
    shade = "0.3 0.32 0.36 1" if capsule.link == 8 else "0.9 0.91 0.93 1"
    return f'<geom fromto="{ends}" size="{capsule.radius:g}" rgba="{shade}"/>'


def _finger(name: str, side: int) -> str:
    """One finger: a slide that opens along `side` * y, with its pad facing the other one."""
    return f"""<body name="{name}" pos="0 0 0.0584" gravcomp="1" childclass="finger">
  <inertial mass="0.03" pos="0 {0.01 * side} 0.025" diaginertia="2e-5 2e-5 1e-5"/>
  <joint name="{name}" axis="0 {side} 0"/>
  <geom pos="0 {0.015 * side} 0.012" size="0.01 0.011 0.012"/>
  <geom pos="0 {0.009 * side} 0.036" size="0.009 0.005 0.016"/>
  <geom name="{name}_pad" class="pad" pos="0 {0.004 * side} 0.0435" size="0.009 0.004 0.0105"/>
</body>"""


def _hand() -> str:
    shapes = "".join(_shape(capsule) for capsule in CAPSULES if capsule.link == 8)
    turn = f"{cos(HAND_YAW / 2)} 0 0 {sin(HAND_YAW / 2)}"
    return f"""<body name="hand" pos="0 0 {FLANGE}" quat="{turn}" gravcomp="1">
  <inertial mass="0.73" pos="-0.01 0 0.03" diaginertia="0.001 0.0025 0.0017"/>
  {shapes}<site name="tcp" pos="0 0 {TCP}" size="0.004" group="4"/>
  {_finger("finger1", 1)}{_finger("finger2", -1)}
</body>"""


def _links() -> str:
    text = _hand()
    for i in reversed(range(7)):
        a, d, alpha = DH[i]
        mass, centre, inertia = _MASSES[i]
        shapes = "".join(_shape(capsule) for capsule in CAPSULES if capsule.link == i + 1)
        text = f"""<body name="link{i + 1}" pos="{a} {-d * sin(alpha)} {d * cos(alpha)}"
  quat="{cos(alpha / 2)} {sin(alpha / 2)} 0 0" gravcomp="1">
  <inertial mass="{mass}" pos="{centre}" fullinertia="{inertia}"/>
  <joint name="q{i + 1}" axis="0 0 1" range="{LIMITS.lower[i]} {LIMITS.upper[i]}"
    actuatorfrcrange="{-TORQUE[i]} {TORQUE[i]}"/>
  {shapes}{text}</body>"""
    return text


def mjcf(scene: str) -> str:
    """MJCF of the arm on its table, with a task's own bodies.

    Args:
        scene: MJCF elements added to the world body; classes `world`, `object` and `mark` set what they
            collide with.

    Returns:
        a whole MJCF document. Joints q1 to q7, finger1, finger2 come first; actuators q1 to q7 take target
        angles (rad), `gripper` the target opening (m); site `tcp`; camera `overview`.
    """
    servos = "".join(
        f'<position name="q{i + 1}" joint="q{i + 1}" kp="{kp}" kv="{kp * LAG:g}" '
        f'forcerange="{-TORQUE[i]} {TORQUE[i]}"/>\n'
        for i, kp in enumerate(STIFFNESS)
    )
    return f"""<mujoco model="arm">
<compiler angle="radian" balanceinertia="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
<visual>
  <global offwidth="1280" offheight="960"/><quality shadowsize="2048"/>
  <headlight ambient="0.45 0.45 0.45" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
</visual>
{_DEFAULTS}
{_SKY}
<worldbody>
{_TABLE}
<body name="base" childclass="arm">
  <geom fromto="-0.09 0 0.06 0 0 0.06" size="0.06"/><geom fromto="0 0 0.06 0 0 0.13" size="0.065"/>
  {_links()}
</body>
{scene}
</worldbody>
<tendon><fixed name="opening"><joint joint="finger1" coef="1"/><joint joint="finger2" coef="1"/></fixed></tendon>
<equality><joint joint1="finger1" joint2="finger2" solref="0.005 1"/></equality>
<actuator>
{servos}<position name="gripper" tendon="opening" kp="1000" kv="30" forcerange="-60 60"/>
</actuator>
</mujoco>"""
