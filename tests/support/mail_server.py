"""A mail server on a free loopback port: SMTP with STARTTLS or TLS and a login, which refuses what it is told to."""

import base64
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple, Self, cast

WAIT_S = 20.0


class Delivered(NamedTuple):
    """A mail that the server has taken: from and to as SMTP had them."""

    sender: str
    receivers: list[str]
    mail: EmailMessage
    is_encrypted: bool
    user: str | None


class MailServer:
    """The server; a context manager.

    `says`: what it answers to a line that begins so, such as `{"DATA": "452 full"}`; "hang" for no answer.
    `certificate`: a file with key and certificate; `is_tls`: encrypted from the beginning.
    """

    def __init__(self, certificate: Path | None = None, *, is_tls: bool = False, login: tuple[str, str] | None = None):
        self.mails: list[Delivered] = []
        self.says: dict[str, str] = {}
        self.login = login
        self.context: ssl.SSLContext | None = None
        self.is_tls = is_tls
        self.released = threading.Event()
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Conversation)
        self._server.mail_server = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="mail-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.released.set()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    def table(self, **changes: object) -> Mapping[str, object]:
        """The settings of mail for this server."""
        table = {"host": "localhost", "port": self.port, "from": "monitor@example.org", "to": ["a@example.org"]}
        return {**table, "tls": "none", "timeout_s": 20, **changes}


class _Server(ThreadingTCPServer):
    daemon_threads = False
    mail_server: MailServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that does not trust the certificate has gone."""


class _Conversation(StreamRequestHandler):
    server: _Server

    def setup(self) -> None:
        self.is_encrypted, self.user = False, cast(str | None, None)
        self.request.settimeout(WAIT_S)
        if self.server.mail_server.is_tls:
            self._encrypt()
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def handle(self) -> None:
        sender, receivers = "", list[str]()
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(maxsplit=1)[0].upper()
            says = self.server.mail_server.says
            scripted = next((text for begin, text in says.items() if line.upper().startswith(begin.upper())), None)
            if scripted == "hang":
                self.server.mail_server.released.wait(WAIT_S)
                return
            if scripted is not None:
                self._say(scripted)
            elif verb == "EHLO":
                self._say(*self._features())
            elif verb == "STARTTLS":
                self._say("220 go ahead")
                self._encrypt()
                super().setup()
            elif verb == "AUTH":
                self._authenticate(line)
            elif verb == "MAIL":
                sender = line[line.index("<") + 1 : line.index(">")]
                self._say("250 ok")
            elif verb == "RCPT":
                receivers.append(line[line.index("<") + 1 : line.index(">")])
                self._say("250 ok")
            elif verb == "DATA":
                self._take(sender, receivers)
                receivers = []
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _features(self) -> list[str]:
        server = self.server.mail_server
        lines = ["250-localhost"]
        if server.context is not None and not self.is_encrypted:
            lines.append("250-STARTTLS")
        if server.login is not None:
            lines.append("250-AUTH PLAIN")
        return [*lines, "250 8BITMIME"]

    def _authenticate(self, line: str) -> None:
        _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
        if (user, password) == self.server.mail_server.login:
            self.user = user
            self._say("235 welcome")
        else:
            self._say(f"535 no such login: {password}")

    def _take(self, sender: str, receivers: list[str]) -> None:
        self._say("354 go on")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        self.server.mail_server.mails.append(Delivered(sender, list(receivers), mail, self.is_encrypted, self.user))
        self._say("250 taken")

    def _encrypt(self) -> None:
        context = self.server.mail_server.context
        assert context is not None, "it has a certificate"
        self.request = context.wrap_socket(self.request, server_side=True)
        self.is_encrypted = True

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


def drip_server() -> "tuple[socket.socket, threading.Thread]":
    """A listener whose greeting never ends, a byte at a time; it ends when the client has gone."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            end_s = time.monotonic() + WAIT_S
            try:
                while time.monotonic() < end_s:
                    connection.sendall(b"2")
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=drip, name="drip", daemon=True)
    thread.start()
    return listener, thread
