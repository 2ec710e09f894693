"""An application on a device: callers that ask the service for inference, one request after the other, until SIGTERM.

    python3 asking.py AGENT.pyz SOCKET CALLERS PAUSE_S REPORT GOLDEN.npz...

Runs on the device's own Python, as an ordinary user.  Each caller asks with the inputs of one golden and compares the answer.
REPORT holds the counts so far, as JSON; `asked` is written down before a request is sent, so that none can be lost unseen.
"""

import collections
import json
import os
import signal
import sys
import threading
import time

AGENT, SOCKET, CALLERS, PAUSE_S, REPORT = sys.argv[1:6]
sys.path.insert(0, AGENT)

from litefleet_agent.client import Client, ServiceError  # noqa: E402
from litefleet_agent.formats.npz import read_npz  # noqa: E402
from litefleet_agent.verification.compare import compare, default_tolerance  # noqa: E402

TIMEOUT_S = 60.0
CLOSE = default_tolerance("fp32")


class Counts:
    """What became of the requests."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = self.answered = self.wrong = 0
        self.releases = collections.Counter()
        self.errors = collections.Counter()
        self.said = {}
        self.longest_s = 0.0

    def ask(self):
        with self.lock:
            self.asked += 1
        return time.monotonic()

    def told(self, begun, release, right):
        with self.lock:
            self.answered += 1
            self.wrong += not right
            self.releases[release] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - begun)

    def refused(self, begun, error):
        with self.lock:
            self.errors[error.code] += 1
            self.said[error.code] = str(error)
            self.longest_s = max(self.longest_s, time.monotonic() - begun)

    def write(self):
        with self.lock:
            told = {name: value for name, value in vars(self).items() if name != "lock"}
            text = json.dumps(told)
        with open(REPORT + ".new", "w") as file:
            file.write(text)
        os.replace(REPORT + ".new", REPORT)


def caller(golden, counts, stop):
    with open(golden, "rb") as file:
        arrays = read_npz(file.read())
    given = {"x": arrays.pop("x")}
    with Client(SOCKET, TIMEOUT_S) as client:
        while not stop.is_set():
            begun = counts.ask()
            try:
                result = client.infer("cls", given)
            except ServiceError as error:
                counts.refused(begun, error)
            else:
                right = all(compare(arrays[n], v, CLOSE).ok for n, v in result.outputs.items())
                counts.told(begun, result.release, right)
            stop.wait(float(PAUSE_S))


def main():
    counts, stop = Counts(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    goldens = sys.argv[6:]
    threads = [
        threading.Thread(target=caller, args=(goldens[n % len(goldens)], counts, stop)) for n in range(int(CALLERS))
    ]
    for thread in threads:
        thread.start()
    while not stop.is_set():
        counts.write()
        stop.wait(0.1)
    for thread in threads:
        thread.join()
    counts.write()


if __name__ == "__main__":
    main()
