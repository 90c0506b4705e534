"""The example of the Modbus page is one that the agent takes."""

from __future__ import annotations

from pathlib import Path

from skerry.api import devices
from skerry.base import yaml
from skerry.edge.devices.mappers.modbus import ModbusDrivers
from skerry.sdk.mapper import Mapper

PAGE = Path(__file__).parents[4] / "docs" / "howto" / "connect-a-modbus-device.md"


def test_the_example_can_be_driven() -> None:
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    model, device = yaml.load_all(text)
    view = devices.view(device, model)
    assert view.problems == ()
    assert [point.name for point in view.points] == ["temperature", "setpoint"]
    assert view.points[1].desired == "21.5"
    ModbusDrivers().factory(view)


def test_the_example_mapper_is_python_that_runs() -> None:
    text = (PAGE.parent / "write-a-device-mapper.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(text, "example", "exec"), scope)
    assert isinstance(scope["mapper"], Mapper)
