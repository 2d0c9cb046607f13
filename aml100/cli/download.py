"""`download`: candles and funding of the real market into the history store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aml100.cli.data import gaps_text
from aml100.cli.options import DownloadOptions
from aml100.cli.output import write_json, write_line
from aml100.cli.progress import Progress
from aml100.domain.errors import SafetyRefusal, UsageError
from aml100.domain.units import DAY_MS, INTERVALS, Coin, interval_name, iso_utc

if TYPE_CHECKING:
    from aml100.engine.archive import Filled


def download(options: DownloadOptions) -> int:
    """What is missing of the last --days days, as far back as the venue reaches; taken up again where it was left."""
    if not options.coins:
        raise UsageError("download: no coin; allowed: --coin NAME, repeatable")
    if options.venue.kind not in ("mainnet", "testnet"):
        raise SafetyRefusal(
            f"--venue {options.venue}: only the bars of a real network enter the history store; allowed: mainnet or "
            "testnet (venue.json names their addresses)"
        )
    filled = asyncio.run(_fill(options))
    if options.json:
        write_json([_document(one) for one in filled])
        return 0
    for one in filled:
        write_line(_sentence(one))
    return 0


async def _fill(options: DownloadOptions) -> list[Filled]:
    from aml100.domain.clock import SystemClock
    from aml100.engine.archive import Archive, require_real_market
    from aml100.storage.history import HistoryStore
    from aml100.venue.rest import VenueRest
    from aml100.venue.transport import Timeouts

    settings = options.load_settings()
    network = options.venue.kind
    url = settings.venue.mainnet.rest_url if network == "mainnet" else settings.venue.testnet.rest_url
    store = HistoryStore(options.folder / "history", network)
    timeouts = Timeouts(info_s=settings.venue.request_timeout_seconds)
    origin = f"hyperliquid:{network}"
    dexes = sorted({coin.partition(":")[0] for coin in options.coins if ":" in coin})
    filled = []
    async with VenueRest(
        url, "other", None, None, SystemClock(), origin=origin, dexes=dexes, timeouts=timeouts
    ) as rest:
        now_ms = await require_real_market(rest, url, network)
        listed = await rest.instruments()
        for name in options.coins:
            if Coin(name) not in listed:
                raise UsageError(
                    f"--coin {name}: {network} does not list it; listed: {', '.join(sorted(listed))[:200]}"
                )
        for name in options.coins:
            with Progress(f"download {name}", 1) as progress:
                archive = Archive(store, rest, INTERVALS[options.interval], progress.update_of)
                filled.append(await archive.fill(Coin(name), now_ms - round(options.days * DAY_MS), now_ms))
    return filled


def _sentence(one: Filled) -> str:
    interval = interval_name(one.interval_ms)
    words = (
        f"{one.coin} {interval}: {one.added} bars and {one.funding_added} funding rates new, up to "
        f"{iso_utc(one.to_ms)}; {gaps_text(one.gaps, one.interval_ms)}"
    )
    if one.reach_ms > one.from_ms + one.interval_ms:
        words += f"; the venue reaches back to {iso_utc(one.reach_ms)} only (its latest 5000 bars of {interval})"
    return words


def _document(one: Filled) -> dict[str, object]:
    return {
        "coin": one.coin,
        "interval": interval_name(one.interval_ms),
        "asked_from_ms": one.from_ms,
        "reach_ms": one.reach_ms,
        "to_ms": one.to_ms,
        "added": one.added,
        "funding_added": one.funding_added,
        "gaps": [list(gap) for gap in one.gaps],
    }
