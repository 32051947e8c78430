"""Runs code for a kernel: commands come in on descriptor 3, events go out on 4, and 5 brings one byte per "flush".

Needs Python 3.8 or newer and nothing but its standard library.
"""
import ast
import asyncio
import base64
import builtins
import getpass
import inspect
import io
import json
import linecache
import os
import re
import signal
import sys
import threading
import traceback
import types

COMMANDS, EVENTS, ACKNOWLEDGED = 3, 4, 5
PID = os.getpid()

for fd in (COMMANDS, EVENTS, ACKNOWLEDGED):
    os.set_inheritable(fd, False)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def send(kind, **fields):
    fields["type"] = kind
    write_all(EVENTS, (json.dumps(fields) + "\n").encode())


class Commands:
    """Lines of JSON, read by the main thread alone."""

    def __init__(self):
        self.rest = b""

    def next(self):
        while b"\n" not in self.rest:
            chunk = os.read(COMMANDS, 65536)
            if not chunk:
                os._exit(0)  # the kernel has ended
            self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)


commands = Commands()


class Output(io.TextIOBase):
    """One of the two streams. Text goes out at once; a change of streams waits until the other has been read."""

    last = None
    lock = threading.RLock()

    def __init__(self, fd):
        self.fd = fd
        self.raw = io.FileIO(fd, "w", closefd=False)

    encoding = "utf-8"
    errors = "replace"

    @property
    def buffer(self):
        return self.raw

    def fileno(self):
        return self.fd

    def writable(self):
        return True

    def isatty(self):
        return False

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        if not text:
            return 0
        with Output.lock:
            if Output.last not in (None, self.fd) and os.getpid() == PID:
                send("flush")
                os.read(ACKNOWLEDGED, 1)
            Output.last = self.fd
            write_all(self.fd, text.encode("utf-8", "replace"))
        return len(text)

    def flush(self):
        pass


stdout, stderr = Output(1), Output(2)


def ask(prompt, password):
    if threading.current_thread() is not threading.main_thread():
        raise EOFError("only the main thread can ask for input")
    if prompt:
        sys.stdout.write(str(prompt))
    sys.stdout.flush()
    send("waiting-input", is_password=password)
    while True:
        command = commands.next()
        if command["op"] == "input":
            return command["text"]


class Input(io.TextIOBase):
    encoding = "utf-8"

    def readable(self):
        return True

    def isatty(self):
        return False

    def readline(self, size=-1):
        return ask("", False) + "\n"

    def read(self, size=-1):
        return self.readline()


def read_line(prompt="", /):
    return ask(prompt, False)


def read_password(prompt="Password: ", stream=None):
    return ask(prompt, True)


main = types.ModuleType("__main__")
main.__dict__.update(__builtins__=builtins, __name__="__main__", __doc__=None)
sys.modules["__main__"] = main
sys.path[0] = ""
sys.argv = [""]

executing = False


def on_interrupt(number, frame):
    if executing:
        raise KeyboardInterrupt


def show(value):
    """What an expression at the end of the code shows."""
    if value is None:
        return
    main.__dict__["_"] = value
    for method, kind in (("_repr_svg_", "image/svg+xml"), ("_repr_png_", "image/png"), ("_repr_jpeg_", "image/jpeg")):
        make = getattr(value, method, None) if not isinstance(value, type) else None
        data = make() if make else None
        if data is not None:
            if isinstance(data, bytes):
                data = "data:%s;base64,%s" % (kind, base64.b64encode(data).decode())
            send("media", data=[kind, data])
            return
    make = getattr(value, "_repr_html_", None) if not isinstance(value, type) else None
    html = make() if make else None
    if html is not None:
        send("html", data=html)
        return
    sys.stdout.write(repr(value) + "\n")


count = 0
loop = None


def evaluate(tree, name, mode):
    code = compile(tree, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    value = eval(code, main.__dict__)
    if code.co_flags & inspect.CO_COROUTINE:
        global loop
        if loop is None or loop.is_closed():
            loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        value = loop.run_until_complete(value)
    return value


def run(code):
    global count, executing
    count += 1
    name = "<input-%d>" % count
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    Output.last = None
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        executing = True
        try:
            body = compile(code, name, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True).body
            last = None
            if body and isinstance(body[-1], ast.Expr) and not code.rstrip().endswith(";"):
                last = ast.Expression(body.pop().value)
            if body:
                evaluate(ast.Module(body, []), name, "exec")
            if last is not None:
                show(evaluate(last, name, "eval"))
        finally:
            executing = False
    except SystemExit as e:
        if e.code is not None and not isinstance(e.code, int):
            stderr.write(str(e.code) + "\n")
    except BaseException as e:
        frames = e.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        stderr.write("".join(traceback.format_exception(type(e), e, frames)))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def complete(text):
    import rlcompleter
    word = re.search(r"[\w.]*$", text).group()
    completer, found = rlcompleter.Completer(main.__dict__), []
    try:
        while len(found) < 200:
            match = completer.complete(word, len(found))
            if match is None:
                break
            found.append(match)
    except Exception:
        pass
    return found


def serve():
    sys.stdin, sys.stdout, sys.stderr = Input(), stdout, stderr
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, stdout, stderr
    builtins.input = read_line
    getpass.getpass = read_password
    signal.signal(signal.SIGINT, on_interrupt)
    send("ready")
    while True:
        command = commands.next()
        if command["op"] == "code":
            run(command["code"])
            send("finished", exitCode=0)
        elif command["op"] == "complete":
            send("completion", completions=complete(command["code"]))


serve()
