"""Third-party programs for tests: fetched as Debian packages, unpacked below ``.parts/``, never installed.

``fetch("mosquitto", "mosquitto")`` gives a program that runs from there. ``Containerd`` is a whole private containerd:
own root, state, socket, network, images; the machine's own engine, rules and images are never touched.
``SKERRY_CONTAINERD`` names a directory with another containerd's programs, for another version than the packages have.
Only tests and benches import this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / ".parts"
CONTAINERD_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "busybox-static")
OTHER_CONTAINERD = os.environ.get("SKERRY_CONTAINERD", "")
BUSYBOX_IMAGE = "skerry.test/busybox:1"
PAUSE_IMAGE = "skerry.test/pause:1"
OTHER_HANDLER = "runc-strict"
"""A second name under which every containerd here runs containers: a handler that a RuntimeClass may name."""
_APPLETS = "sh sleep cat pwd echo date env id hostname ip ls mkdir true false test printf wget nc httpd dd head kill ps"


class PartMissing(Exception):
    """The machine cannot give this part; the text says why and what would help."""


@dataclass(frozen=True)
class Part:
    """A program that runs from the unpacked packages with ``environment`` added."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """The whole environment to start it with."""
        return {**os.environ, **self.environment}


def fetch(program: str, *packages: str) -> Part:
    """A program: the machine's own, else from ``packages`` (which it may need libraries from).

    Raises:
        PartMissing: neither is there.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found:
        return Part(Path(found))
    root = unpack(*packages)
    path = _program_in(root, program)
    places = ("usr/lib/*-linux-*", "usr/lib/*-linux-*/systemd")
    libraries = [str(p) for place in places for p in root.glob(place) if p.is_dir()]
    return Part(path, {"LD_LIBRARY_PATH": ":".join(libraries)})


def unpack(*packages: str) -> Path:
    """Fetch and unpack packages with the libraries that this machine lacks; gives the root below ``.parts/``.

    Raises:
        PartMissing: not a Debian-like machine, offline, or unknown package.
    """
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise PartMissing(f"{tool} is not on this machine (not Debian or Ubuntu); install {', '.join(packages)}")
    root = PARTS / "root"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(PARTS / "lock"):
        for package in packages:
            _unpack_one(package, root)
        _add_libraries(packages, root)
    return root


def _program_in(root: Path, program: str) -> Path:
    for directory in ("usr/bin", "usr/sbin", "bin", "sbin"):
        path = root / directory / program
        if path.exists():
            return path
    raise PartMissing(f"the unpacked packages hold no {program}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack_one(package: str, root: Path) -> None:
    done = PARTS / "done" / package
    if done.exists():
        return
    with tempfile.TemporaryDirectory(dir=PARTS) as scratch:
        _download(package, Path(scratch))
        for archive in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, root], check=True, capture_output=True)
    done.parent.mkdir(exist_ok=True)
    done.touch()


def _download(package: str, directory: Path) -> None:
    tries = [[], _own_lists(), []]
    errors = ""
    for options in tries:
        if options:
            _run_apt([*options, "update"], directory)
        result = _run_apt([*options, "download", package], directory)
        if result.returncode == 0:
            return
        errors = result.stderr.strip()
    raise PartMissing(f"cannot download Debian package {package}; is this machine online? apt-get: {errors[-300:]}")


def _own_lists() -> list[str]:
    """Options for package lists of our own, so that the machine's stay as they are and no root is needed."""
    state = PARTS / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"]


def _run_apt(arguments: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    options = ["-o", "Acquire::Retries=5", "-o", "Acquire::http::Timeout=20"]
    if os.geteuid() == 0:
        options += ["-o", "APT::Sandbox::User=root"]
    return subprocess.run(["apt-get", "-q", *options, *arguments], cwd=directory, capture_output=True, text=True)


def _add_libraries(packages: Sequence[str], root: Path) -> None:
    """Fetch direct and indirect dependencies while a program of the packages misses a shared library."""
    queue = list(packages)
    seen: set[str] = set()
    while queue and _missing_libraries(root):
        package = queue.pop(0)
        for dependency in _dependencies(package):
            if dependency not in seen and dependency.startswith("lib") and not dependency.startswith("libc6"):
                seen.add(dependency)
                queue.append(dependency)
                with contextlib.suppress(PartMissing):
                    _unpack_one(dependency, root)


def _missing_libraries(root: Path) -> set[str]:
    libraries = ":".join(str(p) for p in root.glob("usr/lib/*-linux-*"))
    programs = [p for d in ("usr/bin", "usr/sbin") for p in (root / d).glob("*") if p.is_file() and not p.is_symlink()]
    missing: set[str] = set()
    for program in programs:
        listed = subprocess.run(
            ["ldd", program], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": libraries}
        )
        missing |= set(re.findall(r"(\S+) => not found", listed.stdout))
    return missing


def _dependencies(package: str) -> list[str]:
    for options in ([], _own_lists()):
        listed = subprocess.run(
            ["apt-cache", *options, "depends", "--no-recommends", "--no-suggests", package],
            capture_output=True,
            text=True,
        )
        if found := re.findall(r"^\s+(?:Pre)?Depends: (\S+)", listed.stdout, re.MULTILINE):
            return [name for name in found if not name.startswith("<")]
    return []


def _free_subnet() -> str:
    taken = Path("/proc/net/fib_trie").read_text()
    start = os.getpid() % 250
    for step in range(250):
        net = f"10.231.{(start + step) % 250}"
        if f"{net}.0" not in taken:
            return net
    raise PartMissing("no free network in 10.231.0.0/16")


def busybox_program() -> bytes:
    """The static busybox, for images.

    Raises:
        PartMissing: no package.
    """
    return _program_in(unpack("busybox-static"), "busybox").read_bytes()


def has_capability(number: int) -> bool:
    """Whether this process has an effective capability (24 is CAP_SYS_RESOURCE)."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> number & 1)


def image_archive(tag: str, busybox: bytes, command: Sequence[str]) -> bytes:
    """A docker archive of an image that holds busybox and runs ``command``."""
    layer = image_layer(busybox)
    digest = sha256(layer).hexdigest()
    architecture = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(os.uname().machine, os.uname().machine)
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/bin:/sbin:/usr/bin"], "Cmd": list(command), "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "2024-01-01T00:00:00Z"}],
        }
    ).encode()
    config_name = f"{sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    return tar_of({config_name: config, "layer.tar": layer, "manifest.json": manifest})


def image_layer(busybox: bytes, filler: bytes = b"") -> bytes:
    """A layer with busybox, the links to it, and ``filler`` in ``/filler``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("proc", 0o755), ("dev", 0o755)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, content, mode in (
            ("bin/busybox", busybox, 0o755),
            ("etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", 0o644),
            ("etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644),
            *([("filler", filler, 0o644)] if filler else []),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for applet in _APPLETS.split():
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return out.getvalue()


def tar_of(files: dict[str, bytes], *, mode: int = 0o644) -> bytes:
    """A tar archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class Containerd:
    """A private containerd. ``start()``, use ``socket``, ``close()``: afterwards nothing of it is left.

    Args:
        has_network: write a CNI conflist; without one every sandbox with its own network fails.
        has_images: import the pause and busybox images.
        has_cri: False switches the CRI plugin off, as some packages do.
        restricts_oom: ``restrict_oom_score_adj``; None sets it where CAP_SYS_RESOURCE is lacking.
        has_own_net: run it in a network name space of its own, with iptables, so that host ports change no rule of the
            machine; ``inside`` runs a program there.
        has_iptables: so that host ports can be had; for a name space that is the caller's own.
        has_own_spaces: keep network name spaces in its own directory; False takes ``/run/netns``, as packages do.
        subnet: the first three numbers of its pods' addresses; empty for some that are free.
        proxy: URL of the proxy that it pulls through; ``certs.d`` of its directory may describe registries then.

    Raises:
        PartMissing: not root, no cgroups, or no packages.
    """

    def __init__(
        self,
        *,
        has_network: bool = True,
        has_images: bool = True,
        has_cri: bool = True,
        restricts_oom: bool | None = None,
        has_own_net: bool = False,
        has_iptables: bool = False,
        has_own_spaces: bool = True,
        subnet: str = "",
        proxy: str = "",
    ) -> None:
        if os.geteuid() != 0:
            raise PartMissing("containerd needs root")
        if not Path("/sys/fs/cgroup").is_dir():
            raise PartMissing("there are no control groups on this machine")
        self._packages = unpack(*CONTAINERD_PACKAGES, *(["iptables"] if has_own_net or has_iptables else []))
        self._has_own_net = has_own_net
        self._has_iptables = has_own_net or has_iptables
        self._has_own_spaces = has_own_spaces
        self._has_network = has_network
        self._subnet = subnet
        self._proxy = proxy
        self._has_images = has_images
        self._has_cri = has_cri
        self._restricts_oom = not has_capability(24) if restricts_oom is None else restricts_oom
        self.directory = Path(tempfile.mkdtemp(prefix="skc-"))
        self.socket = self.directory / "c.sock"
        self.bridge = f"skc{os.getpid() % 100_000}x{sha256(str(self.directory).encode()).hexdigest()[:3]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def cni_directory(self) -> Path:
        """Where the conflist is, or would be."""
        return self.directory / "cni"

    @property
    def cdi_directory(self) -> Path:
        """Where vendors describe CDI devices, to a containerd that knows them (1.7)."""
        return self.directory / "cdi"

    @property
    def plugin_directory(self) -> Path:
        """Where the CNI plugins are."""
        return self._packages / "usr/lib/cni"

    def start(self) -> None:
        """Start it and wait until it answers."""
        for name in ("root", "state", "cni"):
            (self.directory / name).mkdir(exist_ok=True)
        (self.directory / "config.toml").write_text(self._config())
        conflist = self.cni_directory / "10-test.conflist"
        if self._has_network and not conflist.exists():  # a second start keeps the subnet of its bridge
            conflist.write_text(json.dumps(self._conflist()))
        with (self.directory / "log").open("ab") as log:
            prefix = ["unshare", "--net"] if self._has_own_net else []
            self._process = subprocess.Popen(
                [*prefix, self._program("containerd"), "-c", str(self.directory / "config.toml")],
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        self._wait_until_up()
        if self._has_own_net:
            self.inside("ip", "link", "set", "lo", "up")
        if self._has_images:
            self._import_images()
            self._has_images = False  # a second start finds them

    def inside(self, *command: str) -> str:
        """Run a program in the network name space of the daemon; its output."""
        assert self._process is not None
        where = ["nsenter", f"--net=/proc/{self._process.pid}/ns/net"]
        environment = self._environment()
        result = subprocess.run(
            [*where, *command], check=True, capture_output=True, text=True, timeout=30, env=environment
        )
        return result.stdout

    def reboot(self) -> None:
        """What a power cut and a boot do: the daemon, shims and containers are gone, and with them everything below
        ``/run``: the state directory, network namespaces, the bridge. ``start()`` brings the daemon back."""
        addresses = [_shim_socket(path) for path in self._bundles()]
        ids = [path.name for path in self._bundles()]
        if self._process is not None:
            self.kill()
        self._kill_shims()
        self._unmount()
        for address in addresses:
            if address is not None:
                address.unlink(missing_ok=True)
        shutil.rmtree(self.directory / "state")
        shutil.rmtree(self.directory / "runc", ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        _remove_cgroups(ids)
        if Path(f"/sys/class/net/{self.bridge}").exists():
            subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)

    def kill(self) -> None:
        """SIGKILL the daemon; containers keep running. ``start()`` brings it back."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def ctr(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run ctr in the Kubernetes namespace."""
        command = [self._program("ctr"), "-a", str(self.socket), "-n", "k8s.io", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, env=self._environment(), timeout=60)
        if result.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {result.stderr.decode()}")
        return result.stdout.decode()

    def close(self) -> None:
        """End containers, shims and the daemon; remove mounts, bridge, control groups and files."""
        ids = [path.name for path in self._bundles()]
        addresses = [_shim_socket(path) for path in self._bundles()]
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._kill_shims()
        self._unmount()
        for address in addresses:
            if address is not None:
                address.unlink(missing_ok=True)
        _remove_cgroups(ids)
        _remove_cni_results(ids, self.directory)
        if Path(f"/sys/class/net/{self.bridge}").exists():
            subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
        for empty in ("/run/containerd/s", "/run/containerd/fifo", "/run/containerd"):
            with contextlib.suppress(OSError):
                Path(empty).rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _program(self, name: str) -> str:
        if OTHER_CONTAINERD and (path := Path(OTHER_CONTAINERD, name)).exists():
            return str(path)
        return str(_program_in(self._packages, name))

    def _environment(self) -> dict[str, str]:
        path = f"{self._packages}/usr/bin:{self._packages}/usr/sbin:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        if OTHER_CONTAINERD:  # it looks for its shim there
            path = f"{OTHER_CONTAINERD}:{path}"
        libraries = ":".join(str(p) for p in self._packages.glob("usr/lib/*-linux-*"))
        if self._has_iptables:
            path = f"{self.iptables_directory}:{path}"
        environment = {"PATH": path, "TMPDIR": str(self.directory)}
        if self._proxy:
            environment |= {"HTTP_PROXY": self._proxy, "HTTPS_PROXY": self._proxy}
        return {**environment, "LD_LIBRARY_PATH": libraries} if libraries else environment

    @property
    def iptables_directory(self) -> Path:
        """Where iptables is under its usual names, for ``PATH``: a package's installation would link them."""
        directory = self.directory / "iptables"
        if not directory.exists():
            directory.mkdir()
            libraries = ":".join(str(p) for p in self._packages.glob("usr/lib/*-linux-*"))
            extensions = next(self._packages.glob("usr/lib/*/xtables"), "")
            program = _program_in(self._packages, "xtables-nft-multi")
            for name in ("iptables", "ip6tables", "iptables-save", "iptables-restore"):
                script = directory / name
                script.write_text(
                    f'#!/bin/sh\nexport LD_LIBRARY_PATH="{libraries}" XTABLES_LIBDIR="{extensions}"\n'
                    f'exec "{program}" {name} "$@"\n'
                )
                script.chmod(0o755)
        return directory

    def _bundles(self) -> list[Path]:
        return list((self.directory / "state/io.containerd.runtime.v2.task/k8s.io").glob("*"))

    def _config(self) -> str:
        cri = '[plugins."io.containerd.grpc.v1.cri"'
        quiet = ["btrfs", "zfs", "aufs", "devmapper"]
        disabled = ["io.containerd.internal.v1.opt", *(f"io.containerd.snapshotter.v1.{name}" for name in quiet)]
        if not self._has_cri:
            disabled.append("io.containerd.grpc.v1.cri")
        cdi = f'enable_cdi = true\n  cdi_spec_dirs = ["{self.cdi_directory}"]' if OTHER_CONTAINERD else ""
        registry = f'{cri}.registry]\n  config_path = "{self.directory}/certs.d"' if self._proxy else ""
        return f"""
version = 2
root = "{self.directory}/root"
state = "{self.directory}/state"
disabled_plugins = {json.dumps(disabled)}
[grpc]
  address = "{self.socket}"
[ttrpc]
  address = "{self.socket}.ttrpc"
{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {str(self._restricts_oom).lower()}
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = {str(self._has_own_spaces).lower()}
  {cdi}
{cri}.cni]
  bin_dir = "{self.plugin_directory}"
  conf_dir = "{self.cni_directory}"
{registry}
{cri}.containerd]
  snapshotter = "{self._snapshotter()}"
{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
{cri}.containerd.runtimes.runc.options]
  BinaryName = "{self._program("runc")}"
  Root = "{self.directory}/runc"
  SystemdCgroup = false
{cri}.containerd.runtimes.{OTHER_HANDLER}]
  runtime_type = "io.containerd.runc.v2"
{cri}.containerd.runtimes.{OTHER_HANDLER}.options]
  BinaryName = "{self._program("runc")}"
  Root = "{self.directory}/runc"
  SystemdCgroup = false
"""

    def _snapshotter(self) -> str:
        """overlayfs, or plain copies where this directory's file system cannot carry an overlay."""
        filesystem = subprocess.run(
            ["stat", "-f", "-c", "%T", str(self.directory)], capture_output=True, text=True
        ).stdout.strip()
        return "native" if filesystem in ("overlayfs", "fuseblk", "UNKNOWN") else "overlayfs"

    def _conflist(self) -> dict[str, Any]:
        net = self._subnet or _free_subnet()
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{self.directory}/ipam",
                "ranges": [[{"subnet": f"{net}.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": self.bridge, "plugins": [bridge, portmap]}

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                self.ctr("plugins", "ls")
                return
            time.sleep(0.05)
        tail = (self.directory / "log").read_text()[-2000:]
        raise PartMissing(f"containerd did not start: {tail}")

    def restore_images(self) -> None:
        """Import the images again that a test has removed: one image may have several names, and loses all at once."""
        if not {BUSYBOX_IMAGE, PAUSE_IMAGE} <= set(self.ctr("images", "ls", "-q").split()):
            self._import_images()

    def _import_images(self) -> None:
        busybox = _program_in(self._packages, "busybox").read_bytes()
        for tag, command in ((BUSYBOX_IMAGE, ["/bin/sh"]), (PAUSE_IMAGE, ["/bin/sleep", "infinity"])):
            archive = self.directory / "image.tar"
            archive.write_bytes(image_archive(tag, busybox, command))
            self.ctr("images", "import", str(archive))
            archive.unlink()
        if self._has_cri:
            self._wait_until_known()

    def _wait_until_known(self) -> None:
        """The CRI plugin hears of an image that it did not pull by an event, and marks it then."""
        deadline = time.monotonic() + 30
        while (lines := self.ctr("images", "ls").splitlines()) and time.monotonic() < deadline:
            known = {line.split()[0] for line in lines if "io.cri-containerd.image=managed" in line}
            if {BUSYBOX_IMAGE, PAUSE_IMAGE} <= known:
                return
            time.sleep(0.05)
        tail = (self.directory / "log").read_text()[-2000:]
        raise RuntimeError(f"the CRI plugin does not know its images: {lines}; {tail}")

    def _kill_shims(self) -> None:
        deadline = time.monotonic() + 10
        while (pids := self._shim_family()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _shim_family(self) -> list[int]:
        """Shims of this containerd (their command line names our socket) and everything that they started."""
        parents = _parents()
        marks = ("containerd-shim", str(self.socket))
        own = {pid for pid in parents if all(mark in _command_line(pid) for mark in marks)}
        family, grown = set(own), True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in family} - family
            family |= children
            grown = bool(children)
        return sorted(family - own) + sorted(own)

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def _shim_socket(bundle: Path) -> Path | None:
    with contextlib.suppress(OSError):
        return Path((bundle / "address").read_text().removeprefix("unix://"))
    return None


def _parents() -> dict[int, int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            stat = (path / "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.name)] = int(parent)
    return parents


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def cgroups_named(name: str) -> list[Path]:
    """Control groups of a name in every tree: version 2 only, version 1, and both side by side."""
    return [path for tree in _cgroup_trees() if (path := tree / name).is_dir()]


def _cgroup_trees() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [root] if (root / "cgroup.controllers").exists() else list(root.glob("*"))


def _remove_cgroups(ids: Sequence[str]) -> None:
    for controller in _cgroup_trees():
        try:
            pods = list(controller.glob("skerry-*/pod*"))
        except FileNotFoundError:  # another test's, gone meanwhile
            pods = []
        own = [parent / i for i in ids for parent in (controller / "k8s.io", *pods) if (parent / i).is_dir()]
        for path in [*own, *(parent for each in own for parent in (each.parent, each.parent.parent))]:
            if path != controller:
                with contextlib.suppress(OSError):
                    path.rmdir()


def _remove_cni_results(ids: Sequence[str], directory: Path) -> None:
    """Those of sandboxes, and those that tell of name spaces in a directory."""
    results = Path("/var/lib/cni/results")
    for path in results.glob("*"):
        with contextlib.suppress(OSError):
            if any(i in path.name for i in ids) or str(directory) in path.read_text():
                path.unlink()
    for directory in (results, results.parent):
        with contextlib.suppress(OSError):
            directory.rmdir()


_CONTAINERD = pytest.StashKey[Containerd]()


@contextlib.asynccontextmanager
async def own_containerd() -> AsyncIterator[Containerd]:
    """A containerd of the caller's own, started, and closed at the end.

    Raises:
        PartMissing: there cannot be one here.
    """
    engine = Containerd()
    try:
        await asyncio.to_thread(engine.start)
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


def shared_containerd(config: pytest.Config) -> Containerd:
    """The one containerd of this test process, closed at its end; skips where there cannot be one."""
    if _CONTAINERD not in config.stash:
        try:
            engine = Containerd()
        except PartMissing as exc:
            pytest.skip(str(exc))
        config.add_cleanup(engine.close)
        engine.start()
        config.stash[_CONTAINERD] = engine
    engine = config.stash[_CONTAINERD]
    engine.restore_images()
    return engine
