"""Small data sets for the tests of readers and writers, and a strict comparison."""

import io

import h5py
import numpy as np

from dfplan.data import Episodes

MASKS = {"train": ["demo_0", "demo_10"], "valid": ["demo_2"]}


def sample(dtype=np.float32, **changes):
    """Three episodes of 5, 3 and 4 env steps: position (3), quaternion (4) and gripper (2); actions in [-1, 1]."""
    rng = np.random.default_rng(0)
    quat = rng.standard_normal((12, 4))
    parts = [
        rng.standard_normal((12, 3)),
        quat / np.linalg.norm(quat, axis=1, keepdims=True),
        rng.random((12, 2)),
    ]
    arrays = {
        "observations": np.concatenate(parts, 1).astype(dtype),
        "actions": rng.uniform(-1, 1, (12, 2)).astype(dtype),
        "rewards": rng.random(12).astype(np.float32),
        "terminals": np.arange(12) % 4 == 3,
        "states": rng.standard_normal((12, 6)),
        "infos/goal": rng.standard_normal((12, 2)).astype(np.float32),
        "keypoint": rng.standard_normal((12, 3, 2)).astype(np.float32),
        "contacts": rng.integers(0, 9, (12, 1)),
    }
    names = [*(f"pos.{a}" for a in "xyz"), *(f"quat.{a}" for a in "xyzw"), "left", "right"]
    info = {
        "names": {"observations": names, "actions": ["drive", "steer"]},
        "groups": {"robot0_eef_pos": [0, 3], "robot0_eef_quat": [3, 7], "robot0_gripper_qpos": [7, 9]},
        "masks": MASKS,
        "episodes": [
            {"name": f"demo_{i}", "attrs": {"model_file": f"<mujoco model='{i}'/>"}} for i in (0, 2, 10)
        ],
        "env_args": {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}},
        "tasks": ["lift the cube"],
        "units": {"actions": ["m/s", "rad/s"]},
    }
    given = {"arrays": arrays, "ends": np.array([5, 8, 12]), "dt": 0.05, "name": "sample", "info": info}
    return Episodes(**(given | changes))


def same(got, expected, info=()):
    """Assert that two sets of episodes agree to the last bit, and in the named entries of `info`."""
    assert set(got.arrays) == set(expected.arrays)
    for key, array in expected.arrays.items():
        assert got.arrays[key].dtype == array.dtype, key
        assert got.arrays[key].shape == array.shape, key
        assert np.ascontiguousarray(got.arrays[key]).tobytes() == np.ascontiguousarray(array).tobytes(), key
    assert (got.ends.tolist(), got.dt, got.name) == (expected.ends.tolist(), expected.dt, expected.name)
    for key in info:
        assert got.info.get(key) == expected.info.get(key), key


def hdf5_body(seed):
    """A real file in memory, of 1 MB."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["observations"] = np.random.default_rng(seed).integers(0, 256, (4000, 256), np.uint8)
    return out.getvalue()
