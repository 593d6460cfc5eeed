"""Real containers in trouble: killed, frozen, cut off, scaled, replaced.  Totals stay exact and training goes on."""

import json
import time

from tests.containers.deployment import Container, Deployment
from tests.containers.engine import Engine

TARGET = 0.90


def accuracy_on_test_records(peer: Container) -> float:
    """Accuracy of a peer's model on the records that no peer has trained on."""
    said = peer.susurrus("model", "predict", "--data", "/join/shards/test.csv", "--json")
    predictions = json.loads(said)["predictions"]
    header, *rows = peer.engine.docker("exec", peer.id, "cat", "/join/shards/test.csv").splitlines()
    at = header.split(",").index("digit")
    truth = [row.split(",")[at] for row in rows]
    assert len(truth) == len(predictions) > 300
    return sum(str(p) == t for p, t in zip(predictions, truth, strict=True)) / len(truth)


def test_ten_peers_from_nothing_to_the_target(deployment: Deployment) -> None:
    begun = time.monotonic()
    peers = deployment.scale(10)
    deployment.until(lambda: accuracy_on_test_records(peers[0]) >= TARGET, f"test accuracy {TARGET}", 200.0)
    print(f"target reached {time.monotonic() - begun:.0f} s after the start")
    resident = [peer.metrics()["process_resident_memory_bytes"] / 1e6 for peer in peers]
    print(f"resident memory, MB: {max(resident):.0f} at most")
    assert max(resident) < 110
    deployment.until(
        lambda: all(peer.engine.inspect(peer.id)["State"]["Health"]["Status"] == "healthy" for peer in peers), "healthy"
    )
    report = deployment.settled()
    print(report)


def test_the_image_adds_less_than_300_mb_to_its_base(engine: Engine, image: str) -> None:
    base = int(engine.inspect("python:3.11-slim-bookworm")["Size"])
    whole = int(engine.inspect(f"susurrus:{image}")["Size"])
    print(f"image {whole / 1e6:.0f} MB, base {base / 1e6:.0f} MB")
    assert whole - base < 300e6


def test_kills_of_the_root_and_others(deployment: Deployment) -> None:
    peers = deployment.scale(8)
    roots = 0
    for turn in range(6):
        victim = deployment.until(lambda: deployment.root(peers), "somebody is root") if turn % 2 == 0 else peers[turn]
        roots += turn % 2 == 0
        victim.do("kill", "--signal", "KILL")
        deployment.goes_on([peer for peer in peers if peer is not victim], 5)
        victim.do("start")
    assert roots == 3
    deployment.goes_on(peers)
    deployment.settled()


def test_frozen_for_twenty_seconds(deployment: Deployment) -> None:
    peers = deployment.scale(7)
    frozen = peers[3]
    frozen.do("pause")
    since = time.monotonic()
    deployment.goes_on([peer for peer in peers if peer is not frozen], 20)
    deployment.until(lambda: time.monotonic() - since >= 20.0, "twenty seconds")
    frozen.do("unpause")
    deployment.until(lambda: frozen.age >= max(peer.age for peer in peers) - 10, "it has caught up", 10.0)
    deployment.goes_on(peers)
    deployment.settled()


def test_cut_off_and_back(deployment: Deployment) -> None:
    peers = deployment.scale(9)
    network = f"{deployment.project}_default"
    away = peers[:2]  # too few to train alone: S = 3
    for peer in away:
        deployment.engine.docker("network", "disconnect", network, peer.id)
    deployment.goes_on(peers[2:], 20)
    for peer in away:
        deployment.engine.docker("network", "connect", network, peer.id)
    deployment.goes_on(peers)
    deployment.settled()


def test_five_to_fifteen_to_five(deployment: Deployment) -> None:
    deployment.scale(5)
    peers = deployment.scale(15)
    deployment.goes_on(peers)
    deployment.compose("up", "-d", "--no-recreate", "--no-build", "--scale", "peer=5")
    peers = deployment.peers()
    assert len(peers) == 5
    deployment.goes_on(peers)
    deployment.settled()
