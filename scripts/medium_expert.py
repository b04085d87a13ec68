"""The first 100,000 env steps of one file in D4RL's layout and all of another, as one: how D4RL made its medium-expert sets.

python scripts/medium_expert.py hopper-medium-v2.hdf5 hopper-expert-v2.hdf5 hopper-medium-expert-v2.hdf5
"""

import sys

import h5py
import numpy as np

if __name__ == "__main__":
    first, second, out = sys.argv[1:]
    with h5py.File(first) as a, h5py.File(second) as b, h5py.File(out, "x") as joined:
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            part = a[key][:100_000]
            if key == "timeouts":
                part[-1] |= not a["terminals"][len(part) - 1]  # the episode that is cut there ends by time
            joined.create_dataset(key, data=np.concatenate([part, b[key][:]]), compression="gzip")
    print(out)
