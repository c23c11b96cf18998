import asyncio, time, pytest
from tests.integration.scores.support import open_session, running, with_limit
from tests.support.processes import *
from tests.integration.scores.test_concurrency import paused

async def load(scores, seconds, rate=50):
    lat=[]; codes=[]
    sessions=[open_session() for _ in range(25)]
    async def one(s):
        b=time.perf_counter()
        r=await scores.update(s)
        lat.append(time.perf_counter()-b); codes.append(r.status_code)
    tasks=[]
    t0=time.perf_counter(); n=0
    while time.perf_counter()-t0<seconds:
        tasks.append(asyncio.create_task(one(sessions[n%25]))); n+=1
        await asyncio.sleep(max(0,t0+n/rate-time.perf_counter()))
    await asyncio.gather(*tasks)
    lat.sort()
    from collections import Counter
    return f"n={len(lat)} p50={1000*lat[len(lat)//2]:.1f} p90={1000*lat[int(len(lat)*.9)]:.1f} p99={1000*lat[int(len(lat)*.99)-1]:.1f} max={1000*lat[-1]:.1f} {Counter(codes)}"

@pytest.mark.timeout(200)
async def test_away(stores, settings):
    settings=with_limit(settings, 100000)
    async with running(settings) as scores:
        print("\nnormal", await load(scores,4))
        with paused(stores.redis.processes):
            print("redis frozen", await load(scores,8))
        await asyncio.sleep(6)
        print("normal", await load(scores,4))
        with paused([stores.nats.process]):
            print("nats frozen", await load(scores,8))
        await asyncio.sleep(3)
        print("normal", await load(scores,4))
        for p in stores.redis.processes: p.kill()
        print("redis dead", await load(scores,8))
