"""A Kafka with TLS, logins and rights, and an endpoint that gives tokens: both trusted by one authority of our own."""

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all are in its __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.support.servers import REQUEST_TIMEOUT_S, Kafka

USERS = ("admin", "monitor", "reader", "stranger")
"""Who can log in; the password is the name and `-secret`. Only admin has rights from the start."""
TOOL_TIMEOUT_S = 30
TOKEN_S = 3_600

Options = dict[str, str | int | float | bool]


class SecureKafka(Kafka):
    """One broker that takes SCRAM-SHA-512 and OAUTHBEARER over TLS, and allows what an ACL allows."""

    properties: ClassVar[tuple[str, ...]] = ("server.properties", "secure.properties")
    format_options: ClassVar[tuple[str, ...]] = tuple(
        part for user in USERS for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={user}-secret]")
    )

    def __init__(self, folder: Path, ports: Sequence[int] = ()) -> None:
        super().__init__(folder, ports)
        folder.mkdir(parents=True, exist_ok=True)
        make_certificates(folder)
        self.bootstrap = f"localhost:{self._broker_port}"
        self._client |= {"bootstrap.servers": self.bootstrap, **self.login("admin")}
        self._producer = self._new_producer()

    @property
    def ca(self) -> str:
        """The certificate of the authority that has signed the broker's."""
        return str(self.folder / "ca.pem")

    def login(self, user: str, **changes: str) -> Options:
        """The client's options for a user; `changes` have `_` for `.`."""
        options: Options = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.ca,
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": f"{user}-secret",
        }
        return options | {name.replace("_", "."): value for name, value in changes.items()}

    def allow(self, user: str, topic: str, *operations: AclOperation) -> None:
        """Gives a user rights on a topic."""
        bindings = [
            AclBinding(
                ResourceType.TOPIC,
                topic,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for operation in operations
        ]
        admin = AdminClient(self._client)  # its futures end only while it lives
        for future in admin.create_acls(bindings).values():
            future.result(REQUEST_TIMEOUT_S)


def make_certificates(folder: Path) -> None:
    """Makes an authority, `ca.pem`, and what a server on localhost shows: `server.pem`, key and certificate."""
    ca_key, key, request, certificate = (folder / name for name in ("ca.key", "key.pem", "server.csr", "server.crt"))
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new: list[str | Path] = ["req", "-newkey", "rsa:2048", "-nodes"]
    _openssl(*new, "-x509", "-keyout", ca_key, "-out", folder / "ca.pem", "-days", "2", "-subj", "/CN=Test authority")
    _openssl(*new, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    signing: list[str | Path] = [
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        folder / "ca.pem",
        "-CAkey",
        ca_key,
        "-CAcreateserial",
    ]
    _openssl(*signing, "-days", "2", "-extfile", folder / "extensions", "-out", certificate)
    (folder / "server.pem").write_text(key.read_text() + certificate.read_text())


@contextmanager
def token_endpoint(folder: Path, user: str) -> Iterator[str]:
    """The URL of a server that gives anyone a token for a user, with the certificate in the folder."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"access_token": token(user), "token_type": "Bearer", "expires_in": TOKEN_S}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: its log would be the test's."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, name="tokens")
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}/token"
        finally:
            server.shutdown()
            thread.join()


def token(user: str) -> str:
    """A token without signature, as the broker takes it: JSON Web Token, algorithm none."""
    now_s = int(time.time())
    claims = {"sub": user, "iat": now_s, "exp": now_s + TOKEN_S, "scope": []}
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=TOOL_TIMEOUT_S)
