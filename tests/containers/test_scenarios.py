"""Real containers in trouble: killed, frozen, cut off, scaled, replaced.  Totals stay exact and training goes on."""

import json
import re
import time
from pathlib import Path

from tests.containers.deployment import EXPECTED, Container, Deployment
from tests.containers.engine import Engine
from tests.containers.links import DelayProxy, dropped, spoil

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
    resident = [deployment.figures(peer)["process_resident_memory_bytes"] / 1e6 for peer in peers]
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
    network = deployment.network
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


def test_slow_lossy_and_distant_links(deployment: Deployment) -> None:
    peers = deployment.scale(6)
    for peer in peers[:2]:
        spoil(peer, loss=0.08, rate="1mbit")
    gateway = deployment.engine.docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", deployment.network
    ).strip()
    with DelayProxy(gateway, 0.1).running() as proxy:
        distant = deployment.run(
            "-v", f"{deployment.project}_homes:/homes", "-e", f"SUSURRUS_ADVERTISE={gateway}:{proxy.port}"
        )
        proxy.target = (distant.address, 7390)
        deployment.until(lambda: distant.metrics().get("contributions", 0) >= 5, "the distant peer contributes")
        before = {peer.id: deployment.figures(peer)["contributions"] for peer in peers}
        deployment.goes_on([*peers, distant], 20)
        for peer in peers[:2]:
            assert deployment.figures(peer)["contributions"] > before[peer.id]
            assert dropped(peer) > 20
        assert proxy.carried > 100_000
        distant.do("stop")
    deployment.settled()


def test_rolling_replacement_by_the_next_version(deployment: Deployment, next_image: str) -> None:
    old = deployment.scale(6)
    known = {peer.status()["peer"] for peer in old}
    for turn, peer in enumerate(old, start=1):
        peer.do("stop")
        assert deployment.engine.inspect(peer.id)["State"]["ExitCode"] == 0
        peer.do("rm")
        deployment.scale(6, tag=next_image)
        versions = [version(each) for each in deployment.peers()]
        assert versions.count("0.1.1") == turn
    new = deployment.peers()
    deployment.goes_on(new)
    assert {peer.status()["peer"] for peer in new} == known  # the homes of before, under their claims
    deployment.settled()


def version(peer: Container) -> str:
    """The version label of the image that a container runs."""
    return str(peer.engine.inspect(peer.id)["Config"]["Labels"]["org.opencontainers.image.version"])


def test_a_home_volume_that_is_full(deployment: Deployment) -> None:
    peers, engine = deployment.scale(5), deployment.engine
    volume = f"{deployment.project}_small"
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=2m,uid=10001,mode=0700")
    engine.docker("volume", "create", "--label", f"com.docker.compose.project={deployment.project}", *options, volume)
    label = ("--label", f"com.docker.compose.project={deployment.project}", "--network", "none")
    keeper = engine.docker(
        "run",
        "-d",
        *label,
        "-v",
        f"{volume}:/homes",
        "--entrypoint",
        "python",
        f"susurrus:{deployment.tag}",
        "-c",
        "import signal; signal.pause()",
    ).strip()  # fmt: skip  (a volume in memory lasts as long as somebody holds it)
    small = deployment.run("-v", f"{volume}:/homes", "-e", "DATA_FILE=/join/shards/030.csv")
    deployment.until(lambda: small.metrics().get("contributions", 0) >= 3, "it takes part")
    identity = small.status()["peer"]
    engine.docker("exec", keeper, "sh", "-c", "cat /dev/zero > /homes/fill", check=False)
    deployment.until(lambda: not small.running, "it ends")
    assert engine.inspect(small.id)["State"]["ExitCode"] == 1
    last = [line for line in small.log().splitlines() if line.startswith("susurrus: ")]
    assert len(last) == 1
    assert "the disk is full; free some space" in last[0]
    deployment.goes_on(peers)
    engine.docker("exec", keeper, "rm", "/homes/fill")
    small.do("start")
    deployment.until(lambda: small.age >= max(peer.age for peer in peers) - 10, "it is back")
    assert small.status()["peer"] == identity
    deployment.goes_on([*peers, small])
    full = r"|(ERROR   peer\.storage\.store|susurrus): cannot write /run/susurrus/home/state\.db: the disk is full"
    deployment.settled(re.compile(EXPECTED.pattern + full))


def test_two_networks_on_one_docker_network_do_not_mix(deployment: Deployment, engine: Engine, tmp_path: Path) -> None:
    deployment.scale(5)
    shared = f"\nnetworks:\n  default:\n    external: true\n    name: {deployment.network}\n"
    other = Deployment(engine, tmp_path, deployment.tag, more=shared)
    try:
        theirs, ours = other.scale(4), deployment.peers()
        # the name "peer" resolves to all nine
        other.until(lambda: all(peer.metrics().get("members_alive") == 4 for peer in theirs), "four and no more")
        assert {deployment.figures(peer)["members_alive"] for peer in ours} == {5}
        deployment.goes_on(ours)
        other.goes_on(theirs)
        assert {peer.status()["network"] for peer in theirs}.isdisjoint({peer.status()["network"] for peer in ours})
        foreign = re.compile(EXPECTED.pattern + r"|WARNING susurrus\.peer: refused a message from [\d.]+: ")
        other.settled(foreign)
        deployment.settled(foreign)
    finally:
        other.remove()
