"""What other engines than containerd answer."""

import pytest

from skerry.runtime.cri.client import is_gone
from skerry.runtime.cri.engine import exec_result
from skerry.runtime.ports import EngineError, ExecTimeout


def test_a_command_that_ended() -> None:
    assert exec_result({"stdout": b"a", "stderr": b"b"}, "sh", 1) == (0, b"ab")
    assert exec_result({"exit_code": 127, "stderr": b"sh: x: not found"}, "sh", 1) == (127, b"sh: x: not found")
    assert exec_result({"exit_code": -1, "stderr": b"else"}, "sh", 1) == (-1, b"else")


def test_cri_o_tells_of_a_timeout_in_its_answer() -> None:
    with pytest.raises(ExecTimeout, match="'sh' timed out after 2s"):
        exec_result({"exit_code": -1, "stderr": b"command timed out"}, "sh", 2)


def test_docker_tells_in_the_output_that_there_is_no_program() -> None:
    text = (
        b'OCI runtime exec failed: exec failed: unable to start container process: exec: "x": executable file not found'
    )
    with pytest.raises(EngineError, match='"x": executable file not found'):
        exec_result({"exit_code": 126, "stdout": text + b"\r\n"}, "x", 1)


@pytest.mark.parametrize("text", [
    "an error occurred when try to find container: not found",
    'failed to get container "c" log path: Error response from daemon: No such container: c',
])  # fmt: skip
def test_what_is_gone(text: str) -> None:
    assert is_gone(text)
    assert not is_gone("permission denied")
