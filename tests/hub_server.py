"""The part of the Hub's HTTP interface that `huggingface_hub` needs to make, write, list and read repositories, in memory."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
LARGE = (".safetensors", ".hdf5", ".parquet")


@dataclass
class Repo:
    """Files of the last commit, and how many there were."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: int = 0

    @property
    def sha(self):
        return f"{self.commits:040x}"


class Hub(ThreadingHTTPServer):
    """Serves until `shutdown`; `repos` by kind and name, `fetched` what was downloaded."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def log_message(self, *args):
        pass

    def answer(self, value=None, code=200, body=None, **headers):
        body = json.dumps(value).encode() if body is None else body
        self.send_response(code)
        for key, text in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code, why, **headers):
        self.answer({"error": why}, code, X_Error_Message=why, **headers)

    @property
    def known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        path = unquote(urlsplit(self.path).path)
        if self.command in ("POST", "PUT") and not path.startswith("/large/") and not self.known:
            return self.refuse(401, "Invalid username or password.")
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, path):
                return method(self, body, *found.groups())
        return self.refuse(404, f"no such address: {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def chunks(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def repo(self, kind, name):
        found = self.server.repos.get((kind, name))
        if found is None or (found.private and not self.known):
            self.refuse(404, "Repository not found", X_Error_Code="RepoNotFound")
            return None
        return found

    def valid(self, body):
        self.answer({"errors": [], "warnings": []})

    def create(self, body):
        told = json.loads(body)
        kind, name = told.get("type", "model"), f"{told['organization']}/{told['name']}"
        address = {"url": f"{self.server.url}/{'datasets/' if kind == 'dataset' else ''}{name}"}
        if (kind, name) in self.server.repos:
            return self.answer(address | {"error": "You already created this"}, 409)
        private = told.get("private") or told.get("visibility") == "private"
        self.server.repos[kind, name] = Repo(bool(private))
        return self.answer(address)

    def info(self, body, kind, name):
        if repo := self.repo(kind, name):
            files = [{"rfilename": file} for file in repo.files]
            self.answer(
                {
                    "_id": "1",
                    "id": name,
                    "sha": repo.sha,
                    "private": repo.private,
                    "tags": [],
                    "siblings": files,
                }
                | {"downloads": 0, "likes": 0}
            )

    def tree(self, body, kind, name):
        if repo := self.repo(kind, name):
            self.answer(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in repo.files.items()
                ]
            )

    def preupload(self, body, kind, name):
        modes = {True: "lfs", False: "regular"}
        files = [
            {"path": f["path"], "uploadMode": modes[f["path"].endswith(LARGE)], "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self.answer({"files": files})

    def batch(self, body, prefix, name):
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.server.url}/large/{o['oid']}"}}}
            for o in json.loads(body)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")

    def store(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self.answer({})

    def commit(self, body, kind, name):
        repo = self.repo(kind, name)
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                repo.files[value["path"]] = self.server.large[value["oid"]]
            elif row["key"] == "deletedFile":
                del repo.files[value["path"]]
        repo.commits += 1
        self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{repo.sha}", "commitOid": repo.sha})

    def resolve(self, body, prefix, name, path):
        if repo := self.repo("dataset" if prefix else "model", name):
            if path not in repo.files:
                return self.refuse(404, "Entry not found", X_Error_Code="EntryNotFound")
            if self.command == "GET":
                self.server.fetched.append(path)
            data = repo.files[path]
            self.answer(body=data, X_Repo_Commit=repo.sha, ETag=f'"{hashlib.sha1(data).hexdigest()}"')
        return None


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    (r"/api/validate-yaml", Answer.valid),
    (r"/api/repos/create", Answer.create),
    (rf"/api/(model|dataset)s/{NAME}(?:/revision/\w+)?", Answer.info),
    (rf"/api/(model|dataset)s/{NAME}/tree/\w+", Answer.tree),
    (rf"/api/(model|dataset)s/{NAME}/preupload/main", Answer.preupload),
    (rf"/api/(model|dataset)s/{NAME}/commit/main", Answer.commit),
    (rf"/(datasets/)?{NAME}\.git/info/lfs/objects/batch", Answer.batch),
    (r"/large/(\w+)", Answer.store),
    (rf"/(datasets/)?{NAME}/resolve/\w+/(.+)", Answer.resolve),
]
