"""A process that has loaded PyTorch and numba and forks the commands of a workflow's jobs.

Loading takes seconds, as long as training a small model does. The server loads once and runs no
kernel itself: no thread stands in the way of a fork. A command hands its arguments, environment,
directory, and open files to it (`submit`) and waits; the forked process is alone with its memory,
its end and its exit status, as one that was started. A command that the server would not run as it
would run itself, in another environment or of another installation, runs by itself.
"""

import contextlib
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SOCKET = "RECLOSS_FORKSERVER"  # the environment variable that says where the server listens
FLAG = "--forkserver"
# Variables that libraries read while they are loaded, or that name a cluster's job, whose limits
# hold for what it starts.
_COMPARED = ("OMP_", "GOMP_", "KMP_", "GOTO_", "OPENBLAS_", "MKL_", "VECLIB_", "NUMEXPR_")
_COMPARED += ("NUMBA_", "TORCH", "PYTORCH_", "TRITON_", "CUDA_", "PYTHON", "LD_", "MALLOC_")
_COMPARED += ("LANG", "LC_", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ACCEPTED = b"+"


def start(environment: dict[str, str]) -> subprocess.Popen | None:
    """Start a server for the children of this process; on Linux, elsewhere there is none.

    environment: variables that the commands will have beside those of this process. The server ends
    as its standard input is closed, at the latest with this process.
    """
    if sys.platform != "linux":
        return None
    try:
        path = Path(tempfile.mkdtemp(prefix="recloss-")) / "socket"
    except OSError:  # no folder for temporary files is writable
        return None
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
        except OSError:  # a TMPDIR too long for the path of a socket
            path.parent.rmdir()
            return None
        listener.listen(128)  # commands that come while it loads wait here
        command = [sys.executable, "-m", "recloss", FLAG, str(listener.fileno())]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            **quiet,
            env=os.environ | environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the commands, which pass it on
        )
    os.environ[SOCKET] = str(path)
    return server


# The server


def serve(number: int, main: Callable[[list[str]], None]) -> None:
    """Load, then fork `main` for every command until the standard input ends.

    number: of the file descriptor that listens.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever waits for a command hears it from it
    listener = socket.socket(fileno=number)
    _load()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while 0 not in (ready := [key.fd for key, _ in selector.select()]):
            if ready:
                connection, _ = listener.accept()
                with connection:
                    _fork(connection, main)
    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)


def _load() -> None:
    with contextlib.suppress(Exception):  # the command that needs it says what is wrong
        import jsonschema  # noqa: F401
        import numba

        import recloss.engine.kernels.cpu
        import recloss.train  # noqa: F401
        from recloss.experiment.code import code_hash

        numba.njit(lambda: None)()  # at its first call it loads what it has for all functions
        code_hash("recloss.cli.train")  # of each file it keeps what that imports
    gc.freeze()  # what the forked share, no collection copies


def _fork(connection: socket.socket, main: Callable[[list[str]], None]) -> None:
    """Fork the command that asks at `connection`, if it would run as here."""
    connection.settimeout(10)
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        asked = json.loads(connection.makefile().readline())
    except (OSError, ValueError):
        return
    if asked["here"] == _here() and os.fork() == 0:
        connection.settimeout(None)
        _run(connection, files, asked, main)
    for file in files:
        os.close(file)


def _here() -> list[Any]:
    """Return what this process is loaded from."""
    read = {k: v for k, v in os.environ.items() if k.startswith(_COMPARED)}
    return [sys.prefix, __file__, read]


def _run(
    connection: socket.socket,
    files: list[int],
    asked: dict[str, Any],
    main: Callable[[list[str]], None],
) -> None:
    """Be the process of the command, to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _FORWARDED:
        handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, handler if number in asked["forwards"] else signal.SIG_IGN)
    for wanted, file in enumerate(files):
        os.dup2(file, wanted)
        os.close(file)
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    threading.Thread(target=_obey, args=[connection], daemon=True).start()
    connection.sendall(_ACCEPTED)
    status = 1
    try:
        main(asked["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
        status = int(status is not None) if not isinstance(status, int) else status
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status]))
    os._exit(status)


def _obey(connection: socket.socket) -> None:
    """Take the signals that the command's caller gets; end if there is none any more."""
    with contextlib.suppress(OSError):
        while number := connection.recv(1):
            os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGKILL)


# The command


def submit(arguments: list[str]) -> int | None:
    """Let the server run a command; return its exit status, or None where no server does."""
    if SOCKET not in os.environ:
        return None
    # What this process ignores, as by nohup, the other one does too.
    forwards = [each for each in _FORWARDED if signal.getsignal(each) != signal.SIG_IGN]
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[SOCKET])
            socket.send_fds(connection, [b" "], [0, 1, 2])
            asked = {
                "arguments": arguments,
                "directory": os.getcwd(),
                "environment": dict(os.environ),
                "here": _here(),
                "forwards": forwards,
            }
            connection.sendall(json.dumps(asked).encode() + b"\n")
            if connection.recv(1) != _ACCEPTED:
                return None
        except OSError:
            return None
        with _forwarding(connection, forwards) as caught:
            status = connection.recv(1)
    if status:
        return status[0]
    if caught:
        os.kill(os.getpid(), caught[-1])  # of which the other process died
    print("error: the process was killed, as it is where memory runs out", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _forwarding(connection: socket.socket, numbers: list[int]) -> Iterator[list[int]]:
    """Pass signals on to the process that runs the command; yield those so far."""
    caught: list[int] = []

    def forward(number: int, _: Any) -> None:
        caught.append(number)
        with contextlib.suppress(OSError):
            connection.sendall(bytes([number]))

    for each in numbers:
        signal.signal(each, forward)
    yield caught
    for each in numbers:
        signal.signal(each, signal.SIG_DFL)
