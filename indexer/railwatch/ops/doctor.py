"""`railwatch check`: one check of everything that the daemon needs, with a fix for each finding.

The check never passes where `railwatch run` fails. The daemon's own code writes the configuration to the database and
rolls back. It also plans the next step of each rail, which is never committed.
"""

import asyncio
import errno
import socket

from railwatch.config import Config, RailConfig
from railwatch.ops.check_database import Stored, check_database
from railwatch.ops.check_node import check_node
from railwatch.ops.findings import Daemon, Finding, NodeReport, Report
from railwatch.ops.logs import OPEN_LISTENER, is_loopback
from railwatch.store.config_sync import RailMirror, check_traits
from railwatch.store.errors import StoreError
from railwatch.store.rails import ResumePoint

NO_START = "Until then `railwatch run` does not start."


async def examine(config: Config, daemon: Daemon) -> Report:
    """Check configuration, database, every node and every rail. Changes nothing."""
    mirrors, findings = _mirrors(config, daemon)
    if not findings:
        names = ", ".join(rail.name for rail in config.rails)
        findings = [Finding("ok", "configuration", f"is valid; its rails: {names}")]
    findings += [Finding("warn", "secrets", sentence) for sentence in config.exposed]
    stored, found = await check_database(config, mirrors if len(mirrors) == len(config.rails) else (), daemon.settings)
    findings += [*found, *_listening(config, stored)]
    good = {mirror.name for mirror in mirrors}
    rails = [rail for rail in config.rails if rail.name in good]
    reports: list[NodeReport] = []
    for more, nodes in await asyncio.gather(*(_rail(rail, daemon, stored) for rail in rails)):
        findings += more
        reports += nodes
    return Report(findings, reports)


def _mirrors(config: Config, daemon: Daemon) -> tuple[list[RailMirror], list[Finding]]:
    """Return the rails as the daemon would store them, and a finding for each that it would refuse.

    Causes: an unknown adapter, a policy that the rail cannot meet, or two tables for one asset.
    """
    mirrors, findings = list[RailMirror](), list[Finding]()
    for rail in config.rails:
        try:
            made = daemon.mirror_of(rail)
            check_traits(made)
        except (ValueError, StoreError) as error:
            hint = f"Correct the tables of rail {rail.name} in the configuration. {NO_START}"
            findings.append(Finding("fail", f"rail {rail.name}", str(error), hint))
        else:
            mirrors.append(made)
    return mirrors, findings


def _listening(config: Config, stored: Stored) -> list[Finding]:
    """Return findings about ``[http] listen``: an address that is open to the network, or in use."""
    if config.http.address is None:
        return []
    if not is_loopback(config.http.address[0]):
        warning = [Finding("warn", f"[http] listen = {config.http.listen}", OPEN_LISTENER)]
        return [*warning, *_bindable(config, stored)]
    return _bindable(config, stored)


def _bindable(config: Config, stored: Stored) -> list[Finding]:
    assert config.http.address is not None, "called only where one is configured"
    try:
        found = socket.getaddrinfo(*config.http.address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                # Some systems refuse an address only to a second socket that listens.
                probe.listen(1)
    except OSError as error:
        subject = f"[http] listen = {config.http.listen}"
        if error.errno == errno.EADDRINUSE and stored.holders:
            return [Finding("ok", subject, f"is in use, as expected while a daemon runs ({', '.join(stored.holders)})")]
        return [
            Finding("fail", subject, str(error.strerror or error), f"Set another port in [http] listen. {NO_START}")
        ]
    return []


async def _rail(rail: RailConfig, daemon: Daemon, stored: Stored) -> tuple[list[Finding], list[NodeReport]]:
    """Check each node of a rail alone, and then the rail with all of them."""
    with_wanted = rail.with_assets(stored.wanted.get(rail.name, ()))
    row, resume_point = stored.rails.get(rail.name), stored.left.get(rail.name)
    checks = (check_node(with_wanted, name, node, daemon, row) for name, node in daemon.named_nodes(rail).items())
    findings, reports, answers = list[Finding](), list[NodeReport](), False
    for found, report in await asyncio.gather(*checks):
        findings += found
        if report is not None:
            reports.append(report)
            answers = answers or not any(finding.level == "fail" for finding in found)
    if answers:
        findings += await _outcome(with_wanted, daemon, resume_point)
    return findings, reports


async def _outcome(rail: RailConfig, daemon: Daemon, resume_point: ResumePoint | None) -> list[Finding]:
    """Return a finding if the daemon would halt, stall or refuse the rail."""
    subject = f"rail {rail.name}"
    try:
        state, reason = await daemon.preview(rail, resume_point)
    except ValueError as error:
        return [Finding("fail", subject, str(error), f"Correct the tables of {subject}. {NO_START}")]
    if state in ("halted", "stalled"):
        hint = f"Follow docs/runbooks/rail-{state}.md."
        return [Finding("fail", subject, f"would be {state}: {reason}", hint)]
    return []
