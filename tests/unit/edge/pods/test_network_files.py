"""resolv.conf, hosts and service variables of pods."""

from typing import Any

from skerry.edge.pods.dns import NodeDns, Resolver, pod_resolver, read_resolver
from skerry.edge.pods.hosts import host_names, hosts_file
from skerry.edge.pods.serviceenv import service_variables

NODE = NodeDns(Resolver(["9.9.9.9"], ["site.example"], ["timeout:1"]), ["169.254.96.16"], "cluster.local")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def test_cluster_first_asks_the_cluster_and_searches_its_names() -> None:
    found, told = pod_resolver(pod(dnsPolicy="ClusterFirst"), NODE)
    assert found.servers == ["169.254.96.16"] and found.options == ["ndots:5"] and told == []
    assert found.searches == ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "site.example"]


def test_default_host_network_and_a_node_without_cluster_dns_use_the_nodes_own() -> None:
    for wanted in (pod(dnsPolicy="Default"), pod(dnsPolicy="ClusterFirst", hostNetwork=True)):
        assert pod_resolver(wanted, NODE)[0].servers == ["9.9.9.9"]
    found, told = pod_resolver(pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True), NodeDns(NODE.node))
    assert found.servers == ["9.9.9.9"] and told[0][0] == "MissingClusterDNS"
    assert pod_resolver(pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True), NODE)[0].options == ["ndots:5"]


def test_config_is_added_and_options_are_replaced_by_name() -> None:
    config = {
        "nameservers": ["1.1.1.1"],
        "searches": ["a.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    found, _ = pod_resolver(pod(dnsPolicy="ClusterFirst", dnsConfig=config), NODE)
    assert found.servers == ["169.254.96.16", "1.1.1.1"] and found.options == ["ndots:2", "edns0"]
    assert found.searches[-1] == "a.example"
    alone, _ = pod_resolver(pod(dnsPolicy="None", dnsConfig=config), NODE)
    assert (alone.servers, alone.searches) == (["1.1.1.1"], ["a.example"])


def test_too_many_servers_are_cut_and_told() -> None:
    config = {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]}
    found, told = pod_resolver(pod(dnsPolicy="None", dnsConfig=config), NODE)
    assert found.servers == ["1.1.1.1", "2.2.2.2", "3.3.3.3"] and told[0][0] == "DNSConfigForming"
    many = {"searches": [f"{'x' * 60}{n}.example" for n in range(60)]}
    found, _ = pod_resolver(pod(dnsPolicy="None", dnsConfig=many), NODE)
    assert len(found.searches) <= 32 and len(" ".join(found.searches)) <= 2048


def test_a_resolv_conf_is_read() -> None:
    text = "# by dhcp\nnameserver 10.0.0.1\nnameserver\nsearch . a.example b.example\noptions ndots:1 rotate\n"
    assert read_resolver(text) == Resolver(["10.0.0.1"], ["a.example", "b.example"], ["ndots:1", "rotate"])


def test_hosts_file_of_a_pod_with_an_address_of_its_own() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    text = hosts_file(["10.0.0.5"], ["web.sub.shop.svc.cluster.local", "web"], aliases)
    assert "127.0.0.1\tlocalhost\n" in text
    assert "10.0.0.5\tweb.sub.shop.svc.cluster.local\tweb\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_hosts_file_of_a_pod_on_the_nodes_network_is_the_nodes() -> None:
    text = hosts_file(["10.0.0.5"], ["web"], [], node_hosts="127.0.0.1 localhost\n10.1.1.1 gateway\n")
    assert text == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n10.1.1.1 gateway\n"


def test_host_names() -> None:
    long = "a" * 62 + "-b"
    assert host_names("web-0", "shop", {}, cluster_domain="cluster.local") == ("web-0", "")
    assert host_names(long, "shop", {}, cluster_domain="cluster.local")[0] == "a" * 62
    spec = {"hostname": "h", "subdomain": "sub"}
    assert host_names("web-0", "shop", spec, cluster_domain="c.l") == ("h", "h.sub.shop.svc.c.l")


def service(called: str, namespace: str, ip: str | None = "10.96.0.7", **port: Any) -> dict[str, Any]:
    ports = [{"port": 80, "protocol": "TCP"} | port]
    return {"metadata": {"name": called, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": ports}}


def test_services_of_the_namespace_and_the_api_server_are_told() -> None:
    services = [
        service("kubernetes", "default", "10.96.0.1", port=443, name="https"),
        service("my-db", "shop"),
        service("other", "elsewhere"),
        service("headless", "shop", "None"),
    ]
    found = service_variables(services, "shop", has_links=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1" and found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["MY_DB_PORT_80_TCP"] == found["MY_DB_PORT"] == "tcp://10.96.0.7:80"
    assert not any(name.startswith(("OTHER", "HEADLESS")) for name in found)
    alone = service_variables(services, "shop", has_links=False)
    assert alone and all(name.startswith("KUBERNETES_") for name in alone)
