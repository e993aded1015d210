"""A step that takes milliseconds: it counts, saves every count, and leaves a digest of its name and what feeds it.

python toy_step.py NAME FOLDER COUNTS FAILS [FOLDER-OF-WHAT-FEEDS-IT ...]; nothing but what Python itself brings.
"""

import hashlib
import json
import os
import signal
import sys
import time


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path + ".partial", "w") as file:
        file.write(text)
    os.rename(path + ".partial", path)


def main(name: str, folder: str, counts: str, fails: str, *fed_by: str) -> int:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    os.makedirs(f"{folder}/export", exist_ok=True)
    print(f"{name} reads {len(fed_by)} of {os.environ.get('OMP_NUM_THREADS')}", flush=True)
    text = name + "".join(read(f"{other}/export/out.txt") for other in fed_by)
    saved = f"{folder}/count"
    count = int(read(saved)) if os.path.exists(saved) else 0
    if fails == "always" or (fails == "once" and not os.path.exists(f"{folder}/failed")):
        time.sleep(0.05)
        write(f"{folder}/failed", "")
        print(f"dsm: {name}: wrong; allowed: right", file=sys.stderr, flush=True)
        return 2
    while count < int(counts):
        if told:
            print(f"saved at {count}", flush=True)
            return 128 + told[0]
        time.sleep(0.01)
        count += 1
        write(saved, str(count))
        print(f"counted {count} of {counts}", flush=True)
    write(f"{folder}/export/out.txt", hashlib.sha256(text.encode()).hexdigest())
    write(f"{folder}/metrics.json", json.dumps({"count": count}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
