"""``deploy/termux/install.sh`` run whole in a Termux-like prefix: what it leaves behind, refuses and never shows."""

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from peer.learning.datasets import load_dataset
from peer.learning.readers import write_csv
from tests.deploy.conftest import Tokens
from tests.deploy.termux import ROOT, SCRIPT, Termux, copy_of_script

VERSION = "susurrus 0.1.0"


@pytest.fixture
def script(tmp_path: Path, wheel: Path) -> Path:
    """The script with a wheel beside it: quicker than building one each time."""
    return copy_of_script(tmp_path / "download", wheel)


def token_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "token"
    file.write_text(text + "\n")
    return file


def shard(tmp_path: Path) -> Path:
    d = load_dataset("digits")
    file = tmp_path / "my shard's.csv"
    write_csv(file, d.X[::40], d.y[::40], features=d.features, target=d.target, classes=d.classes)
    return file


def test_from_a_checkout_to_a_running_peer(phone: Termux, tokens: Tokens, tmp_path: Path) -> None:
    data = shard(tmp_path)
    done = phone.install("--token-file", token_file(tmp_path, tokens.good), "--data", data, "--schema", "digits")
    assert f"{VERSION} is installed" in done.stdout
    assert phone.calls[0].startswith("pkg install -y python python-pip python-numpy python-cryptography python-msgpack")
    assert phone.susurrus("--version").strip() == VERSION
    assert '"peer"' in phone.susurrus("status", "--json")  # it runs
    config = (phone.home / "config.toml").read_text()
    assert str(data) in config
    assert 'preset = "wan"' in config
    assert "termux-wake-lock" not in " ".join(phone.calls)  # that is the daemon's business, while a round runs
    # numpy and the like are Termux's, everything else is in the environment
    (environment,) = phone.environments()
    assert "include-system-site-packages = true" in (environment / "pyvenv.cfg").read_text()
    names = "numpy", "cryptography", "msgpack", "aiohttp", "peer"
    where = f"import {', '.join(names)}; print({', '.join(f'{name}.__file__' for name in names)})"
    found = phone.run(environment / "bin" / "python", "-c", where).stdout.split()
    assert [str(environment) in file for file in found] == [False, False, False, True, True]
    # an environment that was refused, a source that was built in place, a file half written
    assert list((phone.prefix / "tmp").iterdir()) == []
    assert not list(phone.prefix.rglob("*.new"))
    assert not (ROOT / "build").exists()


def test_the_service_and_the_boot_script(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.install(script=script, SUSURRUS_TOKEN=tokens.good)
    assert os.access(phone.service / "run", os.X_OK)
    assert (phone.service / "run").read_text().splitlines() == [
        f"#!{phone.prefix}/bin/sh",
        "exec 2>&1",
        f"exec '{phone.prefix}/bin/susurrus' run --home '{phone.home}'",
    ]
    assert (phone.service / "log" / "run").read_text().endswith(f"exec svlogd '{phone.prefix}/var/log/sv/susurrus'\n")
    assert (phone.prefix / "var/log/sv/susurrus/config").read_text() == "s100000\nn5\n"
    assert [call for call in phone.calls if call.startswith(("service-daemon", "sv"))] == [
        "service-daemon start",
        "sv-enable susurrus",
        "sv up susurrus",
    ]
    before = len(phone.calls)
    phone.run(phone.boot)
    assert phone.calls[before:] == ["service-daemon start"]
    for file in (phone.service / "run", phone.service / "finish", phone.service / "log" / "run", phone.boot):
        subprocess.run(["/bin/sh", "-n", str(file)], check=True)
    # configuration errors do not start the peer for ever: what runit's "finish" does with each exit code
    phone.stop()
    phone.stub("sv", "")
    phone.stub("sleep", "")
    before = len(phone.calls)
    for code in ("0", "1", "2", "3", "-1"):
        phone.run(phone.service / "finish", code, "0", SVDIR=str(phone.service.parent))
    assert phone.calls[before:] == ["sleep 10", "sv down .", "sv down .", "sleep 10"]


def test_again_keeps_the_home_and_upgrades(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.install(script=script, SUSURRUS_TOKEN=tokens.good)
    key, config = (phone.home / "key").read_text(), phone.home / "config.toml"
    config.write_text(config.read_text() + "# mine\n")
    (old,) = phone.environments()
    before = len(phone.calls)
    chain = (phone.home / "chain").read_bytes()
    phone.install(script=script)  # no token needed: it is a member
    assert (phone.home / "chain").read_bytes() == chain
    assert (phone.home / "key").read_text() == key
    assert config.read_text().endswith("# mine\n")
    (new,) = phone.environments()
    assert new != old
    assert "sv -w 15 restart susurrus" in phone.calls[before:]
    assert '"peer"' in phone.susurrus("status", "--json")
    done = phone.install("--no-service", script=script, SUSURRUS_TOKEN=tokens.good)  # with one it renews its membership
    assert "renewed" in done.stderr
    assert (phone.home / "key").read_text() == key
    assert (phone.home / "chain").read_bytes() != chain


@pytest.mark.parametrize("route", ["--token-file", "standard input", "SUSURRUS_TOKEN", "SUSURRUS_TOKEN_FILE", "prompt"])
def test_a_token_by_each_route_is_shown_nowhere(
    phone: Termux, script: Path, tokens: Tokens, tmp_path: Path, route: str
) -> None:
    output = ""
    text = f"susurrus:{tokens.good[:10]}\n{tokens.good[10:]}" if route == "standard input" else tokens.good
    match route:
        case "--token-file":
            done = phone.install("--no-service", "--token-file", token_file(tmp_path, text), script=script)
        case "standard input":  # as termux-clipboard-get would give it, here as a link broken over two lines
            done = phone.install("--no-service", "--token-file", "-", script=script, stdin=text)
        case "SUSURRUS_TOKEN":
            done = phone.install("--no-service", script=script, SUSURRUS_TOKEN=text)
        case "SUSURRUS_TOKEN_FILE":
            done = phone.install("--no-service", script=script, SUSURRUS_TOKEN_FILE=str(token_file(tmp_path, text)))
        case _:
            output, done = typed(phone, script, text), None
    if done is not None:
        output = done.stdout + done.stderr
    assert "member until" in output
    assert "is installed" in output
    secret = tokens.good.removeprefix("susurrus-token-v1.")[:40]
    assert secret not in output
    assert secret not in "\n".join(phone.calls)
    calls = phone.python_calls
    assert any("init" in arguments for arguments, _ in calls)  # the recording works
    assert not [call for call in calls if secret in str(call)]
    kept = [file for root in (phone.prefix, phone.user) for file in root.rglob("*") if file.is_file()]
    assert not [file for file in kept if secret.encode() in file.read_bytes()]


def typed(phone: Termux, script: Path, text: str) -> str:
    """Run the script on a terminal and type the token at its prompt; all that the terminal showed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["/bin/sh", str(script), "--no-service"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=phone.environment, cwd=phone.user,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while chunk := read_terminal(ours):
        shown += chunk
        if b"Join token" in shown and text:
            os.write(ours, text.encode() + b"\n")
            text = ""
    os.close(ours)
    assert child.wait(timeout=60) == 0, shown.decode()
    return shown.decode()


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_token_on_the_command_line_is_refused(phone: Termux, tokens: Tokens) -> None:
    for argument in (tokens.good, f"susurrus:{tokens.good}"):
        done = phone.install(argument, code=2)
        assert "shell's history" in done.stderr
        assert tokens.good not in done.stderr
    assert phone.calls == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense", "this is not a join token"),
        ("", "is empty"),
    ],
)
def test_what_is_no_token_is_refused_before_anything_is_installed(
    phone: Termux, tmp_path: Path, text: str, sentence: str
) -> None:
    assert sentence in phone.install("--token-file", token_file(tmp_path, text), code=2).stderr
    assert phone.calls == []


def test_without_a_token_or_a_terminal(phone: Termux) -> None:
    assert "needs a join token" in phone.install(code=2).stderr
    assert phone.calls == []


def test_expired_and_damaged_tokens_are_refused_and_another_try_works(
    phone: Termux, script: Path, tokens: Tokens
) -> None:
    for token, sentence in ((tokens.expired, "expired"), (tokens.good[:-3] + "AAA", "damaged")):
        done = phone.install(script=script, SUSURRUS_TOKEN=token, code=2)
        assert sentence in done.stderr
        assert "was not accepted" in done.stderr
        assert "is installed\n" not in done.stdout
        assert not phone.home.exists()
        assert not phone.service.exists()
    phone.install("--no-service", script=script, SUSURRUS_TOKEN=tokens.good)
    assert len(phone.environments()) == 1


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("E: Unable to locate package python-msgpack", "a package is missing from Termux's mirror"),
        ("E: You don't have enough free space in the cache", "pkg ran out of space"),
        ("Err:1 Could not resolve host", "check the network"),
    ],
)
def test_pkg_fails(phone: Termux, tokens: Tokens, said: str, sentence: str) -> None:
    (phone.prefix / "pkg-says").write_text(said + "\n")
    done = phone.install(SUSURRUS_TOKEN=tokens.good, code=1)
    assert said in done.stderr
    assert sentence in done.stderr
    phone.nothing_installed()


def test_termux_packages_that_do_not_fit(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.remove_package("cryptography-")
    old = phone.packages / "cryptography-46.0.4.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: cryptography\nVersion: 46.0.4\n")
    phone.remove_package("msgpack")
    done = phone.install(script=script, SUSURRUS_TOKEN=tokens.good, code=1)
    assert "cryptography is 46.0.4, 47 or newer is needed" in done.stderr
    assert "msgpack is missing" in done.stderr
    assert "pkg upgrade" in done.stderr
    phone.nothing_installed()


def test_the_smoke_test_stops_what_does_not_work(phone: Termux, script: Path, tokens: Tokens) -> None:
    """HPKE is missing from the module although the version number promises it."""
    package = (phone.packages / "cryptography").resolve()
    (phone.packages / "cryptography").unlink()
    shutil.copytree(package, phone.packages / "cryptography")
    (phone.packages / "cryptography" / "hazmat" / "primitives" / "hpke.py").write_text("")
    done = phone.install(script=script, SUSURRUS_TOKEN=tokens.good, code=1)
    assert "do not work together" in done.stderr
    phone.nothing_installed()


def test_a_failed_upgrade_leaves_the_old_version_running(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.install(script=script, SUSURRUS_TOKEN=tokens.good)
    old = phone.environments()
    phone.install(script=script, code=1, PIP_FIND_LINKS=str(phone.user))
    assert phone.environments() == old
    assert '"peer"' in phone.susurrus("status", "--json")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PIP_FIND_LINKS": "/nowhere"}, "no wheel of one package for this platform"),
        (
            {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"},
            "cannot be reached",
        ),
    ],
)  # fmt: skip
def test_pip_fails(phone: Termux, script: Path, tokens: Tokens, environment: dict[str, str], sentence: str) -> None:
    done = phone.install(script=script, SUSURRUS_TOKEN=tokens.good, code=1, **environment)
    assert sentence in done.stderr
    phone.nothing_installed()


def test_nothing_to_install(phone: Termux, tokens: Tokens, wheel: Path, tmp_path: Path) -> None:
    alone = copy_of_script(tmp_path / "alone")
    assert "neither a wheel beside" in phone.install(script=alone, SUSURRUS_TOKEN=tokens.good, code=2).stderr
    two = copy_of_script(tmp_path / "two", wheel)
    shutil.copy(wheel, two.parent / "susurrus-0.0.9-py3-none-any.whl")
    assert "several wheels" in phone.install(script=two, SUSURRUS_TOKEN=tokens.good, code=2).stderr
    missing = phone.install("--wheel", "gone.whl", SUSURRUS_TOKEN=tokens.good, code=2)
    assert "cannot read gone.whl" in missing.stderr
    assert phone.calls == []
    named = phone.install("--no-service", "--wheel", wheel, script=alone, SUSURRUS_TOKEN=tokens.good)
    assert f"{VERSION} is installed" in named.stdout


def test_no_space(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.stub("df", "echo 'Filesystem 1024-blocks Used Available Capacity Mounted'; echo 'x 9 9 20480 9% /'")
    done = phone.install(script=script, SUSURRUS_TOKEN=tokens.good, code=1)
    assert "only 20 MB are free" in done.stderr
    phone.nothing_installed()


def test_a_peer_that_does_not_come_up_is_no_success(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.stub("sv", "")
    script.write_text(script.read_text().replace("wait_until 20", "wait_until 1"))
    done = phone.install(script=script, SUSURRUS_TOKEN=tokens.good, code=1)
    assert "the peer does not run" in done.stderr
    assert "is installed\n" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "gone.csv", "--schema", "digits"], "cannot read"),
        (["--data", str(SCRIPT)], "--data needs --schema"),
        (["--schema", "digits"], "give that too"),
        (["--token-file"], "needs a value"),
        (["--purge"], "goes with --uninstall"),
        (["--fast"], "unknown option --fast"),
    ],
)
def test_wrong_usage(phone: Termux, arguments: list[str], sentence: str) -> None:
    assert sentence in phone.install(*arguments, code=2).stderr
    assert phone.calls == []


def test_help_and_the_wrong_machine(phone: Termux) -> None:
    assert "--token-file FILE" in phone.install("--help").stdout
    (phone.prefix / "bin" / "pkg").unlink()
    assert "this is for Termux" in phone.install(code=2).stderr


def test_uninstall_keeps_the_home_and_purge_does_not(phone: Termux, script: Path, tokens: Tokens) -> None:
    phone.install(script=script, SUSURRUS_TOKEN=tokens.good)
    running = int((phone.service / "supervise" / "pid").read_text())
    phone.install("--uninstall")
    phone.nothing_installed()
    with pytest.raises(ProcessLookupError):
        os.kill(running, 0)
    assert (phone.home / "key").is_file()
    assert (phone.prefix / "bin" / "python").exists()  # Termux's own stays
    phone.install("--uninstall", "--purge")
    assert not phone.home.exists()
    phone.install("--uninstall")  # nothing there: nothing to complain about


def test_purge_removes_nothing_but_a_home(phone: Termux) -> None:
    (phone.user / "photos").mkdir()
    done = phone.install("--uninstall", "--purge", "--home", "photos", code=2)
    assert "is not a peer's home" in done.stderr
    assert (phone.user / "photos").is_dir()


def test_the_script_reads_well_to_shellcheck_and_makes_no_hard_link() -> None:
    """Android has no hard links."""
    assert [line for line in SCRIPT.read_text().splitlines() if "ln " in line and "ln -s " not in line] == []
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([checker, str(SCRIPT)], check=True)
