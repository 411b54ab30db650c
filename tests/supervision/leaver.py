"""Leaves seven kinds of processes behind, as an agent's shell may: `leaver.py DIRECTORY`; standard library only.

Each kind writes to `DIRECTORY/KIND.beat` for as long as it lives, until there is a file `stop`: looking for processes
misses one that moves (the hopper), looking at its heart does not.
"""

import os
import subprocess
import sys

KINDS = ("child", "group", "session", "daemon", "bare-daemon", "nohup", "hopper")
ROOTLESS = ("bare-daemon", "hopper")
"""kinds without environment and ancestors: only their supervisor can find them"""

BEAT = """
import os, signal, sys, time
place, kind = sys.argv[1:]
for number in (signal.SIGHUP, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
count = 0
while not os.path.exists(place + "/stop"):
    count += 1
    with open(f"{place}/{kind}.beat", "w") as file: file.write(str(count))
    time.sleep(0.02)
"""
HOP = """
import os, sys, time
place, kind = sys.argv[1:]
file = os.open(f"{place}/{kind}.beat", os.O_CREAT | os.O_WRONLY, 0o600)
while not os.path.exists(place + "/stop"):
    time.sleep(0.002)
    if os.fork(): os._exit(0)
    os.setsid()
    os.pwrite(file, str(os.getpid()).ljust(12).encode(), 0)
"""


def _daemon(argv: list[str], environment: dict[str, str]) -> None:
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, 256)
    os.execve(argv[0], argv, environment)


def main(place: str) -> None:
    """Leave one of each kind behind, with none of our pipes in its hands."""
    own, null = dict(os.environ), subprocess.DEVNULL

    def beating(kind: str, code: str = BEAT) -> list[str]:
        return [sys.executable, "-S", "-c", code, place, kind]

    subprocess.Popen(beating("child"), stdin=null, stdout=null, stderr=null)
    subprocess.Popen(beating("group"), stdin=null, stdout=null, stderr=null, process_group=0)
    subprocess.Popen(beating("session"), stdin=null, stdout=null, stderr=null, start_new_session=True)
    _daemon(beating("daemon"), own)
    _daemon(beating("bare-daemon"), {})
    words = ["bash", "-c", 'nohup setsid "$@" > /dev/null 2>&1 < /dev/null & disown', "x", *beating("nohup")]
    subprocess.run(words, check=True)
    _daemon(beating("hopper", HOP), {})


if __name__ == "__main__":
    main(sys.argv[1])
