"""A real S3 server on this machine, and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class LocalS3:
    """Buckets of a server; `env` is what a user sets to reach it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.env = {**KEYS, **endpoint(port), "AWS_DEFAULT_REGION": "us-east-1"}
        self.client = boto3.client(
            "s3",
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> str:
        """Copy a folder; its URL."""
        self.client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        return f"s3://{bucket}/{prefix}"


def endpoint(port: int) -> dict[str, str]:
    """The variable that leads S3 clients to a port of this machine."""
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def local_s3() -> Iterator[LocalS3]:
    """An empty server for as long as the block lasts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield LocalS3(server.get_host_and_port()[1])
    finally:
        server.stop()


def use(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    """Set variables, and forget the connections made with others."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@contextlib.contextmanager
def cutting_line(port: int, *, after_bytes: int, times: int) -> Iterator[int]:
    """A port that leads to `port`; the first `times` connections break after so many bytes of
    answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [times]

    def answer(near: socket.socket, far: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := far.recv(1 << 14):
                if left[0] > 0 and passed + len(data) > after_bytes:
                    left[0] -= 1
                    near.sendall(data[: after_bytes - passed])
                    break
                near.sendall(data)
                passed += len(data)
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def ask(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(1 << 14):
                far.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for work in (answer, ask):
                    threading.Thread(target=work, args=(near, far), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # or `accept` would wait for ever
        listener.close()
