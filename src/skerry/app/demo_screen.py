"""The last screen of ``skerry demo``: only facts that the tour has measured, and commands that it has run."""

from __future__ import annotations

from typing import Any


def render(facts: dict[str, Any]) -> str:
    """The screen as text.

    Args:
        facts: what ``Tour`` gathered; parts that the tour left out are absent.
    """
    parts = [
        _title(facts),
        _steps(facts),
        _pod(facts),
        _device(facts),
        _plug(facts),
        _memory(facts),
        _next(facts),
        _missing(facts),
    ]
    return "\n".join(part for part in parts if part)


def _title(facts: dict[str, Any]) -> str:
    return (
        f"\nSkerry runs: one cloud, edge node {facts['node']}, one pod, one device. "
        f"Ready {facts['took_s']:.1f} s after the start.\n"
    )


def _steps(facts: dict[str, Any]) -> str:
    return "Steps\n" + "\n".join(f"  {step['took_s']:6.2f} s  {step['step']}" for step in facts["steps"]) + "\n"


def _pod(facts: dict[str, Any]) -> str:
    pod = facts["pod"]
    how = "a container of the engine that is here" if facts["runtime"] == "cri" else "a supervised process"
    return f"Pod {pod['name']} runs on {pod['node']} as {how}; its newest line, through the tunnel:\n  {facts['log']}\n"


def _device(facts: dict[str, Any]) -> str:
    reading, setpoint = facts["reading"], facts.get("setpoint")
    text = f"Thermometer: {reading['value']} °C, {reading['age_s']:.1f} s old when it was read.\n"
    if setpoint:
        text += (
            f"  Set point {setpoint['wanted']} written to the register; the register answered {setpoint['reported']}.\n"
        )
    if mqtt := facts.get("mqtt"):
        text += f"  On MQTT, for programs on the node: {mqtt['topic']} said {mqtt['value']}.\n"
    return text


def _plug(facts: dict[str, Any]) -> str:
    plug = facts.get("plug")
    if plug is None:
        return ""
    ids = ", ".join(text.rpartition("/")[2][:12] for text in plug["containers_after"].values())
    return (
        f"The plug was pulled: the cloud was killed with SIGKILL and stayed dead for {plug['seconds']:.0f} s.\n"
        f"  The pod did not notice: same container ({ids}), {plug['restarts']} restarts.\n"
        f"  Meanwhile the thermometer gave out {plug['readings_out']} readings, {plug['readings_in']} came in;\n"
        f"  the newest was in the cloud {plug['back_s']:.1f} s after the cloud was back.\n"
    )


def _memory(facts: dict[str, Any]) -> str:
    memory = facts.get("memory_mib")
    return f"Memory: cloud {memory['cloud']} MiB, edge agent {memory['edge']} MiB.\n" if memory else ""


def _next(facts: dict[str, Any]) -> str:
    commands = "\n".join(f"  {command}" for command in facts.get("commands", ()))
    return (
        f"Try next (each was run by this demo just now)\n  export KUBECONFIG={facts['kubeconfig']}\n{commands}\n\n"
        f"Data: {facts['data']}    Logs: {facts['logs']}\n"
        f"Stop: Ctrl-C (a second start goes on where this one stopped)    Remove all of it: {facts['clean']}\n"
        f"Add a real machine: run the cloud for others to reach, `skerry cloud run --advertise HOST`, then\n"
        f"  `skerry token create --node NAME`, and the line that it prints on the machine.\n"
    )


def _missing(facts: dict[str, Any]) -> str:
    lines = facts.get("missing") or ()
    return "Not shown on this machine\n" + "".join(f"  {line}\n" for line in lines) if lines else ""
