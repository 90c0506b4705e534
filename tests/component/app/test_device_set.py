"""``skerry device set``: what the model rules out is refused before anything is written."""

from __future__ import annotations

import pytest

from skerry.api.gvk import DEVICEMODELS, DEVICES
from skerry.app import samples
from skerry.app.client import CommandFailed
from skerry.app.devices import write_value
from skerry.testing.fakekube import FakeKubeApi

NAME = samples.THERMOMETER


@pytest.fixture
async def api() -> FakeKubeApi:
    api = FakeKubeApi()
    await api.create(DEVICEMODELS, samples.thermometer_model(), namespace="default")
    await api.create(DEVICES, samples.thermometer("gate-1", host="127.0.0.1", port=502), namespace="default")
    return api


@pytest.mark.parametrize(
    ("prop", "wanted", "said"),
    [
        ("setpoint", "31", "31 is above the maximum 30"),
        ("setpoint", "4.5", "4.5 is below the minimum 5"),
        ("setpoint", "warm", "is not a FLOAT"),
        ("temperature", "20", "can only be read"),
        ("humidity", "20", 'has no property "humidity"'),
    ],
)
async def test_an_impossible_value_is_refused_at_once(api: FakeKubeApi, prop: str, wanted: str, said: str) -> None:
    before = await api.get(DEVICES, NAME, namespace="default")
    with pytest.raises(CommandFailed) as refused:
        await write_value(api, "default", NAME, prop, wanted, wait_s=3600)
    assert said in str(refused.value) and refused.value.hint
    assert await api.get(DEVICES, NAME, namespace="default") == before


async def test_a_possible_value_is_written_and_stays_wanted(api: FakeKubeApi) -> None:
    with pytest.raises(CommandFailed, match="the device has reported nothing"):
        await write_value(api, "default", NAME, "setpoint", "21.5", wait_s=0)
    properties = (await api.get(DEVICES, NAME, namespace="default"))["spec"]["properties"]
    assert [item["desired"] for item in properties if item["name"] == "setpoint"] == [{"value": "21.5"}]


async def test_a_device_without_a_model_takes_any_value(api: FakeKubeApi) -> None:
    await api.delete(DEVICEMODELS, NAME, namespace="default")
    with pytest.raises(CommandFailed, match="the device has reported nothing"):
        await write_value(api, "default", NAME, "setpoint", "99", wait_s=0)
