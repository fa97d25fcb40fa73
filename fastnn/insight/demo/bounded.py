"""An HTTP server that slow, broken and many clients cannot keep from answering others."""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any

from fastnn.console import say, shown

__all__ = ["BoundedServer"]


class BoundedServer(ThreadingHTTPServer):
    """One thread a connection, and no more than `most`; whoever takes too long loses the connection.

    Handlers call `wait_for` when they begin to wait for their client, and `work` when they do not.
    """

    patience = 5.0  # seconds in which a request must have come, and an answer must have gone
    idle = 60.0  # seconds that a connection is kept for a next request
    most = 256
    grace = 0.5  # seconds after which a client that is waited for has to go if there is no room

    daemon_threads = True
    request_queue_size = 256  # that the system holds until they are accepted

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(self.most)
        self._waiting: dict[socket.socket, tuple[float, float]] = {}  # since when, and for how long
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def wait_for(self, connection: socket.socket, seconds: float | None = None) -> None:
        """The client has so long, from now on, to send or to take what is due; None: as long as a request may take."""
        with self._lock:
            self._waiting[connection] = time.monotonic(), self.patience if seconds is None else seconds

    def work(self, connection: socket.socket) -> None:
        """The client waits for us."""
        self.wait_for(connection, math.inf)

    def service_actions(self) -> None:
        """Part with clients that are overdue; `serve_forever` calls this all the time."""
        self._part_with(lambda waited, seconds: waited > seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        for _ in range(20):
            if self._room.acquire(timeout=0.1):
                break
            self._part_with(lambda waited, seconds: self.grace < waited and seconds < math.inf)
        else:
            self.shutdown_request(request)
            return
        self.wait_for(request)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line instead of Python's traceback, and nothing about clients that went away."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            say(f"a request was not answered: {type(error).__name__}: {shown(error)}", error=True)

    def server_close(self) -> None:
        super().server_close()
        self._part_with(lambda waited, seconds: True)

    def _leave(self, connection: socket.socket) -> None:
        with self._lock:
            self._waiting.pop(connection, None)
        self._room.release()

    def _part_with(self, has_to_go: Any) -> None:
        now = time.monotonic()
        with self._lock:
            for connection, (since, seconds) in self._waiting.items():
                if has_to_go(now - since, seconds):
                    with contextlib.suppress(OSError):  # it is gone already
                        connection.shutdown(socket.SHUT_RDWR)  # its thread stops waiting
