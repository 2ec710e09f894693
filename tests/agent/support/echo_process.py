"""Starts the echo service, and speaks to it by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from litefleet_agent.protocol import PREFIX_SIZE, decode_header, decode_prefix, encode

AGENT = Path(__file__).parents[3] / "agent"


class EchoService:
    """The service in a process of its own; a context manager that ends it by its process."""

    def __init__(self, folder, descriptors="", **settings):
        self.path = str(folder / "s.sock")
        self.folder = folder
        settings = dict({"socket": self.path}, **settings)
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("echo_service.py")),
                str(folder),
                json.dumps(settings),
                str(descriptors),
            ],
            stdout=subprocess.PIPE,
            universal_newlines=True,
            env=dict(os.environ, PYTHONPATH=str(AGENT)),
        )
        self.said = self.process.stdout.readline().strip()

    def __enter__(self):
        assert self.said == "ready"
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def connect(self, timeout_s=10.0):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self.path)  # with a timeout, it would not wait for room in the backlog
        connection.settimeout(timeout_s)
        return connection

    def status(self):
        with self.connect() as connection:
            connection.sendall(encode({"id": 1, "op": "status"}))
            return answer(connection)[0]["result"]


def ask(number=1, model="echo", body=b"", **more):
    """Return the bytes of an infer request whose input is `body`."""
    inputs = [{"name": "x", "dtype": "uint8", "dims": [len(body)]}]
    return encode(dict({"id": number, "op": "infer", "model": model, "inputs": inputs}, **more), len(body)) + body


def read(connection, size):
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def answer(connection):
    """Return the next frame as (header, body); EOFError when the service has closed."""
    header, body = decode_prefix(read(connection, PREFIX_SIZE))
    return decode_header(read(connection, header)), read(connection, body)


def closed(connection):
    """Whether the service has closed the connection; waits for it as long as the connection's timeout."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        pass
    except socket.timeout:  # noqa: UP041 - 3.7
        return False
    return True
