"""Many sessions at once through the official client's asyncio API: many.py COUNT IMAGE. One JSON object goes to stdout."""
import asyncio
import json
import sys
import time

from ai.backend.client.session import AsyncSession


async def main(count: int, image: str) -> dict:
    async with AsyncSession() as api:
        began = time.time()

        async def make(i: int):
            return await api.ComputeSession.get_or_create(
                image, name=f"many-{i:03d}", max_wait=120,
                resources={"cpu": "1", "mem": "80m"}, resource_opts={"shmem": "8m"})

        made = await asyncio.gather(*(make(i) for i in range(count)), return_exceptions=True)
        failed = [repr(m) for m in made if isinstance(m, BaseException)]
        statuses = [m.status for m in made if not isinstance(m, BaseException)]
        running = time.time() - began
        answers = await asyncio.gather(*(m.execute(f"run-{i}", f"print({i} * 2)") for i, m in enumerate(made) if not isinstance(m, BaseException)), return_exceptions=True)
        right = 0
        for i, a in enumerate(answers):
            if not isinstance(a, BaseException) and any(rec[1].strip() == str(i * 2) for rec in a["console"]):
                right += 1
        began = time.time()
        ended = await asyncio.gather(*(m.destroy() for m in made if not isinstance(m, BaseException)), return_exceptions=True)
        undestroyed = [repr(e) for e in ended if isinstance(e, BaseException)]
        return {"running": statuses.count("RUNNING"), "failed": failed[:3], "right_answers": right, "running_after_s": running,
                "undestroyed": undestroyed[:3], "destroyed_after_s": time.time() - began}


print(json.dumps(asyncio.run(main(int(sys.argv[1]), sys.argv[2]))))
