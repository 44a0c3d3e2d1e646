"""Every setting of a Pipeline does something, or raises and says so."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import zeptodb
from zeptodb import Pipeline, PipelineConfig, StorageMode

AVAILABLE = {
    "arena_size", "drain_batch_size", "queue_capacity", "overflow", "num_threads", "memory_limit", "summaries",
    "allowed_directories", "device", "device_memory_limit",
}  # fmt: skip
AWAY_FROM_DEFAULT = {
    "storage_mode": StorageMode.PURE_ON_DISK,
    "data_dir": "folder",
    "wal_sync": "interval",
}


def test_every_field_is_available_or_raises_when_set():
    names = {field.name for field in fields(PipelineConfig)}
    assert names == AVAILABLE | set(AWAY_FROM_DEFAULT)
    for name, value in AWAY_FROM_DEFAULT.items():
        with pytest.raises(zeptodb.NotSupportedError, match=f"{name}=.* is not available in this version; leave"):
            PipelineConfig(**{name: value})
        default = next(field.default for field in fields(PipelineConfig) if field.name == name)
        assert getattr(PipelineConfig(**{name: default}), name) == default


def test_a_field_that_there_is_not_is_named():
    with pytest.raises(TypeError, match="arena_sice"):
        PipelineConfig(arena_sice=1 << 20)
    with pytest.raises(zeptodb.ConfigError, match=r"config is 5; give a zeptodb.PipelineConfig"):
        Pipeline(5)


@pytest.mark.parametrize("name", ["arena_size", "drain_batch_size", "queue_capacity", "num_threads", "memory_limit"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", float("nan")])
def test_numbers_that_make_no_sense_name_their_field(name, value):
    with pytest.raises(zeptodb.ConfigError, match=f"^{name} is "):
        PipelineConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("storage_mode", "PURE_IN_MEMORY"),
        ("overflow", True),
        ("wal_sync", "fsync"),
        ("summaries", 1),
        ("allowed_directories", ["."]),
    ],
)
def test_choices_that_there_are_not_name_their_field(name, value):
    with pytest.raises(zeptodb.ConfigError, match=f"^{name} is "):
        PipelineConfig(**{name: value})


def test_sql_reaches_only_files_in_allowed_directories(tmp_path):
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        (folder / "a.csv").write_text("x\n1\n")
    locked = Pipeline(PipelineConfig(allowed_directories=(tmp_path / "in",)), backend="cpu")
    assert locked.execute(f"SELECT * FROM read_csv('{tmp_path / 'in' / 'a.csv'}')").rows == [[1]]
    assert "Permission" in locked.execute(f"SELECT * FROM read_csv('{tmp_path / 'a.csv'}')").error
    assert "Permission" in locked.execute(f"SELECT * FROM read_csv('{tmp_path / 'in' / '..' / 'a.csv'}')").error
    with pytest.raises(zeptodb.ConfigError, match="no such folder"):
        PipelineConfig(allowed_directories=(tmp_path / "none",))


def test_a_configuration_is_a_value():
    config = PipelineConfig(num_threads=1, queue_capacity=10)
    assert copy.copy(config) == pickle.loads(pickle.dumps(config)) == replace(config) == config
    assert replace(config, num_threads=2).queue_capacity == 10
    with pytest.raises(FrozenInstanceError):
        config.num_threads = 2


def test_arenas_have_the_size_that_was_asked_for():
    for arena_size in (1 << 17, 1 << 20):
        pipeline = Pipeline(PipelineConfig(arena_size=arena_size), backend="cpu")
        pipeline.ingest_batch([1], [1], [1])
        assert pipeline.catalog.get("trades").mapped_bytes == arena_size


def test_any_number_of_threads_stores_and_answers_the_same():
    random = np.random.default_rng(8)
    columns = [*(random.integers(0, 50, 300_000) for _ in range(3)), random.permutation(300_000)]
    answers = []
    for num_threads in (1, 2, 3):
        pipeline = Pipeline(PipelineConfig(num_threads=num_threads), backend="cpu")
        assert f"{num_threads} thread" in pipeline.backend.device
        pipeline.ingest_batch(*columns)
        answers.append(pipeline.execute("SELECT symbol, sum(price), first(volume) FROM trades GROUP BY 1").rows)
        pipeline.stop()
    assert answers[0] == answers[1] == answers[2]


def test_the_backend_of_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("ZEPTODB_BACKEND", "cpu")
    assert Pipeline().backend.name == Pipeline(backend="auto").backend.name == "cpu"
    monkeypatch.setenv("ZEPTODB_BACKEND", "tpu")
    with pytest.raises(zeptodb.ConfigError, match=r'backend is \'tpu\'; allowed: "auto", "cpu", "cuda"'):
        Pipeline()
    assert Pipeline(backend="cpu").backend.name == "cpu"
