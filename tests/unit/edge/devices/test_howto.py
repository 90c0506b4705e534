"""The example of the Modbus page is one that the agent takes."""

from __future__ import annotations

from pathlib import Path

from skerry.api import devices
from skerry.base import yaml
from skerry.edge.devices.mappers.modbus import ModbusDrivers

PAGE = Path(__file__).parents[4] / "docs" / "howto" / "connect-a-modbus-device.md"


def test_the_example_can_be_driven() -> None:
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    model, device = yaml.load_all(text)
    view = devices.view(device, model)
    assert view.problems == ()
    assert [point.name for point in view.points] == ["temperature", "setpoint"]
    assert view.points[1].desired == "21.5"
    ModbusDrivers().factory(view)
