#!/usr/bin/env python3
"""Many pretended Backend.AI 22.03 agents in one process, to drive a manager without containers.

Each agent binds a ZeroMQ ROUTER socket, answers the agent RPC (two MessagePack frames, see
the protocol of 22.03), sends heartbeats and kernel events through the Redis stream
and registers in etcd.  Works with the original manager and with ours.  Needs only pyzmq and msgpack.

    fake_agent.py --etcd 127.0.0.1:8120 --agents 10 --cpu 64 --mem 256g --slot cuda.shares=8
    fake_agent.py ... --create-delay 0.5:2 --fail-create 0.01 --tap frames.jsonl --control 127.0.0.1:7700

Every --report seconds and at the end one JSON line of counters goes to stdout.
The agents keep their own books: `overcommits` counts kernels that were put on an agent beyond its
slots (a double allocation by the manager) and `duplicates` creations of a kernel id that already runs.

The control port takes one JSON object a line and answers one:
    {"do": "stats"} | {"do": "kernels"}                     counters; running kernels by agent
    {"do": "pause", "agent": ID} / "resume"                 no heartbeats and no answers, as a hung host
    {"do": "stop", "agent": ID} / "start"                   orderly end (agent_terminated) and rejoin
    {"do": "crash", "agent": ID}                            socket closed, kernels forgotten, no event
    {"do": "kill", "kernel": ID, "reason": TEXT}            the container ends by itself
    {"do": "set", "create_delay": [0, 1], "fail_create": 0.1}
    {"do": "flush"}                                         repeat kernel_terminated for all known ended kernels
"""
from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import secrets
import signal
import struct
import sys
import tarfile
import time
import traceback
import urllib.error
import urllib.request
from decimal import Decimal, ROUND_DOWN

import msgpack
import zmq
import zmq.asyncio

FUNCTION, RESULT, FAILURE, ERROR, CANCEL, CANCELLED = 1, 2, 3, 4, 5, 6
DB_STAT, DB_STREAM = 0, 4
VERSION = "22.03.14"


# ---- small codecs -----------------------------------------------------------------------------

def pack(value) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def unpack(data: bytes):
    return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def snappy_encode(data: bytes) -> bytes:
    """A legal snappy block that holds only literals."""
    out, n = bytearray(), len(data)
    while True:
        out.append((n & 0x7F) | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            break
    for at in range(0, len(data), 60):
        piece = data[at:at + 60]
        out.append((len(piece) - 1) << 2)
        out += piece
    return bytes(out)


def snappy_decode(data: bytes) -> bytes:
    size, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(data[at:at + extra], "little") + 1
                at += extra
            out += data[at:at + length]
            at += length
            continue
        if kind == 1:
            length, offset = ((tag >> 2) & 7) + 4, ((tag >> 5) << 8) | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(data[at:at + width], "little")
            at += width
        for _ in range(length):
            out.append(out[-offset])
    if len(out) != size:
        raise ValueError("snappy: wrong length")
    return bytes(out)


def parse_size(text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
    text = text.strip().lower()
    if text and text[-1] in units:
        return int(Decimal(text[:-1]) * (1 << units[text[-1]]))
    return int(text)


def parse_range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    return float(low), float(high or low)


# ---- Redis and etcd -----------------------------------------------------------------------------

class Redis:
    """One pipelined connection; replies are only checked for errors, unless asked for."""

    def __init__(self, addr: str, password: str | None, db: int):
        self.host, port = addr.rsplit(":", 1)
        self.port, self.password, self.db = int(port), password, db
        self.waiting: list[asyncio.Future | None] = []
        self.writer = None
        self.errors = 0
        self.down = asyncio.Event()

    async def open(self):
        reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.waiting.clear()
        self.pump_task = asyncio.create_task(self._pump(reader, self.waiting))
        if self.password:
            self.send("AUTH", self.password)
        self.send("SELECT", self.db)

    def send(self, *args, want: asyncio.Future | None = None):
        parts = [b"*%d\r\n" % len(args)]
        for a in args:
            b = a if isinstance(a, bytes) else str(a).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(b), b))
        if self.writer is None or self.writer.is_closing():
            self.errors += 1
            return
        self.waiting.append(want)
        self.writer.write(b"".join(parts))

    async def call(self, *args):
        fut = asyncio.get_running_loop().create_future()
        self.send(*args, want=fut)
        return await fut

    async def _read(self, reader):
        line = (await reader.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            self.errors += 1
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else (await reader.readexactly(n + 2))[:-2]
        n = int(rest)
        return None if n < 0 else [await self._read(reader) for _ in range(n)]

    async def _pump(self, reader, waiting):
        try:
            while True:
                reply = await self._read(reader)
                fut = waiting.pop(0) if waiting else None
                if fut and not fut.done():
                    fut.set_result(reply)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            self.writer = None
            await asyncio.sleep(0.3)
            while True:
                try:
                    await self.open()
                    return
                except OSError:
                    await asyncio.sleep(0.5)


class Etcd:
    """The few calls needed, through etcd's JSON gateway."""

    def __init__(self, addr: str, namespace: str):
        self.base, self.prefix = f"http://{addr}/v3/kv/", f"/sorna/{namespace}/"

    def _post(self, what: str, body: dict) -> dict:
        req = urllib.request.Request(self.base + what, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
        with urllib.request.urlopen(req, timeout=5) as answer:
            return json.load(answer)

    @staticmethod
    def _b64(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    def put(self, key: str, value: str):
        self._post("put", {"key": self._b64(self.prefix + key), "value": self._b64(value)})

    def get(self, key: str) -> str | None:
        kvs = self._post("range", {"key": self._b64(self.prefix + key)}).get("kvs")
        return base64.b64decode(kvs[0].get("value", "")).decode() if kvs else None

    def any_below(self, prefix: str) -> bool:
        start = self.prefix + prefix
        end = start[:-1] + chr(ord(start[-1]) + 1)
        return bool(self._post("range", {"key": self._b64(start), "range_end": self._b64(end), "limit": 1}).get("kvs"))


# ---- one kernel, one agent ---------------------------------------------------------------------

class Kernel:
    def __init__(self, kid: str, sid: str, cid: str, config: dict, cluster: dict):
        self.id, self.session, self.creation, self.config, self.cluster = kid, sid, cid, config, cluster
        self.container = secrets.token_hex(32)
        self.slots = {k: Decimal(v) for k, v in config["resource_slots"].items()}
        self.files: dict[str, bytes] = {}
        self.log = b"fake container log of " + kid.encode() + b"\n"
        self.service_ports: list[dict] = []
        self.repl_ports = (0, 0)
        self.servers: list[asyncio.AbstractServer] = []
        self.jobs: list[asyncio.Task] = []
        self.started_at = time.time()
        self.cpu_ms = 0
        self.ending = False


class AgentError(Exception):
    pass


class InsufficientResource(Exception):
    pass


class Agent:
    def __init__(self, world: "World", index: int):
        o = world.o
        self.world, self.o = world, o
        self.id = f"{o.id_prefix}{index:03d}" if o.agents > 1 or o.always_number else o.id_prefix.rstrip("-")
        self.port = o.base_port + index
        self.addr = f"tcp://{o.host}:{self.port}"
        self.capacity = {"cpu": Decimal(o.cpu), "mem": Decimal(parse_size(o.mem))}
        self.units = {"cpu": "count", "mem": "bytes"}
        for item in o.slot:
            name, _, amount = item.partition("=")
            amount, _, unit = amount.partition(":")
            self.units[name] = unit or ("bytes" if "mem" in name else "count")
            self.capacity[name] = Decimal(parse_size(amount))
        self.kernels: dict[str, Kernel] = {}
        self.used = {name: Decimal(0) for name in self.capacity}
        self.next_port = 30000
        self.sock = None
        self.tasks: list[asyncio.Task] = []
        self.paused = False
        self.scaling_group = o.scaling_group
        self.send_lock = asyncio.Lock()

    # -- life --

    async def start(self):
        self.sock = self.world.ctx.socket(zmq.ROUTER)
        self.sock.setsockopt(zmq.LINGER, 100)
        self.sock.setsockopt(zmq.SNDHWM, 100000)
        self.sock.setsockopt(zmq.RCVHWM, 100000)
        self.sock.bind(self.addr)
        if self.world.etcd:
            await asyncio.to_thread(self._register)
        self.tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._heartbeats())]
        if self.o.stats:
            self.tasks.append(asyncio.create_task(self._statistics()))
        self.event("agent_started", ["self-started"])

    def _register(self):
        etcd = self.world.etcd
        etcd.put(f"nodes/agents/{self.id}/ip", self.o.host)
        etcd.put(f"nodes/agents/{self.id}/", "running")

    async def stop(self, event: bool = True):
        for t in self.tasks:
            t.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []
        for k in self.kernels.values():
            self._close(k)
        if event:
            self.event("agent_terminated", ["shutdown"])
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def event(self, name: str, args: list):
        w = self.world
        w.count("event." + name)
        payload = pack(args)
        w.stream.send("XADD", "events", "*", "name", name, "source", self.id, "args", payload)
        w.tap({"dir": "event", "source": self.id, "name": name, "args": args, "args_hex": payload.hex()},
              quiet=name == "agent_heartbeat")

    def heartbeat(self) -> dict:
        return {
            "ip": self.o.host,
            "region": self.o.region,
            "scaling_group": self.scaling_group,
            "addr": self.addr,
            "resource_slots": {n: [self.units[n], str(a)] for n, a in self.capacity.items()},
            "version": VERSION,
            "compute_plugins": {
                "cpu": {"version": VERSION, "agent_version": VERSION, "machine": "x86_64", "os_type": "Linux"},
                "mem": {"version": VERSION},
            },
            "images": snappy_encode(pack([[i, "sha256:" + "0" * 64] for i in self.o.image])),
            "architecture": self.o.architecture,
        }

    async def _heartbeats(self):
        await asyncio.sleep(random.random() * min(1.0, self.o.heartbeat))
        while True:
            if not self.paused:
                self.event("agent_heartbeat", [self.heartbeat()])
            await asyncio.sleep(self.o.heartbeat)

    async def _statistics(self):
        await asyncio.sleep(random.random() * 5)
        while True:
            if not self.paused:
                self._push_statistics()
            await asyncio.sleep(5)

    def _push_statistics(self):
        def metric(current, capacity, pct, unit, **stats):
            m = {"current": str(current), "capacity": None if capacity is None else str(capacity),
                 "pct": None if pct is None else str(pct), "unit_hint": unit}
            m.update({"stats." + k: str(v) for k, v in stats.items()})
            return m
        redis = self.world.stat
        cpu_pct, mem = random.randint(1, 90), int(self.used["mem"] / 2)
        node = {
            "node": {"cpu_util": metric(cpu_pct * 50, 5000, cpu_pct, "msec"),
                     "mem": metric(mem, int(self.capacity["mem"]), round(100 * mem / max(1, int(self.capacity["mem"])), 2), "bytes", max=mem)},
            "devices": {"cpu_util": {"0": metric(cpu_pct * 50, 5000, cpu_pct, "msec")},
                        "mem": {"root": metric(mem, int(self.capacity["mem"]), "1", "bytes", max=mem)}},
        }
        redis.send("SET", self.id, pack(node), "EX", 120)
        live = [k for k in self.kernels.values() if not k.ending]
        for k in live:
            k.cpu_ms += 50
            half = int(k.slots.get("mem", 0) / 2)
            redis.send("SET", k.id, pack({
                "cpu_util": metric(10, 1000, 1, "percent", avg=10, max=20),
                "cpu_used": metric(k.cpu_ms, k.cpu_ms, 100, "msec"),
                "mem": metric(half, half, 100, "bytes", max=half),
                "io_read": metric(4096, 4096, 100, "bytes", rate=0),
                "io_write": metric(4096, 4096, 100, "bytes", rate=0),
                "io_scratch_size": metric(0, 0, None, "bytes", max=0),
            }))
        if live:
            self.event("do_sync_kernel_stats", [[k.id for k in live]])

    # -- RPC server --

    async def _serve(self):
        while True:
            frames = await self.sock.recv_multipart()
            if self.paused:
                self.world.count("rpc.ignored")
                continue
            self.world.spawn(self._answer(frames))

    async def _answer(self, frames: list[bytes]):
        w = self.world
        try:
            peer, head_raw, body_raw = frames[0], frames[-2], frames[-1]
            head = unpack(head_raw)
            body = unpack(snappy_decode(body_raw) if head["zip"] else body_raw)
            payload = unpack(body["body"]) if body["body"] else None
        except Exception as e:
            w.count("rpc.undecodable")
            w.tap({"dir": "bad", "agent": self.id, "frames": [f.hex() for f in frames], "error": repr(e)})
            return
        meth = head["meth"]
        w.tap({"dir": "in", "agent": self.id, "header": head, "body_meta_hex": (body["meta"] or b"").hex(),
               "payload": payload, "header_hex": head_raw.hex(), "body_hex": body_raw.hex(), "frames": len(frames)})
        if head["type"] == CANCEL:
            w.count("rpc.cancel")
            return
        w.count("rpc." + meth)
        if w.chance(self.o.drop_rpc):
            w.count("rpc.dropped")
            return
        began = time.perf_counter()
        try:
            if self.o.rpc_delay[1]:
                await w.pause(self.o.rpc_delay)
            handler = getattr(self, "rpc_" + meth, None)
            if handler is None:
                raise KeyError(meth)
            result = handler(*(payload or {}).get("args", ()), **(payload or {}).get("kwargs", {}))
            if asyncio.iscoroutine(result):
                result = await result
            kind, meta, inner = RESULT, [], pack(result)
        except asyncio.CancelledError:
            raise
        except Exception as e:
            w.count("rpc.failed")
            kind, meta, inner = FAILURE, [type(e).__name__, repr(e), traceback.format_exc()], None
            self.event("agent_error", [repr(e), traceback.format_exc(), None, {}, "error"])
        out_head = pack({"type": kind, "meth": meth, "okey": head["okey"], "seq": head["seq"], "zip": False})
        out_body = pack({"meta": pack(meta), "body": inner})
        w.note_time(meth, time.perf_counter() - began)
        w.tap({"dir": "out", "agent": self.id, "header": unpack(out_head), "meta": meta,
               "payload": unpack(inner) if inner is not None else None, "header_hex": out_head.hex(), "body_hex": out_body.hex()})
        if self.sock is not None:
            async with self.send_lock:
                await self.sock.send_multipart([peer, out_head, out_body])

    def _kernel(self, kid: str) -> Kernel:
        return self.kernels[kid]

    # -- RPC methods --

    def rpc_ping(self, msg):
        return msg

    def rpc_ping_kernel(self, kernel_id):
        return None

    def rpc_gather_hwinfo(self):
        return {}

    def rpc_update_scaling_group(self, scaling_group):
        self.scaling_group = scaling_group

    async def rpc_create_kernels(self, creation_id, raw_session_id, raw_kernel_ids, raw_configs, raw_cluster_info):
        made = await asyncio.gather(
            *(self._create(creation_id, raw_session_id, kid, conf, raw_cluster_info)
              for kid, conf in zip(raw_kernel_ids, raw_configs)), return_exceptions=True)
        failed = [m for m in made if isinstance(m, BaseException)]
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise RuntimeError("agent.create_kernels() failed")
        return made

    async def _create(self, cid, sid, kid, config, cluster):
        w, o = self.world, self.o
        canonical = config["image"]["canonical"]
        self.event("kernel_preparing", [kid, cid, ""])
        if config["auto_pull"] != "none" and canonical not in o.image and o.pull_delay[1]:
            self.event("kernel_pulling", [kid, cid, canonical])
            await w.pause(o.pull_delay)
        self.event("kernel_creating", [kid, cid, ""])
        if kid in self.kernels:
            w.count("duplicates")
            raise AgentError(f"kernel {kid} exists")
        kernel = Kernel(kid, sid, cid, config, cluster)
        over = [n for n, v in kernel.slots.items() if v and self.used.get(n, Decimal(0)) + v > self.capacity.get(n, Decimal(0))]
        if over:
            w.count("overcommits")
            if o.strict:
                raise InsufficientResource(f"not enough {', '.join(over)}")
        self.kernels[kid] = kernel
        for n, v in kernel.slots.items():
            self.used[n] = self.used.get(n, Decimal(0)) + v
        try:
            await w.pause(o.create_delay)
            if w.chance(o.fail_create):
                raise RuntimeError("injected failure")
        except BaseException:
            self._forget(kernel)
            raise
        kernel.repl_ports = (self._port(), self._port())
        if config["cluster_role"] in ("main", "master"):
            kernel.service_ports = self._services(config)
        self.event("kernel_started", [kid, cid, ""])
        w.high_water(len(w.all_kernels()))
        if config["session_type"] == "batch" and config["cluster_role"] == "main":
            kernel.jobs.append(asyncio.create_task(self._batch(kernel)))
        if o.kernel_life[1]:
            kernel.jobs.append(asyncio.create_task(self._die_later(kernel)))
        allocations = self._allocations(kernel)
        return {
            "id": kid,
            "kernel_host": o.host,
            "repl_in_port": kernel.repl_ports[0], "repl_out_port": kernel.repl_ports[1],
            "stdin_port": 0, "stdout_port": 0,
            "service_ports": kernel.service_ports,
            "container_id": kernel.container,
            "resource_spec": {
                "container_id": kernel.container, "scratch_disk_size": 0,
                "mounts": [f"{m['host_path']}:{m['kernel_path']}:{m['mount_perm']}" for m in config["mounts"]],
                "allocations": allocations, "slots": str(kernel.slots.get("mem", 0)),
            },
            "attached_devices": {
                device: [{"device_id": d, "model_name": "", "data": {}} for d in next(iter(slots.values()))]
                for device, slots in allocations.items()
            },
        }

    def _allocations(self, kernel: Kernel) -> dict:
        out: dict[str, dict] = {}
        for name, amount in kernel.slots.items():
            if not amount:
                continue
            device = name.split(".")[0]
            if name == "cpu":
                whole = int(amount.to_integral_value(ROUND_DOWN))
                shares = {str(i): "1" for i in range(whole)}
                if amount != whole:
                    shares[str(whole)] = str(amount - whole)
            elif name == "mem":
                shares = {"root": str(int(amount))}
            else:
                shares = {"0": format(amount.normalize(), "f")}
            out.setdefault(device, {})[name] = shares
        return out

    def _port(self) -> int:
        self.next_port += 1
        if self.next_port > 60000:
            self.next_port = 30001
        return self.next_port

    def _services(self, config: dict) -> list[dict]:
        items = [(str(p), "preopen", [p]) for p in config.get("preopen_ports") or []]
        text = config["image"]["labels"].get("ai.backend.service-ports", "")
        while text:
            name, proto, rest = text.split(":", 2)
            if rest.startswith("["):
                inner, _, text = rest[1:].partition("]")
                ports = [int(p) for p in inner.split(",")]
            else:
                inner, _, text = rest.partition(",")
                ports, text = [int(inner)], "," + text if text else ""
            text = text.lstrip(",")
            if proto != "pty":
                items.append((name, proto, ports))
        items += [("sshd", "tcp", [2200]), ("ttyd", "http", [7681])]
        return [{"name": n, "protocol": p, "container_ports": c, "host_ports": [self._port() for _ in c]} for n, p, c in items]

    def _close(self, kernel: Kernel):
        for t in kernel.jobs:
            if t is not asyncio.current_task():
                t.cancel()
        for s in kernel.servers:
            s.close()

    def _forget(self, kernel: Kernel):
        if self.kernels.pop(kernel.id, None) is not None:
            for n, v in kernel.slots.items():
                self.used[n] -= v
        self._close(kernel)

    async def _batch(self, kernel: Kernel):
        self.event("execution_started", [kernel.id])
        await self.world.pause(self.o.batch_time)
        self.event("execution_finished", [kernel.id])
        self.event("session_success", [kernel.id, "task-done", 0])

    async def _die_later(self, kernel: Kernel):
        await self.world.pause(self.o.kernel_life)
        await self.end_kernel(kernel, "self-terminated")

    async def end_kernel(self, kernel: Kernel, reason: str, suppress: bool = False):
        if kernel.ending:
            return
        kernel.ending = True
        await self.world.pause(self.o.destroy_delay)
        if self.o.container_logs:
            key = "containerlog." + kernel.container
            self.world.stream.send("RPUSH", key, kernel.log)
            self.world.stream.send("EXPIRE", key, 3600)
            self.event("do_sync_kernel_logs", [kernel.id, kernel.container])
        self._forget(kernel)
        self.world.ended.append((self, kernel.id, reason))
        del self.world.ended[:-2000]
        if not suppress:
            self.event("kernel_terminated", [kernel.id, reason, -1])

    async def rpc_destroy_kernel(self, kernel_id, reason=None, suppress_events=False):
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            self.world.count("destroy.unknown")
            if not suppress_events:
                self.event("kernel_terminated", [kernel_id, "already-terminated", -1])
            return None
        await self.end_kernel(kernel, reason or "user-requested", suppress_events)
        return None

    async def rpc_restart_kernel(self, creation_id, session_id, kernel_id, updated_config):
        kernel = self._kernel(kernel_id)
        await self.world.pause(self.o.create_delay)
        kernel.container = secrets.token_hex(32)
        kernel.repl_ports = (self._port(), self._port())
        self.event("kernel_started", [kernel_id, creation_id, ""])
        return {"container_id": kernel.container, "repl_in_port": kernel.repl_ports[0], "repl_out_port": kernel.repl_ports[1],
                "stdin_port": 0, "stdout_port": 0, "service_ports": kernel.service_ports}

    def rpc_interrupt_kernel(self, kernel_id):
        self._kernel(kernel_id)

    def rpc_get_completions(self, kernel_id, text, opts):
        self._kernel(kernel_id)
        return None

    def rpc_get_logs(self, kernel_id):
        return {"logs": self._kernel(kernel_id).log.decode()}

    async def rpc_execute(self, kernel_id, api_version, run_id, mode, code, opts, flush_timeout):
        if kernel_id not in self.kernels:
            raise RuntimeError(f"The container for kernel {kernel_id} is not found!")
        kernel = self.kernels[kernel_id]
        self.event("execution_started", [kernel_id])
        await self.world.pause(self.o.execute_delay)
        out = code if mode in ("query", "input") else json.dumps(opts)
        status, options, exit_code = "finished", None, 0
        if mode == "query" and "input(" in code:
            status, options, exit_code = "waiting-input", {"is_password": False}, None
        kernel.log += out.encode() + b"\n"
        self.event("execution_finished", [kernel_id])
        answer = {"runId": run_id or secrets.token_hex(16), "status": status, "exitCode": exit_code, "options": options, "files": []}
        if api_version >= 2:
            answer["console"] = [["stdout", out + "\n"]]
        else:
            answer.update(stdout=out + "\n", stderr="", media=[], html=[])
        return answer

    def rpc_execute_batch(self, kernel_id, startup_command):
        self._kernel(kernel_id)

    async def rpc_start_service(self, kernel_id, service, opts):
        kernel = self._kernel(kernel_id)
        port = next((s for s in kernel.service_ports if s["name"] == service), None)
        if port is None:
            return {"status": "failed", "error": "invalid service name"}
        if self.o.serve_ports:
            for number in port["host_ports"]:
                try:
                    kernel.servers.append(await asyncio.start_server(
                        _http_hello if port["protocol"] == "http" else _echo, self.o.host, number))
                except OSError:
                    return {"status": "running"}
        return {"status": "started"}

    def rpc_shutdown_service(self, kernel_id, service):
        for s in self._kernel(kernel_id).servers:
            s.close()

    def rpc_upload_file(self, kernel_id, filename, filedata):
        self._kernel(kernel_id).files[filename.lstrip("/")] = filedata

    def rpc_download_file(self, kernel_id, filepath):
        data = self._kernel(kernel_id).files[filepath.removeprefix("/home/work/").lstrip("/")]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(os.path.basename(filepath))
            info.size, info.mtime = len(data), int(time.time())
            tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def rpc_list_files(self, kernel_id, path):
        now = time.time()
        files = [{"mode": "-rw-r--r--", "size": len(d), "ctime": now, "mtime": now, "atime": now, "filename": n}
                 for n, d in self._kernel(kernel_id).files.items()]
        return {"files": json.dumps(files) + "\n", "errors": "", "abspath": path}

    def rpc_shutdown_agent(self, terminate_kernels):
        return None

    def rpc_create_local_network(self, network_name):
        self.world.networks.add(network_name)

    def rpc_destroy_local_network(self, network_name):
        if network_name not in self.world.networks:
            raise RuntimeError(f"DockerError(404, 'network {network_name} not found')")
        self.world.networks.discard(network_name)

    rpc_create_overlay_network = rpc_create_local_network
    rpc_destroy_overlay_network = rpc_destroy_local_network

    def rpc_reset_agent(self):
        return None


async def _echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def _http_hello(reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"fake service\n" + head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


# ---- all of them -------------------------------------------------------------------------------

class World:
    def __init__(self, o: argparse.Namespace):
        self.o = o
        self.ctx = zmq.asyncio.Context(io_threads=1)
        self.ctx.set(zmq.MAX_SOCKETS, 8192)
        self.etcd = Etcd(o.etcd, o.namespace) if o.etcd else None
        self.counters: dict[str, int] = {}
        self.times: dict[str, list] = {}
        self.peak = 0
        self.agents: list[Agent] = []
        self.jobs: set[asyncio.Task] = set()
        self.networks: set[str] = set()
        self.ended: list[tuple[Agent, str, str]] = []
        self.tap_file = open(o.tap, "a") if o.tap else None
        self.random = random.Random(o.seed)

    def count(self, name: str, by: int = 1):
        self.counters[name] = self.counters.get(name, 0) + by

    def note_time(self, meth: str, seconds: float):
        t = self.times.setdefault(meth, [0, 0.0, 0.0])
        t[0] += 1
        t[1] += seconds
        t[2] = max(t[2], seconds)

    def high_water(self, n: int):
        self.peak = max(self.peak, n)

    def all_kernels(self) -> list[str]:
        return [k for a in self.agents for k in a.kernels]

    def chance(self, p: float) -> bool:
        return p > 0 and self.random.random() < p

    async def pause(self, span: tuple[float, float]):
        if span[1] > 0:
            await asyncio.sleep(self.random.uniform(*span))

    def spawn(self, coro):
        t = asyncio.create_task(coro)
        self.jobs.add(t)
        t.add_done_callback(self.jobs.discard)

    def tap(self, record: dict, quiet: bool = False):
        if self.tap_file is None or (quiet and not self.o.tap_heartbeats):
            return
        record = {"t": round(time.time(), 6), **record}
        self.tap_file.write(json.dumps(record, default=lambda b: {"bin_hex": b.hex()} if isinstance(b, bytes) else str(b)) + "\n")
        self.tap_file.flush()

    def report(self, final: bool = False) -> dict:
        return {
            "t": round(time.time(), 3), "final": final, "agents": len(self.agents),
            "kernels": len(self.all_kernels()), "peak_kernels": self.peak,
            "overcommits": self.counters.get("overcommits", 0), "duplicates": self.counters.get("duplicates", 0),
            "redis_errors": self.stream.errors + self.stat.errors,
            "counts": dict(sorted(self.counters.items())),
            "rpc_ms": {m: {"n": n, "mean": round(1000 * s / n, 2), "max": round(1000 * x, 2)} for m, (n, s, x) in sorted(self.times.items())},
        }

    def agent(self, aid: str) -> Agent:
        return next(a for a in self.agents if a.id == aid)

    async def control(self, reader, writer):
        while line := await reader.readline():
            try:
                answer = await self.obey(json.loads(line))
            except Exception as e:
                answer = {"error": repr(e)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def obey(self, order: dict) -> dict:
        do = order["do"]
        if do == "stats":
            return self.report()
        if do == "kernels":
            return {a.id: {k.id: {"session": k.session, "slots": {n: str(v) for n, v in k.slots.items()}} for k in a.kernels.values()} for a in self.agents}
        if do == "set":
            for key, value in order.items():
                if key != "do":
                    if not hasattr(self.o, key):
                        raise KeyError(key)
                    setattr(self.o, key, tuple(value) if isinstance(value, list) else value)
            return {"ok": True}
        if do == "kill":
            for a in self.agents:
                if order["kernel"] in a.kernels:
                    await a.end_kernel(a.kernels[order["kernel"]], order.get("reason", "self-terminated"))
                    return {"ok": True}
            raise KeyError(order["kernel"])
        if do == "flush":
            for a, kid, reason in self.ended:
                a.event("kernel_terminated", [kid, reason, -1])
            return {"ok": True, "repeated": len(self.ended)}
        if do not in ("pause", "resume", "stop", "crash", "start"):
            raise KeyError(do)
        a = self.agent(order["agent"])
        if do in ("pause", "resume"):
            a.paused = do == "pause"
        elif do == "stop":
            await a.stop()
        elif do == "crash":
            await a.stop(event=False)
            for k in list(a.kernels.values()):
                a._forget(k)
        elif do == "start":
            await a.start()
        else:
            raise KeyError(do)
        return {"ok": True}

    async def run(self):
        o = self.o
        password = o.redis_password
        if self.etcd and not o.redis:
            o.redis = await asyncio.to_thread(self.etcd.get, "config/redis/addr") or "127.0.0.1:6379"
            password = password or await asyncio.to_thread(self.etcd.get, "config/redis/password")
        if self.etcd and o.wait_manager:
            while not await asyncio.to_thread(self.etcd.any_below, "nodes/manager/"):
                await asyncio.sleep(0.2)
        self.stream, self.stat = Redis(o.redis, password, DB_STREAM), Redis(o.redis, password, DB_STAT)
        await self.stream.open()
        await self.stat.open()
        stop = asyncio.Event()
        for s in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(s, stop.set)
        self.agents = [Agent(self, o.first + i) for i in range(o.agents)]
        if o.stagger:
            for a in self.agents:
                await a.start()
                await asyncio.sleep(o.stagger)
        for at in range(0, 0 if o.stagger else len(self.agents), 20):
            await asyncio.gather(*(a.start() for a in self.agents[at:at + 20]))
        if o.control:
            host, port = o.control.rsplit(":", 1)
            await asyncio.start_server(self.control, host, int(port))
        print(json.dumps({"ready": True, "agents": [self.agents[0].id, self.agents[-1].id], "redis": o.redis}), flush=True)
        deadline = time.time() + o.seconds if o.seconds else None
        while not stop.is_set():
            wait = o.report or 3600
            if deadline:
                wait = min(wait, max(0.0, deadline - time.time()))
            try:
                await asyncio.wait_for(stop.wait(), wait)
            except asyncio.TimeoutError:
                if deadline and time.time() >= deadline:
                    break
                if o.report:
                    print(json.dumps(self.report()), flush=True)
        for a in self.agents:
            await a.stop()
        await asyncio.sleep(0.2)
        print(json.dumps(self.report(final=True)), flush=True)
        self.ctx.destroy(linger=100)


def options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a = p.add_argument
    a("--etcd", default="127.0.0.1:2379", help="empty: no etcd, then --redis is needed")
    a("--namespace", default="local")
    a("--redis", default="", help="host:port (default: what etcd says)")
    a("--redis-password", default="")
    a("--agents", type=int, default=1)
    a("--first", type=int, default=0, help="number of the first agent (several processes beside each other)")
    a("--id-prefix", default="i-fake-")
    a("--always-number", action="store_true")
    a("--stagger", type=float, default=0.0, metavar="S", help="pause between the starts of two agents; the original manager chokes on some 70 agents that start together")
    a("--host", default="127.0.0.1")
    a("--base-port", type=int, default=6101)
    a("--region", default="local")
    a("--scaling-group", default="default")
    a("--architecture", default="x86_64")
    a("--cpu", type=int, default=64)
    a("--mem", default="256g")
    a("--slot", action="append", default=[], metavar="NAME=AMOUNT[:UNIT]", help="e.g. cuda.shares=8 or cuda.device=4")
    a("--image", action="append", default=[], help="image the agents claim to have; may be repeated")
    a("--heartbeat", type=float, default=3.0)
    for name, text in [("create", "creation of a kernel"), ("destroy", "its end"), ("execute", "an execution"),
                       ("rpc", "every call"), ("pull", "pulling an image the agent does not have")]:
        a(f"--{name}-delay", type=parse_range, default=(0.0, 0.0), metavar="S[:S]", help=f"seconds for {text}")
    a("--batch-time", type=parse_range, default=(1.0, 1.0), metavar="S[:S]", help="length of a batch job")
    a("--kernel-life", type=parse_range, default=(0.0, 0.0), metavar="S[:S]", help="kernels end by themselves after this")
    a("--fail-create", type=float, default=0.0, metavar="P")
    a("--drop-rpc", type=float, default=0.0, metavar="P", help="share of calls never answered")
    a("--strict", action="store_true", help="refuse a kernel beyond the agent's slots instead of only counting it")
    a("--stats", action=argparse.BooleanOptionalAction, default=True, help="push statistics every 5 s")
    a("--container-logs", action=argparse.BooleanOptionalAction, default=True)
    a("--serve-ports", action="store_true", help="start_service really listens (http answers, tcp echoes)")
    a("--wait-manager", action=argparse.BooleanOptionalAction, default=True)
    a("--control", default="", metavar="HOST:PORT")
    a("--tap", default="", metavar="FILE", help="append every frame and event as JSON lines")
    a("--tap-heartbeats", action="store_true")
    a("--report", type=float, default=0.0, metavar="S")
    a("--seconds", type=float, default=0.0, help="stop after this time")
    a("--seed", type=int, default=1)
    o = p.parse_args()
    if not o.etcd and not o.redis:
        p.error("--redis is needed without --etcd")
    return o


if __name__ == "__main__":
    try:
        import uvloop
        uvloop.install()
    except ImportError:
        pass
    asyncio.run(World(options()).run())
