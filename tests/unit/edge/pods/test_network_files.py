"""resolv.conf, hosts and service variables of pods."""

from typing import Any

from skerry.edge.pods.dns import NodeDns, Resolver, pod_resolver, read_resolver
from skerry.edge.pods.hosts import host_names, hosts_file
from skerry.edge.pods.serviceenv import api_variables

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


def test_a_container_is_told_where_the_api_server_is() -> None:
    found = api_variables("cloud.example", 6443)
    assert found["KUBERNETES_SERVICE_HOST"] == "cloud.example" and found["KUBERNETES_SERVICE_PORT"] == "6443"
    assert found["KUBERNETES_PORT_6443_TCP"] == found["KUBERNETES_PORT"] == "tcp://cloud.example:6443"
    assert api_variables("fd00::1", 443)["KUBERNETES_PORT"] == "tcp://[fd00::1]:443"
    assert api_variables("fd00::1", 443)["KUBERNETES_SERVICE_HOST"] == "fd00::1"
