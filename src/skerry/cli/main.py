"""The command ``skerry``: argument parsing and exit codes only.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by the other side, 130 interrupted.
Each command imports one ``app`` module when it runs, so that the agent never loads the cloud's libraries.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skerry import __version__
from skerry.app import output
from skerry.base.errors import ConfigError, Refused, SkerryError
from skerry.base.obs import levels, log
from skerry.base.oserrors import in_words

Run = Callable[[argparse.Namespace], int]
N = TypeVar("N", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into words and an exit code."""
    args = parser().parse_args(argv)
    run: Run = args.run
    log.setup(level=args.log_level or ("info" if run in _SERVERS else "warning"), form=args.log_format or "auto")
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except ConfigError as exc:
        output.fail(str(exc), exc.hint)
        return 2
    except Refused as exc:
        output.fail(str(exc), exc.hint)
        return 3
    except SkerryError as exc:
        output.fail(str(exc), exc.hint)
        return 1
    except OSError as exc:
        output.fail(*in_words(exc))
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line; the reference in the docs is made from it."""
    top = argparse.ArgumentParser(
        prog="skerry",
        description="Cloud-native edge computing: one Kubernetes API over every edge node, also the offline ones.",
        epilog="Begin with: skerry demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"skerry {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _tour(commands)
    _cloud(commands)
    _edge(commands)
    _fleet(commands)
    _devices(commands)
    _objects(commands)
    _care(commands)
    return top


def _tour(commands: Any) -> None:
    demo = _command(
        commands, "demo", _demo, "five-minute tour on this machine", "skerry demo --exit-when-ready -o json"
    )
    demo.add_argument(
        "--exit-when-ready", action="store_true", help="leave when the tour is done; everything is stopped"
    )
    demo.add_argument(
        "--runtime", choices=("auto", "process"), default="auto",
        help="how the pod runs: auto takes a container engine that holds a usable image (auto)",
    )  # fmt: skip
    demo.add_argument("--clean", action="store_true", help="remove every trace of the demo and end")
    demo.add_argument("--plug-s", type=_seconds, default=15.0, metavar="S", help="how long the cloud stays killed (15)")
    demo.add_argument("--no-plug", action="store_true", help="leave out the pulled plug")
    _serving(demo)
    up = _command(commands, "up", _up, "cloud and one local edge node in one supervised group", "skerry up --ports any")
    _serving(up)
    up.add_argument("--node", default=None, help="name of the local edge node (this machine's name)")
    up.add_argument("--runtime", choices=("auto", "cri", "process"), default="auto", help="how pods run (auto)")
    _command(commands, "status", _status, "what runs here: cloud, edge node, pods", "skerry status -o json")
    _command(commands, "down", _down, "stop what `skerry up` started in --data", "skerry down")


def _cloud(commands: Any) -> None:
    cloud = commands.add_parser("cloud", help="the cloud process").add_subparsers(metavar="ACTION", required=True)
    run = _command(
        cloud, "run", _cloud_run, "run the cloud in the foreground", "skerry cloud run --advertise cloud.example.com"
    )
    _serving(run)
    run.add_argument(
        "--kubeconfig", type=Path, default=None, metavar="FILE",
        help="use this Kubernetes cluster instead of the embedded API server",
    )  # fmt: skip
    run.add_argument(
        "--advertise",
        default=None,
        metavar="HOST[:PORT],…",
        help="addresses under which nodes reach the cloud; PORT is the join server's, the others keep their distance",
    )
    run.add_argument(
        "--controllers", default=None, metavar="*,-NAME,…", help="control loops that run here; -NAME runs elsewhere"
    )
    keep = _command(
        cloud, "backup", _cloud_backup, "write everything a cloud cannot make anew into one file; it may be running",
        "skerry cloud backup --out /mnt/backups",
    )  # fmt: skip
    keep.add_argument("--out", type=Path, default=None, metavar="DIR|FILE.tar.gz", help="where (DATA/backups)")
    back = _command(
        cloud, "restore", _cloud_restore, "put a backup in place of a lost cloud; nodes need not join again",
        "skerry cloud restore /mnt/backups/skerry-cloud-20260102T030405678Z.tar.gz",
    )  # fmt: skip
    back.add_argument("file", type=Path, help="what `skerry cloud backup` wrote")
    back.add_argument("--force", action="store_true", help="move a cloud that is in --data aside")
    take = _command(
        cloud, "adopt", _cloud_adopt, "go on with the authority of a KubeEdge cloud: its nodes need not join again",
        "skerry cloud adopt --from kubeconfig.yaml",
    )  # fmt: skip
    take.add_argument(
        "--from",
        dest="source",
        type=Path,
        default=None,
        metavar="KUBECONFIG",
        help="of the cluster that cloudcore uses",
    )
    take.add_argument(
        "--cert", type=Path, default=None, metavar="FILE", help="instead: its CA certificate (rootCA.crt)"
    )
    take.add_argument("--key", type=Path, default=None, metavar="FILE", help="and its key (rootCA.key)")
    take.add_argument("--check-only", action="store_true", help="only verify; change nothing")
    _client(take)
    give = _command(
        cloud, "release", _cloud_release, "give the authority (back) to the cluster of a KubeEdge cloud",
        "skerry cloud release --to kubeconfig.yaml",
    )  # fmt: skip
    give.add_argument(
        "--to", dest="target", type=Path, required=True, metavar="KUBECONFIG", help="of the cluster that cloudcore uses"
    )
    give.add_argument("--force", action="store_true", help="also when nodes would have to join again")
    give.add_argument("--check-only", action="store_true", help="only verify; change nothing")
    _client(give)
    token = commands.add_parser("token", help="join tokens").add_subparsers(metavar="ACTION", required=True)
    create = _command(
        token,
        "create",
        _token_create,
        "make a join token and print the join command",
        "skerry token create --node gate-1",
    )
    create.add_argument("--node", default=None, help="bind the token to this node name")
    create.add_argument("--uses", type=int, default=None, metavar="N", help="good for N nodes of any name (1)")
    create.add_argument("--ttl", default="24h", help="how long it is good, such as 30m, 24h, 7d (24h)")
    create.add_argument(
        "--address", default=None, metavar="HOST[:PORT]", help="where nodes reach the join server (as the cloud says)"
    )
    _client(create)
    _client(_command(token, "list", _token_list, "list join tokens", "skerry token list"))
    revoke = _command(token, "revoke", _token_revoke, "make a join token useless", "skerry token revoke 3f2a9c")
    revoke.add_argument("id", help="the token's id, as `skerry token list` shows it")
    _client(revoke)


def _edge(commands: Any) -> None:
    join = _command(
        commands, "join", _join, "make this machine an edge node", "skerry join cloud.example.com --token TOKEN"
    )
    join.add_argument(
        "host", metavar="HOST[:PORT]", help="the cloud's address; PORT is that of the join server (10002)"
    )
    join.add_argument("--token", required=True, help="from `skerry token create`; - reads it from standard input")
    join.add_argument("--node", default=None, help="node name (the token's, else this machine's name)")
    join.add_argument("--runtime", choices=("auto", "cri", "process"), default="auto", help="how pods run (auto)")
    join.add_argument(
        "--cri-socket", default="", metavar="PATH", help="socket of the container engine; else the usual places"
    )
    join.add_argument(
        "--store-key", choices=("file", "host", "tpm2"), default="file",
        help="what keeps the key of stored Secrets and tokens: a file beside the database, systemd's credentials with"
        " the key of this host, or its TPM (file)",
    )  # fmt: skip
    join.add_argument("--labels", default=None, metavar="K=V,…", help="labels of the node")
    join.add_argument(
        "--hub", action="append", default=[], metavar="HOST:PORT",
        help="address of the hub, may be repeated, where it is not what the cloud says (else 10000)",
    )  # fmt: skip
    join.add_argument(
        "--tunnel", action="append", default=[], metavar="HOST:PORT", help="the same for the tunnel (else 10004)"
    )
    join.add_argument("--check-only", action="store_true", help="only verify; change nothing")
    join.add_argument(
        "--no-service", action="store_true", help="install no systemd unit; run `skerry edge run` yourself"
    )
    _config(join)
    edge = commands.add_parser("edge", help="the edge agent").add_subparsers(metavar="ACTION", required=True)
    run = _command(edge, "run", _edge_run, "run the edge agent in the foreground", "skerry edge run")
    run.add_argument("--stop-pods", action="store_true", help="end the pods too when the agent is stopped")
    run.add_argument(
        "--allow-privileged", action="store_true", default=None, help="let pods use hostPath and host namespaces"
    )
    _config(run)
    _config(
        _command(edge, "status", _edge_status, "link, backlog and pods, also with the cloud gone", "skerry edge status")
    )
    _config(_command(edge, "pods", _edge_pods, "the pods of this node, also with the cloud gone", "skerry edge pods"))
    logs = _command(
        edge, "logs", _edge_logs, "a container's log on this node, also with the cloud gone", "skerry edge logs web -f"
    )
    logs.add_argument("pod", metavar="[NAMESPACE/]POD")
    logs.add_argument("-c", "--container", default=None, help="which container, where there are several")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written later")
    logs.add_argument("--tail", type=_count, default=None, metavar="N", help="only the last N lines")
    logs.add_argument("--previous", action="store_true", help="of the container before its last restart")
    logs.add_argument("--timestamps", action="store_true", help="each line with its time")
    _config(logs)
    again = _command(
        edge, "restart", _edge_restart, "restart the containers of a pod on this node, also with the cloud gone",
        "skerry edge restart default/web",
    )  # fmt: skip
    again.add_argument("pod", metavar="[NAMESPACE/]POD")
    again.add_argument("-c", "--container", default=None, help="only this container")
    _config(again)
    image = commands.add_parser("image", help="images on this node").add_subparsers(metavar="ACTION", required=True)
    load = _command(
        image, "load", _image_load, "bring images from an archive into this node's engine", "skerry image load web.tar"
    )
    load.add_argument("file", type=Path, help="archive of `docker save` or `ctr images export`")
    _config(load)
    adopt = _command(
        commands, "adopt", _adopt, "take a KubeEdge node over: same name, certificates and running containers",
        "skerry adopt --check-only",
    )  # fmt: skip
    adopt.add_argument(
        "--edgecore-config", type=Path, default=Path("/etc/kubeedge/config/edgecore.yaml"), metavar="FILE",
        help="configuration of the edgecore that the node has (/etc/kubeedge/config/edgecore.yaml)",
    )  # fmt: skip
    for name, what in (("hub", "hub"), ("join", "join server"), ("tunnel", "tunnel")):
        adopt.add_argument(
            f"--{name}", action="append", default=[], metavar="HOST:PORT",
            help=f"address of the {what}, may be repeated, where it is not what the file says",
        )  # fmt: skip
    adopt.add_argument("--check-only", action="store_true", help="only verify; change nothing")
    adopt.add_argument(
        "--no-service", action="store_true", help="install no systemd unit; run `skerry edge run` yourself"
    )
    release = _command(
        commands, "release", _release, "give this node (back) to KubeEdge's edgecore, with its running containers",
        "skerry release --check-only",
    )  # fmt: skip
    release.add_argument(
        "--edgecore-config", type=Path, default=None, metavar="FILE",
        help="configuration of that edgecore (where it was adopted from); written when missing",
    )  # fmt: skip
    release.add_argument("--check-only", action="store_true", help="only verify; change nothing")
    release.add_argument("--force", action="store_true", help="also when reports wait for the cloud: they are lost")
    release.add_argument("--yes", action="store_true", help="do not ask")
    _config(release)
    reset = _command(
        commands, "reset", _reset, "undo the join: remove only what Skerry made on this machine", "skerry reset --yes"
    )
    reset.add_argument("--yes", action="store_true", help="do not ask")
    _config(reset)


def _fleet(commands: Any) -> None:
    node = commands.add_parser("node", help="the fleet as the link sees it").add_subparsers(
        metavar="ACTION", required=True
    )
    _client(_command(node, "list", _node_list, "nodes with link state, last seen and runtime", "skerry node list"))
    show = _command(
        node, "show", _node_show, "one node: link, conditions, pods with their age", "skerry node show gate-1"
    )
    show.add_argument("name")
    _client(show)
    revoke = _command(
        node, "revoke", _node_revoke, "refuse a node's certificate from now on", "skerry node revoke gate-1"
    )
    revoke.add_argument("name")
    _client(revoke)
    restore = _command(
        node, "restore", _node_restore, "undo a revocation: the certificate is good again", "skerry node restore gate-1"
    )
    restore.add_argument("name")
    _client(restore)
    ca = commands.add_parser("ca", help="the authority of node certificates").add_subparsers(
        metavar="ACTION", required=True
    )
    _client(_command(ca, "list", _ca_list, "the present authority, and older ones still trusted", "skerry ca list"))
    _client(
        _command(ca, "rotate", _ca_rotate, "make a new authority; nodes change over by themselves", "skerry ca rotate")
    )
    retire = _command(ca, "retire", _ca_retire, "trust an older authority no more", "skerry ca retire 3f2a9c01")
    retire.add_argument("fingerprint", help="or its first 8 digits or more, as `skerry ca list` shows it")
    retire.add_argument("--force", action="store_true", help="also when nodes would have to join again")
    _client(retire)


def _devices(commands: Any) -> None:
    device = commands.add_parser("device", help="devices and their values").add_subparsers(
        metavar="ACTION", required=True
    )
    _client(_command(device, "list", _device_list, "devices with state and values", "skerry device list"))
    get = _command(device, "get", _device_get, "one device with the age of each value", "skerry device get thermometer")
    get.add_argument("name")
    _client(get)
    put = _command(
        device,
        "set",
        _device_set,
        "write a value and wait until the device has it",
        "skerry device set thermometer setpoint=21.5",
    )
    put.add_argument("name")
    put.add_argument("value", metavar="PROPERTY=VALUE")
    put.add_argument("--wait-s", type=_seconds, default=30.0, metavar="S", help="how long to wait for the device (30)")
    _client(put)
    simulate = _command(
        device, "simulate", _device_simulate, "run a simulated Modbus thermometer", "skerry device simulate --port 5020"
    )
    simulate.add_argument("--listen", default="127.0.0.1", help="address (127.0.0.1)")
    simulate.add_argument("--port", type=_port, default=5020, help="TCP port; 0 takes a free one (5020)")


def _objects(commands: Any) -> None:
    get = _command(commands, "get", _get, "show objects, as kubectl get", "skerry get pods -A")
    get.add_argument("kind", metavar="KIND[/NAME]", help="such as pods, deploy/web or devices")
    get.add_argument("names", nargs="*", metavar="NAME", help="only these")
    get.add_argument("-A", "--all-namespaces", action="store_true", help="every namespace")
    get.add_argument("-l", "--selector", default="", help="label selector")
    get.add_argument("-w", "--wide", action="store_true", help="more columns")
    _client(get)
    describe = _command(commands, "describe", _describe, "one object and its events", "skerry describe pod web")
    describe.add_argument("kind", metavar="KIND")
    describe.add_argument("name", metavar="NAME")
    _client(describe)
    apply = _command(commands, "apply", _apply, "create or change objects from files", "skerry apply -f web.yaml")
    apply.add_argument("-f", "--file", action="append", required=True, type=Path, help="YAML or JSON file; - for stdin")
    apply.add_argument(
        "--validate", choices=("strict", "warn", "ignore"), default="strict",
        help="fields that the kind does not have: refuse, warn, or drop in silence (strict)",
    )  # fmt: skip
    _client(apply)
    delete = _command(commands, "delete", _delete, "delete an object", "skerry delete pod web")
    delete.add_argument("kind", metavar="KIND")
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--grace-period", type=_count, default=None, metavar="S", help="seconds to end in")
    _client(delete)
    logs = _command(commands, "logs", _logs, "a container's log through the tunnel", "skerry logs -f web")
    logs.add_argument("pod")
    logs.add_argument("-c", "--container", default="", help="container, where the pod has several")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines come")
    logs.add_argument("--tail", type=_count, default=None, metavar="N", help="only the last N lines")
    logs.add_argument("-p", "--previous", action="store_true", help="of the container before the last restart")
    _client(logs)


def _care(commands: Any) -> None:
    doctor = _command(commands, "doctor", _doctor, "find what is wrong with this machine's Skerry", "skerry doctor")
    doctor.add_argument(
        "--side", choices=("auto", "cloud", "edge"), default="auto", help="which part to examine (auto)"
    )
    why = _command(commands, "why", _why, "explain an object's trouble: cause, evidence, remedy", "skerry why pod/web")
    why.add_argument("target", metavar="KIND/NAME", help="a pod, node or device, such as pod/web")
    why.add_argument("name", nargs="?", default="", metavar="NAME", help="where the kind stands alone: pod web")
    _client(why)
    config = commands.add_parser("config", help="configuration files").add_subparsers(metavar="ACTION", required=True)
    show = _command(
        config, "print", _config_print, "every setting with its default and meaning", "skerry config print edge"
    )
    show.add_argument("side", choices=("cloud", "edge"))
    check = _command(config, "check", _config_check, "check a configuration file", "skerry config check edge.yaml")
    check.add_argument("file", type=Path)
    convert = _command(
        config, "convert", _config_convert, "write our configuration for KubeEdge's, with what becomes of each key",
        "skerry config convert /etc/kubeedge/config/edgecore.yaml",
    )  # fmt: skip
    convert.add_argument("file", type=Path, help="cloudcore.yaml or edgecore.yaml")
    _command(commands, "version", _version, "versions of Skerry and of what it speaks", "skerry version -o json")


def _command(commands: Any, name: str, run: Run, help_text: str, example: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=run)
    command.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result (text)")
    command.add_argument("--data", type=Path, default=None, metavar="DIR", help="data directory")
    command.add_argument("--log-level", choices=levels.LEVELS, default=None)
    command.add_argument("--log-format", choices=levels.FORMS, default=None)
    return command


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, default=None, metavar="FILE", help="configuration file")


def _serving(command: argparse.ArgumentParser) -> None:
    _config(command)
    command.add_argument("--listen", default=None, metavar="ADDRESS", help="address that servers listen on")
    command.add_argument("--ports", default=None, metavar="default|any|BASE", help="ports of the servers")


def _client(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kubeconfig", type=Path, default=None, help="credentials ($KUBECONFIG, else this machine's cloud)"
    )
    command.add_argument("-n", "--namespace", default=None, help="namespace (default)")


def _seconds(text: str) -> float:
    return _number(float, text, "number of seconds of at least 0", 0, sys.float_info.max)


def _count(text: str) -> int:
    return _number(int, text, "whole number of at least 0", 0, math.inf)


def _port(text: str) -> int:
    return _number(int, text, "port: 0 to 65535", 0, 65535)


def _number(kind: type[N], text: str, what: str, lowest: float, highest: float) -> N:
    try:
        value = kind(text)
    except ValueError:
        value = kind(-1)
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
    return value


# Each function below imports its app module when it runs.


def _demo(args: argparse.Namespace) -> int:
    from skerry.app import demo

    return demo.main(
        data=args.data, listen=args.listen, ports=args.ports, runtime=args.runtime,
        exit_when_ready=args.exit_when_ready, clean=args.clean,
        plug_s=0.0 if args.no_plug else args.plug_s, as_json=args.output == "json",
    )  # fmt: skip


def _up(args: argparse.Namespace) -> int:
    from skerry.app import allinone

    return allinone.main(
        data=args.data, listen=args.listen, ports=args.ports, node=args.node, runtime=args.runtime,
        as_json=args.output == "json",
    )  # fmt: skip


def _status(args: argparse.Namespace) -> int:
    from skerry.app import allinone

    return allinone.status(data=args.data, as_json=args.output == "json")


def _down(args: argparse.Namespace) -> int:
    from skerry.app import allinone

    return allinone.down(data=args.data, as_json=args.output == "json")


def _cloud_run(args: argparse.Namespace) -> int:
    gc.disable()  # until it serves: to look through what imports leave is a tenth of the start
    from skerry.app import cloud

    flags = {
        "data": args.data, "listen": args.listen, "ports": args.ports, "advertise": args.advertise,
        "kubeconfig": args.kubeconfig,
        "controllers": args.controllers, "log_level": args.log_level, "log_format": args.log_format,
    }  # fmt: skip
    return cloud.main(config_file=args.config, flags=flags, as_json=args.output == "json")


def _cloud_backup(args: argparse.Namespace) -> int:
    from skerry.app import backup

    return backup.backup(data=args.data, out=args.out, as_json=args.output == "json")


def _cloud_restore(args: argparse.Namespace) -> int:
    from skerry.app import backup

    return backup.restore(args.file, data=args.data, force=args.force, as_json=args.output == "json")


def _cloud_adopt(args: argparse.Namespace) -> int:
    from skerry.app import takeover

    return takeover.adopt(
        source=args.source, cert=args.cert, key=args.key, check_only=args.check_only, kubeconfig=args.kubeconfig,
        data=args.data, as_json=args.output == "json",
    )  # fmt: skip


def _cloud_release(args: argparse.Namespace) -> int:
    from skerry.app import takeover

    return takeover.release(
        target=args.target, force=args.force, check_only=args.check_only, kubeconfig=args.kubeconfig, data=args.data,
        as_json=args.output == "json",
    )  # fmt: skip


def _join(args: argparse.Namespace) -> int:
    from skerry.app import join

    token = sys.stdin.readline().strip() if args.token == "-" else args.token
    return join.main(
        host=args.host, token=token, node=args.node, runtime=args.runtime, cri_socket=args.cri_socket,
        store_key=args.store_key, labels=args.labels, hubs=args.hub, tunnels=args.tunnel, data=args.data,
        config_file=args.config, check_only=args.check_only,
        service=not args.no_service, as_json=args.output == "json",
    )  # fmt: skip


def _edge_run(args: argparse.Namespace) -> int:
    from skerry.app import edge

    flags = {
        "data": args.data, "stop_pods": args.stop_pods or None, "allow_privileged": args.allow_privileged,
        "log_level": args.log_level, "log_format": args.log_format,
    }  # fmt: skip
    return edge.main(config_file=args.config, flags=flags, as_json=args.output == "json")


def _edge_status(args: argparse.Namespace) -> int:
    from skerry.app import onsite

    return onsite.status(data=args.data, config_file=args.config, as_json=args.output == "json")


def _edge_pods(args: argparse.Namespace) -> int:
    from skerry.app import onsite

    return onsite.pods(data=args.data, config_file=args.config, as_json=args.output == "json")


def _edge_logs(args: argparse.Namespace) -> int:
    from skerry.app import onsite_pods

    return onsite_pods.logs(
        target=args.pod, container=args.container, follow=args.follow, tail=args.tail, previous=args.previous,
        timestamps=args.timestamps, data=args.data, config_file=args.config,
    )  # fmt: skip


def _edge_restart(args: argparse.Namespace) -> int:
    from skerry.app import onsite_pods

    return onsite_pods.restart(
        target=args.pod, container=args.container, data=args.data, config_file=args.config,
        as_json=args.output == "json",
    )  # fmt: skip


def _image_load(args: argparse.Namespace) -> int:
    from skerry.app import images

    return images.load(file=args.file, data=args.data, config_file=args.config, as_json=args.output == "json")


def _adopt(args: argparse.Namespace) -> int:
    from skerry.app import adopt

    return adopt.main(
        edgecore_config=args.edgecore_config, hubs=args.hub, joins=args.join, tunnels=args.tunnel, data=args.data,
        check_only=args.check_only, service=not args.no_service, as_json=args.output == "json",
    )  # fmt: skip


def _release(args: argparse.Namespace) -> int:
    from skerry.app import release

    return release.main(
        edgecore_config=args.edgecore_config, data=args.data, config_file=args.config, check_only=args.check_only,
        force=args.force, yes=args.yes, as_json=args.output == "json",
    )  # fmt: skip


def _reset(args: argparse.Namespace) -> int:
    from skerry.app import join

    return join.reset(data=args.data, config_file=args.config, yes=args.yes, as_json=args.output == "json")


def _admin(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "kubeconfig": args.kubeconfig, "data": args.data, "namespace": args.namespace, "as_json": args.output == "json",
    }  # fmt: skip


def _token_create(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.token_create(node=args.node, uses=args.uses, ttl=args.ttl, address=args.address, **_admin(args))


def _token_list(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.token_list(**_admin(args))


def _token_revoke(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.token_revoke(token_id=args.id, **_admin(args))


def _node_list(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.node_list(**_admin(args))


def _node_show(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.node_show(name=args.name, **_admin(args))


def _node_revoke(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.node_revoke(name=args.name, **_admin(args))


def _node_restore(args: argparse.Namespace) -> int:
    from skerry.app import fleet

    return fleet.node_restore(name=args.name, **_admin(args))


def _ca_list(args: argparse.Namespace) -> int:
    from skerry.app import authority

    return authority.ca_list(**_admin(args))


def _ca_rotate(args: argparse.Namespace) -> int:
    from skerry.app import authority

    return authority.ca_rotate(**_admin(args))


def _ca_retire(args: argparse.Namespace) -> int:
    from skerry.app import authority

    return authority.ca_retire(fingerprint=args.fingerprint, force=args.force, **_admin(args))


def _device_list(args: argparse.Namespace) -> int:
    from skerry.app import devices

    return devices.device_list(**_admin(args))


def _device_get(args: argparse.Namespace) -> int:
    from skerry.app import devices

    return devices.device_get(name=args.name, **_admin(args))


def _device_set(args: argparse.Namespace) -> int:
    from skerry.app import devices

    return devices.device_set(name=args.name, value=args.value, wait_s=args.wait_s, **_admin(args))


def _device_simulate(args: argparse.Namespace) -> int:
    from skerry.app import devices

    return devices.simulate(host=args.listen, port=args.port, as_json=args.output == "json")


def _get(args: argparse.Namespace) -> int:
    from skerry.app import objects

    return objects.get(
        kind=args.kind,
        names=args.names,
        all_namespaces=args.all_namespaces,
        selector=args.selector,
        wide=args.wide,
        **_admin(args),
    )


def _describe(args: argparse.Namespace) -> int:
    from skerry.app import objects

    return objects.describe(kind=args.kind, name=args.name, **_admin(args))


def _apply(args: argparse.Namespace) -> int:
    from skerry.app import objects

    return objects.apply(files=args.file, validation=args.validate.capitalize(), **_admin(args))


def _delete(args: argparse.Namespace) -> int:
    from skerry.app import objects

    return objects.delete(kind=args.kind, name=args.name, grace_period_s=args.grace_period, **_admin(args))


def _logs(args: argparse.Namespace) -> int:
    from skerry.app import objects

    return objects.logs(
        pod=args.pod,
        container=args.container,
        follow=args.follow,
        tail=args.tail,
        previous=args.previous,
        **_admin(args),
    )


def _doctor(args: argparse.Namespace) -> int:
    from skerry.app import doctor

    return doctor.main(side=args.side, data=args.data, as_json=args.output == "json")


def _why(args: argparse.Namespace) -> int:
    from skerry.app import doctor

    target = f"{args.target}/{args.name}" if args.name else args.target
    return doctor.why(target=target, **_admin(args))


def _config_print(args: argparse.Namespace) -> int:
    from skerry.app import settings

    return settings.show(side=args.side, as_json=args.output == "json")


def _config_check(args: argparse.Namespace) -> int:
    from skerry.app import settings

    return settings.check(file=args.file, environment=os.environ, as_json=args.output == "json")


def _config_convert(args: argparse.Namespace) -> int:
    from skerry.app import settings

    return settings.convert(file=args.file, as_json=args.output == "json")


def _version(args: argparse.Namespace) -> int:
    facts = {
        "skerry": __version__, "kubernetesApi": "v1.33", "kubeedgeWire": "v1.23",
        "python": ".".join(map(str, sys.version_info[:3])),
    }  # fmt: skip
    output.emit(facts, as_json=args.output == "json", text="\n".join(f"{k}: {v}" for k, v in facts.items()))
    return 0


_SERVERS: frozenset[Run] = frozenset({_cloud_run, _edge_run})


if __name__ == "__main__":
    sys.exit(main())
