#!/usr/bin/env python3
"""A merge on many nodes with Ray: plans it, does the tasks of one stage after the other, and joins.

    python3 scripts/ray_job.py MASTER.snapshot s3://backups/jobs --archive s3://backups/qdrant archive:a archive:b

The first word is the master; the others are those of `snapmerge job plan`. Every node has `snapmerge` on its PATH and
reaches the store and the archive. RAY_ADDRESS names a cluster (KubeRay sets it); without one Ray starts here.
"""

import json
import subprocess
import sys

import ray

# These end so again (`snapmerge help exit-codes`); all else may go away.
FINAL = {2, 10, 12, 13}
RETRIES = 3


class Retry(Exception):
    """A task that may succeed when it is done again."""


@ray.remote(max_retries=RETRIES, retry_exceptions=[Retry])
def task(job, stage, index):
    words = ["snapmerge", "job", "task", job, "--stage", stage, "--index", str(index), "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode == 0 or done.returncode in FINAL:
        return done.returncode, done.stderr
    raise Retry(f"task {index} of {stage} ended with {done.returncode}: {done.stderr}")


def main(master, plan):
    planned = subprocess.run(["snapmerge", "job", "plan", *plan, "--json"], stdout=subprocess.PIPE)
    # 3: planned, but a source lacks something, and --allow-incomplete was given.
    if planned.returncode not in (0, 3):
        return planned.returncode
    planned = json.loads(planned.stdout)
    job = planned["job"]
    ray.init(log_to_driver=False)
    for stage in planned["stages"]:
        name, tasks = stage["stage"], len(stage["tasks"])
        print(f"{job}: {tasks} tasks of the stage {name}", flush=True)
        waiting = [task.remote(job, name, index) for index in range(tasks)]
        while waiting:
            done, waiting = ray.wait(waiting)
            code, why = ray.get(done[0])
            if code != 0:
                print(why, file=sys.stderr)
                return code
    return subprocess.run(["snapmerge", "job", "join", job, "-o", master]).returncode


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
