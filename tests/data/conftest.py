import http.server
import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import hdf5_body


@pytest.fixture
def write(tmp_path):
    """Write a file of D4RL's layout: 12 rows, timeouts at rows 3 and 9; keyword None drops a key."""

    def make(file="maze2d-test.hdf5", attrs=None, **changes):
        rng = np.random.default_rng(0)
        timeouts = np.zeros(12, bool)
        timeouts[[3, 9]] = True
        arrays = {
            "observations": rng.standard_normal((12, 4)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (12, 2)).astype(np.float32),
            "rewards": rng.uniform(size=12).astype(np.float32),
            "terminals": np.zeros(12, bool),
            "timeouts": timeouts,
            "infos/goal": rng.standard_normal((12, 2)).astype(np.float32),
        } | {key.replace("__", "/"): value for key, value in changes.items()}
        path = tmp_path / file
        with h5py.File(path, "w") as out:
            for key, array in arrays.items():
                if array is not None:
                    out[key] = array
            out.attrs.update(attrs or {})
        return path, arrays

    return make


@pytest.fixture
def shared():
    """Folder of recorded data, or a skip that says what is missing."""
    root = Path(os.environ.get("DFPLAN_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no recorded data in {root}; set DFPLAN_SHARED_DATA")
    return root


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Every cache that `get` looks at, empty and inside tmp_path; no proxy for the local server."""
    for name, variable in (
        ("d4rl", "D4RL_DATASET_DIR"),
        ("own", "DFPLAN_DATA"),
        ("minari", "MINARI_DATASETS_PATH"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


BODY = hdf5_body(0)


class Server:
    """A local HTTP server whose faults are set per test."""

    def __init__(self):
        self.body, self.etag, self.ranges, self.cuts, self.status = BODY, '"one"', True, [], 200
        self.blind = self.lengthless = False  # resumes whatever the tag; says no length
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.hdf5"

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        begin = 0
        if self.ranges and wanted and (self.blind or handler.headers.get("If-Range") == self.etag):
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(self.body):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.body) - 1}/{len(self.body)}")
        else:
            handler.send_response(200)
        if not self.lengthless:
            handler.send_header("Content-Length", str(len(self.body) - begin))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        end = begin + self.cuts.pop(0) if self.cuts else len(self.body)
        handler.wfile.write(self.body[begin:end])


@pytest.fixture
def server(caches):
    """A local server of BODY, shut down afterwards."""
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()
