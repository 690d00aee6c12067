"""A tiny service for tests of the runner: writes the ready file, answers /ready, and fails in the ways it is told.

python fake_service.py READY_FILE [die_at_start CODE] [die_after SECONDS CODE] [die_once FLAG] [deaf] [silent]
    [heir PID_FILE]
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

asked = threading.Event()


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
        asked.set()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    ready_file, words = sys.argv[1], sys.argv[2:]
    print("hello from the fake service", flush=True)
    if "die_at_start" in words:
        print("setting port: 'x' is no number", flush=True)
        sys.exit(int(words[words.index("die_at_start") + 1]))
    if "die_once" in words:
        flag = words[words.index("die_once") + 1]
        if not os.path.exists(flag):
            open(flag, "w").close()
            print("the first time it dies", flush=True)
            sys.exit(7)
    if "heir" in words:
        heir = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(words[words.index("heir") + 1], "w") as file:
            file.write(str(heir.pid))
    stopped = threading.Event()
    if "deaf" in words:
        signal.signal(signal.SIGTERM, lambda *_: print("not listening", flush=True))
    else:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = HTTPServer(("127.0.0.1", 0), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if "silent" not in words:
        facts = {
            "service": "fake",
            "instance": "fake-1",
            "http_url": f"http://127.0.0.1:{server.server_port}",
            "pid": os.getpid(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith(("OPSBUS", "NATS"))},
        }
        with open(ready_file + ".part", "w") as file:
            json.dump(facts, file)
        os.replace(ready_file + ".part", ready_file)
    if "die_after" in words:
        at = words.index("die_after")
        asked.wait()
        time.sleep(float(words[at + 1]))
        print("out of luck", flush=True)
        sys.exit(int(words[at + 2]))
    stopped.wait()
    print("drained", flush=True)


if __name__ == "__main__":
    main()
