"""Which venue, with whose key, and whether it may be traded on: everything that is decided before anything is opened.

What is refused here is refused for safety (exit code 3) unless it is plainly missing (2). A venue that does not answer
is tried for a while (1).
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aml100.config.loading import Settings
from aml100.config.models import Objectives, VenueConfig
from aml100.config.secrets import check_key_file, load_account_address, load_private_key
from aml100.domain.clock import Clock
from aml100.domain.errors import ConfigError, SafetyRefusal, StateError, UsageError, VenueUnavailable
from aml100.domain.market import Instrument
from aml100.domain.units import Coin
from aml100.engine.cycle import earned_index
from aml100.logs import add_secret
from aml100.storage.reader import StateReader
from aml100.trading.state import decode_state
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.clock import VenueClock
from aml100.venue.refusals import Refusal, refusal_kind
from aml100.venue.rest import VenueRest
from aml100.venue.session import Subscription
from aml100.venue.signing import Network, Signer
from aml100.venue.stream import VenueStream
from aml100.venue.transport import Timeouts

log = logging.getLogger(__name__)

OVERRIDE_WORD: Final = "OVERRIDE"
"""What has to be typed to trade real money without the phase."""
_OFFSET_SAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class VenuePlace:
    """A venue that is not embedded.

    Attributes:
        name: as the operator named it: testnet, mainnet or the URL.
        book: whose state.db this is: testnet, mainnet, or `sim-server` for a venue at a URL.
    """

    name: str
    rest_url: str
    ws_url: str
    signing: Network
    book: str

    @property
    def is_mainnet(self) -> bool:
        return self.signing == "mainnet"

    @property
    def coin_origin(self) -> str:
        """What bars from here carry unless the venue proves to be a simulated one."""
        return f"hyperliquid:{self.name}" if self.book in ("testnet", "mainnet") else f"venue:{self.name}"


def place_of(kind: str, rest_url: str | None, ws_url: str | None, config: VenueConfig) -> VenuePlace:
    """`kind` is testnet, mainnet or url."""
    match kind:
        case "mainnet":
            return VenuePlace("mainnet", config.mainnet.rest_url, config.mainnet.ws_url, "mainnet", "mainnet")
        case "testnet":
            return VenuePlace("testnet", config.testnet.rest_url, config.testnet.ws_url, "other", "testnet")
        case _:
            assert rest_url is not None
            assert ws_url is not None
            return VenuePlace(rest_url, rest_url, ws_url, "other", "sim-server")


@dataclass(frozen=True, slots=True)
class Access:
    """Whose account, and who signs for it; paper trading has no signer (GUARANTEES D21)."""

    account: str
    signer: Signer | None


def access_for(
    place: VenuePlace,
    execution: Literal["paper", "venue"],
    settings: Settings,
    state: Path,
    environ: Mapping[str, str],
    *,
    armed: bool,
    override: str | None,
) -> Access:
    """Check everything that stands between this run and an order, then read the key if there is to be one.

    Raises:
        SafetyRefusal: not armed, no stop or no phase on mainnet, a key file that others can read.
        ConfigError: a key is needed and there is none.
    """
    check_key_file(environ)
    if execution == "paper":
        return Access(load_account_address(environ) or "", None)
    if place.is_mainnet:
        if not armed:
            raise SafetyRefusal("--execution venue on mainnet trades real money: it needs --arm")
        if not settings.params.trading.stop_loss_pct:
            raise SafetyRefusal("trading.stop_loss_pct is 0: on mainnet a stop is always required")
        _require_phase(settings, state, override)
    key = load_private_key(environ)
    if key is None:
        raise ConfigError(
            f"--execution venue on {place.name}: no key; allowed: AML100_PRIVATE_KEY, AML100_PRIVATE_KEY_FILE or the "
            "keyring (or --execution paper)"
        )
    add_secret(key.hex)
    signer = Signer(key.hex, place.signing)
    return Access(load_account_address(environ) or signer.address, signer)


def _require_phase(settings: Settings, state: Path, override: str | None) -> None:
    """SafetyRefusal unless the phase that real orders need has been reached by PASS on a real network's data."""
    if override is not None:
        if override != OVERRIDE_WORD:
            raise SafetyRefusal(f"--override-phase {override}: not the word; needs --override-phase {OVERRIDE_WORD}")
        log.warning("mainnet orders without the phase %s: overridden", settings.objectives.live_min_phase)
        return
    needed = settings.objectives.live_min_phase
    names = settings.objectives.phase_names
    reached = earned_phase(state, settings.objectives)
    if names.index(reached) < names.index(needed):
        raise SafetyRefusal(
            f"live_min_phase: mainnet orders need the phase {needed}, {state} has earned {reached}; "
            f"trade on paper until then, or --override-phase {OVERRIDE_WORD}"
        )


def earned_phase(state: Path, objectives: Objectives) -> str:
    """The highest phase reached by honest PASS cycles alone on testnet or mainnet data, on paper too."""
    try:
        with StateReader.read(state) as reader:
            earned = earned_index(reader, objectives)
    except StateError:
        earned = 0
    return objectives.phase_names[max(earned, 0)]


def client_for(
    place: VenuePlace, access: Access, clock: VenueClock, settings: Settings, dexes: Sequence[str]
) -> VenueRest:
    """A client of the venue; nothing is connected yet."""
    config = settings.venue
    return VenueRest(
        place.rest_url,
        place.signing,
        access.signer,
        access.account or None,
        clock,
        origin=place.coin_origin,
        dexes=dexes,
        ip_budget=IpBudget(config.ip_weight_per_minute, config.ip_weight_reserve),
        action_budget=ActionBudget(reserve=config.address_actions_reserve),
        timeouts=Timeouts(exchange_s=config.request_timeout_seconds, info_s=config.request_timeout_seconds),
        expires_after_ms=int(config.order_expiry_seconds * 1000),
        wall=clock.venue_wall_ms,
    )


def stream_for(
    ws_url: str, subscriptions: Iterable[Subscription], clock: Clock, origin: str, config: VenueConfig
) -> VenueStream:
    """The venue's streams, at the configured paces; nothing is connected yet."""
    return VenueStream(
        ws_url,
        subscriptions,
        clock,
        origin=origin,
        min_pause_s=config.reconnect_min_seconds,
        max_pause_s=config.reconnect_max_seconds,
        ping_s=config.ping_seconds,
        idle_s=config.idle_timeout_seconds,
    )


def dexes_of(coins: Sequence[Coin]) -> tuple[str, ...]:
    """Builders' exchanges named by the coins, as `xyz` in `xyz:XYZ100`."""
    return tuple(dict.fromkeys(coin.partition(":")[0] for coin in coins if ":" in coin))


async def reach(rest: VenueRest, clock: VenueClock, settings: Settings, name: str) -> None:
    """Ask until the venue answers, set the clock by it, and refuse a clock that is far off (GUARANTEES B19).

    Raises:
        VenueUnavailable: no answer within `start_retry_seconds`.
        SafetyRefusal: our clock is off by more than `risk.max_clock_skew_ms`.
    """
    patience_s = settings.venue.start_retry_seconds
    problem = "no answer"
    try:
        async with asyncio.timeout(max(patience_s, 0.001)):
            while True:
                try:
                    await _ask_the_time(rest, clock)
                    break
                except VenueUnavailable as error:
                    problem = str(error)
                    log.warning("%s does not answer, trying for %.0f s: %s", name, patience_s, error)
                    await asyncio.sleep(1.0)
    except TimeoutError:
        raise VenueUnavailable(f"{name}: not reachable within {patience_s:g} s: {problem}") from None
    if clock.is_simulated:
        return
    for _ in range(_OFFSET_SAMPLES - 1):
        await _ask_the_time(rest, clock)
    allowed_ms = settings.params.risk.max_clock_skew_ms
    if allowed_ms and abs(clock.offset_ms or 0) > allowed_ms:
        raise SafetyRefusal(
            f"clock: off by {clock.offset_ms} ms from {name}; allowed: {allowed_ms:g} ms "
            "(risk.max_clock_skew_ms); set it by NTP"
        )


async def _ask_the_time(rest: VenueRest, clock: VenueClock) -> None:
    asked_s = clock.monotonic_s()
    clock.sync(await rest.exchange_status(), asked_s, clock.monotonic_s())


async def listed(rest: VenueRest, coins: Sequence[Coin], name: str) -> dict[Coin, Instrument]:
    """Rules of the coins as the venue states them; UsageError for one that is not traded there."""
    found = await rest.instruments()
    for coin in coins:
        if coin not in found:
            near = difflib.get_close_matches(coin, list(found), 3, 0.5)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise UsageError(f"--coin {coin}: not listed on {name}{hint}; allowed: one of its {len(found)} perpetuals")
    return {coin: found[coin] for coin in coins}


async def listed_of(rest: VenueRest, left: Sequence[Coin]) -> dict[Coin, Instrument]:
    """Rules of coins that an earlier run left something in; one that is gone from the venue can only be told of."""
    found = await rest.instruments()
    for coin in left:
        words = "managed until it is closed, nothing is opened" if coin in found else "not listed any more: unmanaged"
        log.warning("%s is not among the coins of this run and an earlier one left something in it: %s", coin, words)
    return {coin: found[coin] for coin in left if coin in found}


def left_behind(state: Path, book: str, coins: Sequence[Coin]) -> tuple[Coin, ...]:
    """Coins that are not to be traded now, and in which the journal has a position or an order that is not done."""
    try:
        with StateReader.read(state, book) as reader:
            saved = reader.load_core_state()
    except StateError:  # none there yet; whatever else is wrong with it is said by whoever opens it
        return ()
    if saved is None:
        return ()
    known = decode_state(saved)
    open_orders = {one.order.coin for one in known.orders.orders.values() if not one.is_done}
    return tuple(sorted({*known.book.positions, *open_orders} - set(coins)))


async def check_signer(rest: VenueRest, access: Access, place: VenuePlace, *, is_simulated: bool) -> None:
    """That the venue lets this key act for this account, and is what it was said to be.

    Raises:
        SafetyRefusal: an agent of somebody else, a key that this network does not know (the other network's), or real
            money meant for a venue that is a simulated one.
    """
    if access.signer is None:
        return
    if place.is_mainnet and is_simulated:
        raise SafetyRefusal(
            f"wrong network: {place.rest_url} (mainnet.rest_url of venue.json) is a simulated venue, "
            f"not mainnet; trade there with --venue {place.rest_url}"
        )
    role = await rest.role(access.signer.address)
    if role.name == "agent" and role.master != access.account:
        raise SafetyRefusal(
            f"the key signs for {role.master}, not for {access.account}; set AML100_ACCOUNT_ADDRESS={role.master}"
        )
    if role.name == "missing" or (role.name == "user" and access.signer.address != access.account):
        raise SafetyRefusal(
            f"wrong network or key: {place.name} does not know {access.signer.address} as the key or an agent of "
            f"{access.account}"
        )
    try:
        refusal = await rest.noop()
    except VenueUnavailable as error:
        log.warning("the key could not be tried: %s", error)
        return
    if refusal is None:
        return
    if refusal_kind(refusal) in (Refusal.STRANGER, Refusal.NONCE):
        raise SafetyRefusal(f"wrong network or key: {place.name} refuses what {access.signer.address} signs: {refusal}")
    log.warning("the venue refuses to do nothing: %s", refusal)
