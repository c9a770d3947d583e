"""What the tests of the data share: the photographs, if they are there, and a web server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facehall_env.data import lfw


@dataclass
class Server:
    """A web server on this machine that serves ``files`` and remembers who asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    user_agents: list[str] = field(default_factory=list)
    cut_after: int | None = None


@pytest.fixture
def server() -> Iterator[Server]:
    """Refuses clients that do not look like a browser; can break off in the middle."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agent = self.headers.get("User-Agent", "")
            state.user_agents.append(agent)
            body = state.files.get(self.path)
            if not agent.startswith("Mozilla/"):
                self.send_error(403)
            elif body is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: state.cut_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The directory that holds LFW and its official lists."""
    here = Path(__file__).resolve().parents[3]
    given = os.environ.get("FACEHALL_DATA", here.parent / "shared" / "data")
    place = Path(given).expanduser()
    if lfw.find(place) is None:
        pytest.skip(f"no LFW photographs below {place}; set FACEHALL_DATA to where they are")
    return place


@pytest.fixture
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data directory, and an empty cache, which is returned."""
    monkeypatch.delenv("FACEHALL_DATA", raising=False)
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
