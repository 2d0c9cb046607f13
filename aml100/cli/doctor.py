"""`doctor`: look at everything around the engine, and say what to do about each thing.

A finding is OK, WARN (trading works, something will hurt later) or FAIL (it does not work); only FAIL makes the exit
code 1. Nothing is changed, and no secret is printed.
"""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from aml100.cli.options import DoctorOptions
from aml100.cli.output import write_json, write_table
from aml100.config.loading import Settings
from aml100.config.secrets import load_account_address, load_private_key
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError
from aml100.domain.units import DAY_MS, iso_utc

OK: Final = "OK"
WARN: Final = "WARN"
FAIL: Final = "FAIL"

FREE_BYTES_MIN: Final = 1 << 30
GROWTH_WARNING_DAYS: Final = 30
GROWTH_MEASURED_DAYS: Final = 1 / 24
"""What is measured over less says nothing about a month."""
FRESH_S: Final = 600
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `advice` says what to do where it is not OK."""

    name: str
    state: str
    detail: str
    advice: str = ""


class ServerTime(msgspec.Struct, frozen=True):
    """`exchangeStatus`; a simulated venue also says how fast its market runs."""

    time: int
    speed: float | None = None


def doctor(options: DoctorOptions) -> int:
    """Every check in turn; exit 1 where one fails."""
    findings = list(examine(options, os.environ))
    ok = all(one.state != FAIL for one in findings)
    if options.json:
        write_json({"ok": ok, "checks": [asdict(one) for one in findings]})
    else:
        write_table(
            ("check", "state", "what was found", "what to do"),
            [(one.name, one.state, one.detail, one.advice) for one in findings],
        )
    return 0 if ok else 1


def examine(options: DoctorOptions, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The findings, in the order in which trouble usually has to be cured."""
    try:
        settings = options.load_settings()
    except AmlError as error:
        yield Finding("config", FAIL, str(error), "correct that key; `config show` tells what is allowed")
        return
    where = str(settings.directory) if settings.directory is not None else "packaged defaults"
    yield Finding("config", OK, f"{where}, {len(settings.origins)} values set")
    yield _key(environ, is_needed=options.venue.kind in ("testnet", "mainnet"))
    yield _state(options.state)
    yield _data(options.state)
    yield _halt_file(options.folder)
    yield _disk(options.state)
    yield from _venue(options, settings)


def _key(environ: Mapping[str, str], *, is_needed: bool) -> Finding:
    try:
        key = load_private_key(environ)
        account = load_account_address(environ)
    except AmlError as error:
        return Finding("key", FAIL, str(error), "correct it; the key is not read until then")
    if key is None:
        state = WARN if is_needed else OK
        return Finding("key", state, "none", "only paper trading works" if is_needed else "")
    if account is None:
        return Finding("key", WARN, f"{key}, no account", "set AML100_ACCOUNT_ADDRESS where the key is an agent's")
    return Finding("key", OK, f"{key}, account {account}")


def _state(path: Path) -> Finding:
    from aml100.storage.stores import store_of

    try:
        store = store_of(path)
        version = store.version()
        size = store.size_bytes() if version else 0
    except AmlError as error:
        return Finding("state", FAIL, str(error), "restore a backup, or use another --state")
    if version == 0:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            what = "is closed to you" if above.is_dir() else "is no folder"
            return Finding("state", FAIL, f"{store}: cannot be made, {above} {what}", "use another --state")
        return Finding("state", OK, f"{store}: not there yet; `run` makes it")
    return Finding("state", OK, f"{store}: sound, schema {version}, {size // MIB} MiB")


def _data(path: Path) -> Finding:
    """Whether trading is halted, and how old the last marked equity of a run on a real network is."""
    from aml100.storage.reader import StateReader

    try:
        with StateReader.read(path) as reader:
            latch, runs = reader.halt_latch(), reader.runs()
            recent = reader.equity_curve(wall_ms() - DAY_MS)
    except AmlError:
        return Finding("data", OK, "no run yet")
    if latch is not None:
        return Finding("data", WARN, f"halted by {latch.by}: {latch.reason}", "`resume` once the cause is understood")
    if not runs or runs[-1].stopped_ms is not None or runs[-1].venue not in ("testnet", "mainnet"):
        return Finding("data", OK, "no run on a network is open")
    age_s = (wall_ms() - recent[-1].time_ms) / 1000 if recent else DAY_MS / 1000
    if age_s > FRESH_S:
        return Finding("data", WARN, f"nothing marked for {age_s:.0f} s or more", "is the engine alive? `status`")
    return Finding("data", OK, f"equity marked {age_s:.0f} s ago")


def _halt_file(folder: Path) -> Finding:
    file = folder / "HALT"
    if file.exists():
        return Finding("halt file", WARN, f"{file} is there", "remove it, then `resume`")
    return Finding("halt file", OK, "none")


def _disk(path: Path) -> Finding:
    """Free space, also against how fast everything beside the state file grew while engines ran on it."""
    folder = path.parent if path.parent.is_dir() else Path()
    free = shutil.disk_usage(folder).free
    text = f"{free // MIB} MiB free"
    if closed := next((one for one in (folder, path) if one.exists() and not os.access(one, os.W_OK)), None):
        return Finding("disk", WARN, f"{closed} cannot be written", "no engine can run here: check its owner and mode")
    if free < FREE_BYTES_MIN:
        return Finding("disk", FAIL if free < FREE_BYTES_MIN // 10 else WARN, text, "free some, or move --state")
    used, days = _bytes_kept(path), _days_run(path)
    if days < GROWTH_MEASURED_DAYS:
        return Finding("disk", OK, f"{text}, {used // MIB} MiB used")
    growth = used / days
    text += f", {used // MIB} MiB used in {days:.1f} days of running, {growth / MIB:.1f} MiB a day"
    if free < growth * GROWTH_WARNING_DAYS:
        left = f"full in {free / growth:.0f} days"
        return Finding(
            "disk", WARN, f"{text}: {left}", "lower storage.retain_days, move STATE.inputs/ away, or move --state"
        )
    return Finding("disk", OK, text)


def _bytes_kept(path: Path) -> int:
    """The state file with its log, its recorded inputs, models, history and logs."""
    beside = [path.with_name(path.name + ending) for ending in ("", "-wal", ".venue", ".inputs")]
    beside += [path.parent / name for name in ("history", "models", "training", "flight", "engine.log", "alerts.jsonl")]
    files = [file for one in beside for file in ([one] if one.is_file() else one.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _days_run(path: Path) -> float:
    """Days of wall time that engines ran on this state; a run that did not end counts until its last write."""
    from aml100.storage.reader import StateReader
    from aml100.storage.stores import store_of

    try:
        with StateReader.read(path) as reader:
            runs = reader.runs()
        written_ms = store_of(path).written_ms()
    except AmlError:
        return 0.0
    spans = [(run.started_ms, written_ms if run.stopped_ms is None else run.stopped_ms) for run in runs]
    return sum(max(0, stop_ms - start_ms) for start_ms, stop_ms in spans) / DAY_MS


def _venue(options: DoctorOptions, settings: Settings) -> Iterator[Finding]:
    """Whether the venue answers, and how far its clock is from ours (GUARANTEES B19)."""
    match options.venue.kind:
        case "sim":
            yield Finding("venue", OK, "embedded; needs no network")
            return
        case "mainnet":
            url = settings.venue.mainnet.rest_url
        case "testnet":
            url = settings.venue.testnet.rest_url
        case _:
            url = options.venue.rest_url or ""
    before_ms = wall_ms()
    try:
        answer = ask_server_time(url, settings.venue.request_timeout_seconds)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, ValueError) as error:
        yield Finding("venue", FAIL, f"{url}: {error}", "check the network; paper and live need it")
        return
    after_ms = wall_ms()
    yield Finding("venue", OK, f"{url} answers in {after_ms - before_ms} ms")
    yield from _account(url, options.venue.kind == "mainnet", settings.venue.request_timeout_seconds)
    if answer.speed is not None:
        yield Finding("clock", OK, f"simulated market at {iso_utc(answer.time)}, {answer.speed:g}x")
        return
    offset_ms = answer.time - (before_ms + after_ms) // 2
    allowed_ms = settings.params.risk.max_clock_skew_ms
    if allowed_ms and abs(offset_ms) > allowed_ms:
        yield Finding("clock", FAIL, f"off by {offset_ms} ms", f"set the clock (NTP); allowed: {allowed_ms:g} ms")
    else:
        yield Finding("clock", OK, f"off by {offset_ms} ms")


def _account(url: str, is_mainnet: bool, timeout_s: float) -> Iterator[Finding]:
    """Whether the key may act for the account, until when, and whether its worth can be read; asks, never acts."""
    from aml100.cli.doctor_account import examine_account

    try:
        key, account = load_private_key(os.environ), load_account_address(os.environ)
    except AmlError:
        return  # said already
    if key is None:
        return
    try:
        for name, state, detail, advice in examine_account(
            key.hex, account, is_mainnet=is_mainnet, ask=lambda body: ask_info(url, body, timeout_s), now_ms=wall_ms()
        ):
            yield Finding(name, state, detail, advice)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, AmlError) as error:
        yield Finding("account", WARN, f"not read: {error}", "try again")


def ask_server_time(rest_url: str, timeout_s: float) -> ServerTime:
    """The venue's clock by one request; OSError, HTTPException or MsgspecError where it answers otherwise."""
    return msgspec.json.decode(ask_info(rest_url, {"type": "exchangeStatus"}, timeout_s), type=ServerTime)


def ask_info(rest_url: str, body: Mapping[str, str], timeout_s: float) -> bytes:
    """One question to /info, answered in bytes; OSError or HTTPException where it is not."""
    parts = urlsplit(rest_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", "/info", msgspec.json.encode(body), headers)
        response = connection.getresponse()
        answer = response.read(1 << 20)
        if response.status != 200:
            raise http.client.HTTPException(f"HTTP {response.status}")
        return answer
    finally:
        connection.close()
