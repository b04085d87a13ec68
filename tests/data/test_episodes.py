import numpy as np
import pytest

from dfplan.data import Episodes


def test_counts():
    data = Episodes({"observations": np.zeros((5, 2))}, np.array([2, 5]), 0.1)
    assert (len(data), data.steps, data.starts.tolist()) == (2, 5, [0, 2])


@pytest.mark.parametrize(
    ("arrays", "ends", "dt", "message"),
    [
        ({"actions": 5}, [5], 0.1, "expected 'observations'"),
        ({"observations": 5, "actions": 4}, [5], 0.1, "'actions' has 4 rows, 'observations' has 5"),
        ({"observations": 5}, [4], 0.1, "rise strictly"),
        ({"observations": 5}, [3, 3, 5], 0.1, "rise strictly"),
        ({"observations": 5}, [0, 5], 0.1, "rise strictly"),
        ({"observations": 5}, [], 0.1, "rise strictly"),
        ({"observations": 5}, [2.5, 5.0], 0.1, "rise strictly"),
        ({"observations": 5}, [[5]], 0.1, "rise strictly"),
        ({"observations": 5}, [5], float("inf"), "dt=inf"),
        ({"observations": 5}, [5], 0.0, "dt=0.0"),
        ({"observations": 5}, [5], float("nan"), "dt=nan"),
    ],
)
def test_refuses(arrays, ends, dt, message):
    with pytest.raises(ValueError, match=message):
        Episodes({key: np.zeros((n, 2)) for key, n in arrays.items()}, ends, dt)
