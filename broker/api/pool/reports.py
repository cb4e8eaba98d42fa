"""``GET /report``: one day's counts as people and scripts want them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from broker.accounting.daily_counts import BEYOND, BUCKETS_MS, COUNTS, TIMES, day_words_of
from broker.api.documented import problems
from broker.api.pool.status import Here, Observer, known_query
from schemas.http import report as api

router = APIRouter(responses=problems(401, 403, 422, 429, 500, 503), dependencies=[Depends(known_query)])

Labels = tuple[str, ...]
Buckets = Counter[int]
"""Upper bound in milliseconds, 0 for what is beyond all bounds, and how often."""


@router.get("/report", tags=["pool"])
async def report(
    services: Here,
    _caller: Observer,
    day: Annotated[api.Day | None, Query(description="UTC; today if it is left out")] = None,
) -> api.DayReport:
    """What `/v1` served on one day, by route and reason, with waits, tokens and loads.

    What this broker has counted is in it; other brokers of the pool send theirs every few seconds.
    """
    chosen = day or date.fromisoformat(services.book.today())
    await services.book.send()
    return report_of(services.pool, chosen, await services.store.days.read(chosen.isoformat()))


def report_of(pool: str, day: date, fields: Mapping[str, int]) -> api.DayReport:
    """A day's stored counters by what they count, the largest first; words of another version are left out."""
    counts: defaultdict[str, list[api.Counted]] = defaultdict(list)
    times: defaultdict[str, defaultdict[Labels, Buckets]] = defaultdict(lambda: defaultdict(Counter))
    for field, count in sorted(fields.items(), key=lambda item: (-item[1], item[0])):
        kind, labels = day_words_of(field)
        if kind in COUNTS and len(labels) == len(COUNTS[kind]):
            counts[kind].append(api.Counted(labels=dict(zip(COUNTS[kind], labels, strict=True)), count=count))
        elif kind in TIMES and len(labels) == len(TIMES[kind]) + 1:
            bound = 0 if labels[-1] == BEYOND else int(labels[-1])
            times[kind][labels[:-1]][bound] += count
            times[kind][()][bound] += count
    return api.DayReport(
        day=day,
        pool=pool,
        counts={kind: counts[kind] for kind in COUNTS if kind in counts},
        times={kind: _timed(kind, times[kind]) for kind in TIMES if kind in times},
    )


def _timed(kind: str, found: Mapping[Labels, Buckets]) -> list[api.Timed]:
    rows = sorted(found.items(), key=lambda item: (len(item[0]), -item[1].total(), item[0]))
    return [
        api.Timed(
            labels=dict(zip(TIMES[kind], labels, strict=False)),
            count=buckets.total(),
            p50_seconds=percentile_s(buckets, 0.50),
            p95_seconds=percentile_s(buckets, 0.95),
        )
        for labels, buckets in rows
    ]


def percentile_s(buckets: Mapping[int, int], part: float) -> float:
    """Within the bucket it falls into as if all of that bucket were evenly spread; seconds.

    What is beyond the last bound counts as the last bound.
    """
    rank = part * sum(buckets.values())
    for bound in (*sorted(bound for bound in buckets if bound), 0):
        count = buckets.get(bound, 0)
        if count and rank <= count:
            lower, upper = (BUCKETS_MS[-1], BUCKETS_MS[-1]) if bound == 0 else (_below(bound), bound)
            return round((lower + (upper - lower) * rank / count) / 1000, 4)
        rank -= count
    return BUCKETS_MS[-1] / 1000


def _below(bound: int) -> int:
    return max((other for other in BUCKETS_MS if other < bound), default=0)
