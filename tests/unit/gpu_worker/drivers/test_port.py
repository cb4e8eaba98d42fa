"""Addresses of model servers: what is one, and what is said of what is none."""

import pytest

from gpu_worker.drivers.port import Address


@pytest.mark.parametrize(
    "url, host, port, socket, authority",
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, "", "127.0.0.1:8080"),
        ("http://[::1]:8080/", "::1", 8080, "", "[::1]:8080"),
        ("http://gpu-box:1", "gpu-box", 1, "", "gpu-box:1"),
        ("unix:///run/a b/llama.sock", "", 0, "/run/a b/llama.sock", "localhost"),
    ],
)
def test_an_address_is_a_port_of_a_host_or_a_socket_of_this_one(url, host, port, socket, authority):
    address = Address(url)
    assert str(address) == url
    assert (address.socket, address.authority) == (socket, authority)
    if not socket:
        assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize("host, url", [("127.0.0.1", "http://127.0.0.1:80"), ("::1", "http://[::1]:80")])
def test_an_ipv6_address_is_written_in_brackets(host, url):
    assert Address.at(host, 80) == Address(url)
    assert Address(url).host == host


@pytest.mark.parametrize(
    "url, complaint",
    [
        ("", "must begin with http://"),
        ("127.0.0.1:8080", "must begin with http://"),
        ("https://box:8080", "must begin with http://"),
        ("http://box", "a host and a port"),
        ("http://box:80/v1", "nothing behind them"),
        ("http://box:80?a=b", "nothing behind them"),
        ("http://user:secret@box:80", "must not contain credentials"),
        ("http://box:0", "no number from 1 to 65535"),
        ("http://box:99999", "no number from 1 to 65535"),
        ("unix://run/llama.sock", "three slashes"),
        ("unix://", "three slashes"),
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(url, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        Address(url)
    assert "secret" not in str(refused.value)
