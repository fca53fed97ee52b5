"""A server of files on this machine, some of which it serves badly."""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Badly(SimpleHTTPRequestHandler):
    """Files of a folder. `short.npz` is promised longer than it is, `chunked.npz` ends amid a chunk, what answers for
    `nonsense.npz` speaks no HTTP, and `slow.npz` takes a while."""

    asked: list[str]
    """Every path that was asked for."""

    def __init__(self, *words: Any, asked: list[str], **more: Any) -> None:
        self.asked = asked
        super().__init__(*words, **more)

    def log_message(self, *words: Any) -> None:
        pass

    def send_header(self, keyword: str, value: str) -> None:
        longer = keyword == "Content-Length" and self.path == "/short.npz"
        super().send_header(keyword, str(int(value) + 10) if longer else value)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/nonsense.npz":
            self.wfile.write(b"welcome\r\n\r\n")
        elif self.path == "/chunked.npz":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nfew bytes")
        else:
            time.sleep(0.5 if self.path == "/slow.npz" else 0)
            super().do_GET()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Within: the address at which the files of `folder` are served, and what is asked for there."""
    asked: list[str] = []
    of = functools.partial(Badly, directory=str(folder), asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), of) as at_work:
        thread = threading.Thread(target=at_work.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{at_work.server_port}", asked
        at_work.shutdown()
        thread.join()
