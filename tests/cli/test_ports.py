"""Ports: free, taken, and by whom."""

import os
import socket

from chatbot_cli import layout, ports
from chatbot_cli.processes import Process, identity
from chatbot_cli.state import Running, State


class TestIsFree:
    def test_a_port_somebody_listens_on_is_not(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert not ports.is_free(port)
            assert str(os.getpid()) in (ports.holder(port) or "")
            assert ports.next_free(port) > port
        assert ports.is_free(port)
        assert ports.holder(port) is None


class TestChoosePorts:
    def test_all_differ_and_the_gateway_gets_the_one_asked_for(self) -> None:
        chosen = layout.choose_ports(State(), 8080)
        flat = [port for pair in chosen.values() for port in pair]
        assert chosen["gateway"][0] == 8080
        assert len(set(flat)) == len(flat) == 2 * len(layout.PROGRAMS)

    def test_those_of_last_time_are_kept(self) -> None:
        first = layout.choose_ports(State(), 8080)
        assert layout.choose_ports(State(ports=first), 8080) == first

    def test_another_public_port_moves_nothing_else(self) -> None:
        first = layout.choose_ports(State(), 8080)
        second = layout.choose_ports(State(ports=first), 8081)
        assert second == first | {"gateway": (8081, first["gateway"][1])}

    def test_one_that_was_taken_meanwhile_is_replaced(self) -> None:
        first = layout.choose_ports(State(), 8080)
        with socket.create_server(("127.0.0.1", first["auth"][0])):
            second = layout.choose_ports(State(ports=first), 8080)
        assert second["auth"][0] != first["auth"][0]
        assert second["auth"][1] == first["auth"][1]

    def test_one_that_is_in_use_by_our_own_process_is_kept(self) -> None:
        first = layout.choose_ports(State(), 8080)
        mine = Running(Process(os.getpid(), identity(os.getpid()) or ""), "", 0)
        with socket.create_server(("127.0.0.1", first["auth"][0])):
            assert layout.choose_ports(State(ports=first, processes={"auth": mine}), 8080) == first
