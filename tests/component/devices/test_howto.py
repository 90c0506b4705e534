"""What the pages about devices tell to run does what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.api import devices
from skerry.base import yaml
from skerry.edge.devices.mappers.modbus import ModbusDrivers

PAGES = Path(__file__).resolve().parents[3] / "docs/howto"


@asynccontextmanager
async def started(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_the_simulated_thermometer_has_the_registers_of_the_modbus_page() -> None:
    page = (PAGES / "connect-a-modbus-device.md").read_text()
    found = re.search(r"```sh\n(skerry device simulate .*)\n```", page)
    assert found, "the page does not say how to try it without a device"
    words = found[1].replace("--port 5020", "--port 0").split()
    model, device = yaml.load_all(page.split("```yaml\n")[1].split("```")[0])
    async with started(sys.executable, "-m", "skerry.cli.main", *words[1:], "-o", "json") as thermometer:
        assert thermometer.stdout is not None
        port = json.loads(await thermometer.stdout.readline())["port"]
        device["spec"]["protocol"]["configData"] = {"host": "127.0.0.1", "port": port}
        view = devices.view(device, model)
        driver = ModbusDrivers().factory(view)
        await driver.connect()
        samples = await driver.read(view.points)
        await driver.close()
    assert 15 < float(samples["temperature"].value) < 28 and samples["setpoint"].value == 21.0
    assert thermometer.returncode == 0


async def test_the_mapper_of_the_page_ends_with_a_code_and_a_reason_where_it_cannot_serve(tmp_path: Path) -> None:
    page = (PAGES / "write-a-device-mapper.md").read_text()
    program = tmp_path / "mapper.py"
    program.write_text(page.split("```python\n")[1].split("```")[0])
    nowhere = str(tmp_path / "missing" / "dmi.sock")
    async with started(sys.executable, str(program), SKERRY_DMI_SOCKET=nowhere) as mapper:
        _, errors = await mapper.communicate()
    assert mapper.returncode == 2
    assert "cannot listen on" in errors.decode() and "Traceback" not in errors.decode()


async def test_the_mapper_of_the_page_waits_for_an_agent_and_ends_when_told(tmp_path: Path) -> None:
    page = (PAGES / "write-a-device-mapper.md").read_text()
    program = tmp_path / "mapper.py"
    program.write_text(page.split("```python\n")[1].split("```")[0])
    own = Path("/tmp") / f"skerry-howto-{os.getpid()}"  # short: sockets lie there
    own.mkdir()
    try:
        async with started(sys.executable, str(program), SKERRY_DMI_SOCKET=str(own / "dmi.sock")) as mapper:
            async with asyncio.timeout(60):
                while not (own / "thermo-mapper.sock").exists():
                    assert mapper.returncode is None
                    await asyncio.sleep(0.05)
            mapper.send_signal(signal.SIGTERM)
            await mapper.communicate()
        assert mapper.returncode == 0
    finally:
        for path in own.iterdir():
            path.unlink()
        own.rmdir()
