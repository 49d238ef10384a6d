"""A server with the Hub's endpoints that pushing and pulling data sets and models take; files live in memory."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager

COMMIT = "c" * 40
LFS_BYTES = 1000
"""Files of this size and more go up by themselves, before the commit."""


class Hub:
    """What the server knows, and what it was asked."""

    def __init__(self):
        self.repositories = {}
        """Committed content by path, by repository."""
        self.blobs = {}
        """Uploaded content by SHA-256, committed or not."""
        self.private = {}
        self.kinds = {}
        """`dataset` or `model`, by repository."""
        self.branches = []
        self.requests = Counter()
        self.commits = []
        self.fail_uploads = 0


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # each answer would wait for 40 ms

    def log_message(self, *arguments):
        pass

    def answer(self, value=None, *, status=200, data=None, headers=()):
        body = json.dumps(value).encode() if data is None else data
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.answer({"error": code}, status=status, headers=[("X-Error-Code", code)])

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self.chunks()

    def chunks(self):
        data = b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return data

    def do_PUT(self):
        data = self.body()
        if self.hub.fail_uploads:
            self.hub.fail_uploads -= 1
            self.refuse(403, "Forbidden")
            return
        self.hub.requests["upload"] += 1
        self.hub.blobs[hashlib.sha256(data).hexdigest()] = data
        self.answer({})

    def do_POST(self):
        data = self.body()
        if "Authorization" not in self.headers:
            self.refuse(401, "Unauthorized")
        elif self.path == "/api/repos/create":
            self.create(json.loads(data))
        elif "/preupload/" in self.path:
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["size"] >= LFS_BYTES else "regular"}
                for file in json.loads(data)["files"]
            ]
            self.answer({"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            host = f"http://{self.headers['Host']}"
            objects = [
                part if part["oid"] in self.hub.blobs else {**part, "actions": {"upload": {"href": f"{host}/blob"}}}
                for part in json.loads(data)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/(?:datasets|models)/(.+)/commit/(.+)", self.path.split("?")[0]):
            self.commit(match[1], match[2], [json.loads(line) for line in data.splitlines()])
        elif match := re.fullmatch(r"/api/(?:datasets|models)/(.+)/branch/(.+)", self.path):
            self.hub.branches.append(match[2])
            self.answer({})
        else:
            self.refuse(404, "NotFound")

    def create(self, fields):
        repo_id = f"{fields['organization']}/{fields['name']}"
        self.hub.kinds[repo_id] = fields.get("type") or "model"
        self.hub.private.setdefault(repo_id, fields.get("private") or fields.get("visibility") == "private")
        self.hub.repositories.setdefault(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.answer({"url": f"http://{self.headers['Host']}/datasets/{repo_id}"})

    def commit(self, repo_id, revision, operations):
        files = self.hub.repositories[repo_id]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.commits.append((revision, [operation["key"] for operation in operations]))
        address = f"http://{self.headers['Host']}/datasets/{repo_id}/commit/{COMMIT}"
        self.answer({"success": True, "commitUrl": address, "commitOid": COMMIT})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if match[1] not in self.hub.repositories:
                self.refuse(404, "RepoNotFound")
                return
            data = self.hub.repositories[match[1]].get(match[3])
            if data is None:
                self.refuse(404, "EntryNotFound")
                return
            if self.command == "GET":
                self.hub.requests[match[3]] += 1
            headers = [("X-Repo-Commit", COMMIT), ("ETag", f'"{hashlib.sha256(data).hexdigest()}"')]
            self.answer(data=data, headers=headers)
        elif match := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            if match[1] in self.hub.repositories:
                self.answer({"id": match[1], "sha": COMMIT})
            else:
                self.refuse(404, "RepoNotFound")
        elif match := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.answer([entry(name, data) for name, data in self.hub.repositories[match[1]].items()])
        else:
            self.refuse(404, "NotFound")


def entry(name, data):
    found = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if len(data) >= LFS_BYTES:
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return found


@contextmanager
def running(monkeypatch):
    """The Hub, to which huggingface_hub talks as long as the block runs, with a token."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_for_the_test")
        yield hub
        server.shutdown()
