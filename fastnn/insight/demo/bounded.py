"""HTTP server that slow, broken or numerous clients cannot block."""

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
    """Serves each connection in a thread, at most `most` at a time, and closes connections that take too long.

    Handlers call `wait_for` when they begin to wait for their client, and `work` when they stop waiting.
    """

    patience = 5.0  # seconds for receiving a request, and for sending an answer
    idle = 60.0  # seconds that a connection is kept for a next request
    most = 256
    grace = 0.5  # seconds of waiting after which a connection may be closed to make room for another

    daemon_threads = True
    request_queue_size = 256  # connections that the system queues until they are accepted

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(self.most)
        self._waiting: dict[socket.socket, tuple[float, float]] = {}  # start of the wait, and its limit
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def wait_for(self, connection: socket.socket, seconds: float | None = None) -> None:
        """Gives the client this many seconds from now to send or receive; None: `patience`."""
        with self._lock:
            self._waiting[connection] = time.monotonic(), self.patience if seconds is None else seconds

    def work(self, connection: socket.socket) -> None:
        """Sets no time limit: the client is waiting for the server."""
        self.wait_for(connection, math.inf)

    def service_actions(self) -> None:
        """Closes connections that have timed out; `serve_forever` calls this at every poll."""
        self._close_if(lambda waited, seconds: waited > seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        for _ in range(20):
            if self._room.acquire(timeout=0.1):
                break
            self._close_if(lambda waited, seconds: self.grace < waited and seconds < math.inf)
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
        """Prints one line instead of a traceback, and nothing for clients that disconnected."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            say(f"a request was not answered: {type(error).__name__}: {shown(error)}", error=True)

    def server_close(self) -> None:
        super().server_close()
        self._close_if(lambda waited, seconds: True)

    def _leave(self, connection: socket.socket) -> None:
        with self._lock:
            self._waiting.pop(connection, None)
        self._room.release()

    def _close_if(self, expired: Any) -> None:
        now = time.monotonic()
        with self._lock:
            for connection, (since, seconds) in self._waiting.items():
                if expired(now - since, seconds):
                    with contextlib.suppress(OSError):  # already closed
                        connection.shutdown(socket.SHUT_RDWR)  # ends the wait of its thread
