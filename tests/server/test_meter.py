"""What a task has used, as its server measures it."""

from __future__ import annotations

from pathlib import Path

from dispycos.actors.server.meter import PEAK_S, Meter
from tests.kit.programs import User


def test_of_short_tasks_nothing_is_known_and_no_peak_of_those_that_took_little_time() -> None:
    meter = Meter()
    assert meter.end(1.0) == (None, None)
    meter.begin(measured=False)
    assert meter.end(1.0) == (None, None)
    meter.begin(measured=True)
    cpu_s, peak = meter.end(PEAK_S / 2)
    assert cpu_s is not None and 0 <= cpu_s < 1 and peak is None
    meter.begin(measured=True)
    assert meter.end(PEAK_S)[1] is not None


def test_a_handle_tells_what_its_task_used(user: User, tmp_path: Path) -> None:
    script = user.script(
        "usage.py",
        """
        import dispycos, time

        def compute():
            until = time.process_time() + 0.2
            while time.process_time() < until:
                pass

        def nap():
            time.sleep(0.2)

        def fill():
            data = bytearray(200 << 20)
            data[::4096] = bytes(len(data[::4096]))
            time.sleep(0.02)

        async def wait(*, task):
            await task.sleep(0.05)

        async def main():
            async with dispycos.Client() as client:
                handles = [client.submit(compute), client.submit(nap), client.submit(fill), client.io_submit(wait)]
                for handle in handles:
                    await handle
                computed, napped, filled, waited = (handle.usage for handle in handles)
                assert 0.2 <= computed.cpu_s <= computed.seconds + 0.02, computed
                assert napped.cpu_s < 0.1 and napped.seconds >= 0.2, napped
                assert filled.peak_bytes > 190 << 20, filled
                assert waited.cpu_s is None and waited.peak_bytes is None and waited.seconds >= 0.05, waited

        dispycos.run(main)
        """,
    )
    script.succeed()
