"""A real S3 server over HTTP on loopback for tests (moto's), in a thread of the test's process."""

from __future__ import annotations

import logging
import urllib.request
from typing import Any, Self

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "wellos-test"


class S3Server:
    """A server with one empty bucket."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def __enter__(self) -> Self:
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        reset = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(
            reset, timeout=10
        ).close()  # what it holds is kept in the process, not in the server
        self.client = boto3.client("s3", endpoint_url=self.url, **_ACCESS)
        self.client.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.stop()

    def names(self) -> list[str]:
        """Return what the bucket holds."""
        return [
            found["Key"] for found in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        ]


_ACCESS: dict[str, Any] = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "region_name": "us-east-1",
}


def storage(url: str) -> dict[str, Any]:
    """Return the entry of Django's ``STORAGES`` for the server's bucket."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": BUCKET,
            "endpoint_url": url,
            "access_key": "test",
            "secret_key": "test",
            "region_name": "us-east-1",
            "querystring_expire": 600,
        },
    }
