"""An S3 server of the tests' own, from the package moto, in threads of this process; its buckets live in memory."""

from __future__ import annotations

import itertools
import logging

import fsspec
from moto.server import ThreadedMotoServer


class Server:
    """A server on a port of its own. After `stop`, `start` brings it back on the same port with the same buckets."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line for every request
        self._port = 0
        self._buckets = itertools.count()
        self.start()

    def start(self) -> None:
        """Start to listen."""
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port)
        self._server.start()
        _, self._port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Refuse connections."""
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which programs use this server, and no account of the developer."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self) -> str:
        """The URL of a new bucket."""
        name = f"bucket-{next(self._buckets)}"
        fsspec.filesystem("s3").mkdir(name)
        return f"s3://{name}"
