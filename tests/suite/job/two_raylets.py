"""Runs a driver on two raylets of this machine, and ends the second while a task is under way on it.

    python3 two_raylets.py FOLDER PYTHON DRIVER WORD...

`snapmerge` on the PATH of the tasks says in FOLDER where it is at work, as `task-NODE-PID`, and goes on once
FOLDER/go is there.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

LIMIT_S = 180


def wait_for(folder, pattern, driver):
    until = time.monotonic() + LIMIT_S
    while not list(folder.glob(pattern)):
        if driver.poll() is not None or time.monotonic() > until:
            driver.kill()
            sys.exit(f"no {pattern} came")
        time.sleep(0.05)


def end(process):
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main(folder, words):
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "env_vars": {"TEST_NODE": "first"}},
    )
    second = cluster.add_node(num_cpus=1, env_vars={"TEST_NODE": "second"})
    cluster.wait_for_nodes()
    driver = subprocess.Popen(words, env={**os.environ, "RAY_ADDRESS": cluster.address})
    wait_for(folder, "task-first-*", driver)
    wait_for(folder, "task-second-*", driver)
    cluster.remove_node(second, allow_graceful=False)
    # Its worker outlives it for a moment, and could still say that the task is done: with a machine all ends.
    for mark in folder.glob("task-second-*"):
        task = int(mark.name.rsplit("-", 1)[1])
        stat = Path(f"/proc/{task}/stat")
        if not stat.exists():
            continue
        stat = stat.read_text()
        for process in (int(stat.rsplit(")", 1)[1].split()[1]), task):
            end(process)
    print("the second raylet was ended", flush=True)
    (folder / "go").touch()
    code = driver.wait(LIMIT_S)
    cluster.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
