"""`zepto_server`: settings, messages, TLS, logs, and a stop by signal."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import zeptodb
from zeptodb import ConfigError
from zeptodb.errors import ServerUnreachableError
from zeptodb.server.command import main
from zeptodb.server.keys import create_key
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings, load_settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "others can reach"),
        (["--require-auth"], "needs keys"),
        (["--require-auth", "--keys", "nowhere.json"], "zeptodb keys create"),
        (["--port", "70000"], "65535"),
        (["--port", "-1"], "port"),
        (["--config", "nowhere.toml"], "cannot be read"),
        (["--tls-key", "nowhere.pem"], "tls_certificate"),
        (["--allow-directory", "/nowhere/at/all"], "no such directory"),
    ],
)
def test_settings_that_make_no_sense_are_told(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_file_has_settings_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 9000\nmax_result_rows = 5\nallowed_directories = ["."]\nlog_level = "warning"\n')
    settings = load_settings(file, {"port": 9001})
    assert (settings.port, settings.max_result_rows, settings.log_level) == (9001, 5, "warning")
    assert settings.allowed_directories == (Path(),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", 'Did you mean "port"'),
        ("port = 'x'", "port"),
        ("port = ", "no TOML"),
        ("require_auth = 1", "true or false"),
        ("max_execution_seconds = 0", "positive"),
        ("log_level = 'loud'", "log_level"),
        ("backend = 'gpu'", "backend"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_settings(file, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert ServerSettings(host=host).host == host


def test_other_addresses_need_keys_or_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allow_open_bind"):
        ServerSettings(host="0.0.0.0")
    assert ServerSettings(host="0.0.0.0", allow_open_bind=True).host == "0.0.0.0"
    create_key(tmp_path / "keys.json", role="admin")
    assert ServerSettings(host="0.0.0.0", require_auth=True, keys=tmp_path / "keys.json").require_auth


def test_it_serves_logs_without_secrets_and_stops_on_a_signal(tmp_path: Path) -> None:
    key = create_key(tmp_path / "keys.json", role="admin")
    command = [sys.executable, "-m", "zeptodb.server", "--port", "0", "--backend", "cpu", "--log-level", "debug"]
    command += ["--require-auth", "--keys", str(tmp_path / "keys.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        port = int(found[1]) if found else 0
        with zeptodb.connect("127.0.0.1", port, key) as db:
            assert db.execute("SELECT 'hidden text' AS x") == [("hidden text",)]
        url = f"http://127.0.0.1:{port}/?query=SELECT+1&password={key}"
        assert urllib3.request("GET", url).data == b"1\n"
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
    assert process.returncode in (0, -signal.SIGTERM)
    log = "".join(lines) + rest
    assert key not in log
    assert "hidden text" not in log
    entries = [json.loads(line) for line in log.splitlines()]
    assert {"serving", "request", "stopped"} <= {entry["message"] for entry in entries}
    assert all({"time", "level", "logger"} <= entry.keys() for entry in entries)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_tls_by_two_options(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    settings = ServerSettings(port=0, backend="cpu", tls_certificate=certificate, tls_key=key)
    with BackgroundServer(settings) as server:
        with zeptodb.connect("localhost", server.port, secure=True, ca_file=str(certificate)) as db:
            assert db.execute("SELECT 1") == [(1,)]
            rows = np.arange(300_000)  # so many that they are sent from where they are stored
            db.append("trades", pa.table(dict.fromkeys(("symbol", "price", "volume"), rows // 100000)))
            assert db.query_pandas("SELECT price FROM trades")["price"].sum() == 300_000
        with zeptodb.connect("localhost", server.port, secure=True, retries=0) as distrusting:
            assert not distrusting.ping()
            with pytest.raises(ServerUnreachableError):
                distrusting.execute("SELECT 1")
