"""The file of keys, and the command that keeps it."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from zeptodb.cli import main
from zeptodb.errors import ConfigError, InvalidInputError, UnknownNameError
from zeptodb.server.keys import KeyFile, create_key, read_keys, revoke_key


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.json"
    assert main(["keys", "create", "--role", "reader", "--tables", "trades, quotes", "--keys", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    assert re.fullmatch(r"zepto_[0-9a-f]{64}", key)
    assert key not in file.read_text()
    assert key.removeprefix("zepto_") not in file.read_text()
    found = KeyFile(file).find(key)
    assert found is not None
    assert (found.role, found.tables, found.expires) == ("reader", ("trades", "quotes"), None)


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    create_key(file, role="admin")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(file)


def test_keys_are_listed_without_secrets_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.json"
    key = create_key(file, role="writer", name="feed", expires="90d")
    assert main(["keys", "list", "--keys", str(file)]) == 0
    listed = capsys.readouterr().out
    assert "feed\twriter\tall tables" in listed
    assert key not in listed
    assert main(["keys", "revoke", "feed", "--keys", str(file)]) == 0
    assert KeyFile(file).find(key) is None
    with pytest.raises(UnknownNameError, match="feed"):
        revoke_key(file, "feed")


def test_expiry_is_a_duration_or_a_date(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for number, expires in enumerate(["12h", "2030-01-31", "2030-01-31T10:00:00+02:00"]):
        create_key(file, role="reader", name=str(number), expires=expires)
    hours, date, moment = (key.expires for key in read_keys(file))
    assert hours is not None
    assert hours > read_keys(file)[0].created
    assert str(date) == "2030-01-31 00:00:00+00:00"
    assert str(moment) == "2030-01-31 08:00:00+00:00"
    with pytest.raises(InvalidInputError, match="soon"):
        create_key(file, role="reader", expires="soon")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"role": "root"}, "role"),
        ({"role": "admin", "tables": ["trades"]}, "admin"),
        ({"role": "reader", "tables": []}, "one"),
    ],
)
def test_bad_keys_are_refused(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        create_key(tmp_path / "keys.json", **arguments)  # type: ignore[arg-type]


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", role="reader", name="a")
    with pytest.raises(InvalidInputError, match="already"):
        create_key(tmp_path / "keys.json", role="reader", name="a")


def test_a_missing_and_a_broken_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zeptodb keys create"):
        read_keys(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.touch(mode=0o600)
    broken.write_text("{}")
    with pytest.raises(ConfigError, match="broken"):
        read_keys(broken)
