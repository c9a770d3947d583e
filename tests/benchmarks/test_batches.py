"""Rows computed batch by batch: resumed after an interrupt, begun again when something changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env.benchmarks import cache
from facehall_env.benchmarks.cache import Advance, Cache

CHECKSUMS = torch.arange(7) + 100


class Squares:
    """Squares of the images' numbers; can be interrupted."""

    def __init__(self, stop_at: int = 99) -> None:
        self.slices: list[tuple[int, int]] = []
        self.stop_at = stop_at

    def __call__(self, rows: slice, advance: Advance) -> dict[str, Tensor]:
        if rows.start >= self.stop_at:
            raise KeyboardInterrupt
        self.slices.append((rows.start, rows.stop))
        numbers = torch.arange(rows.start, rows.stop)
        return {"square": numbers**2, "both": torch.stack((numbers, -numbers), dim=1)}


def run(work: Squares, store: Cache, checksums: Tensor = CHECKSUMS, **settings: object) -> Tensor:
    rows = store.rows(work, checksums, name="a row", settings={"scale": 4, **settings}, batch=2)
    assert rows["both"][:, 1].tolist() == [-n for n in range(len(checksums))]
    return rows["square"]


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    store = Cache(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        run(Squares(stop_at=4), store)
    second = Squares()
    assert run(second, store).tolist() == [n * n for n in range(7)]
    assert second.slices == [(4, 6), (6, 7)]
    third = Squares()
    assert run(third, store).tolist() == [n * n for n in range(7)]
    assert third.slices == []
    # Fewer images are the first of these; of more, an incomplete batch is done again.
    assert run(third, store, CHECKSUMS[:3]).tolist() == [0, 1, 4]
    assert third.slices == []
    run(third, store, torch.arange(9) + 100)
    assert third.slices == [(6, 8), (8, 9)]
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"


def test_what_is_kept_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SAVE_EVERY", 0.0)
    saved = []
    save = Cache._save

    def counted(self: Cache, path: Path, checksums: Tensor, rows: dict[str, Tensor]) -> None:
        saved.append(len(rows["square"]))
        save(self, path, checksums, rows)

    monkeypatch.setattr(Cache, "_save", counted)
    run(Squares(), Cache(tmp_path))
    assert saved == [2, 4, 6, 7]


def test_other_images_or_settings_begin_again(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    run(Squares(), store)
    for settings, checksums in (({"scale": 8}, CHECKSUMS), ({}, CHECKSUMS + 1)):
        work = Squares()
        run(work, store, checksums, **settings)
        assert len(work.slices) == 4
    for store in (Cache(None), Cache(tmp_path, fresh=True)):
        work = Squares()
        run(work, store)
        assert len(work.slices) == 4


def test_a_damaged_file_is_no_file(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    run(Squares(), store)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    work = Squares()
    with pytest.warns(UserWarning, match="computed again"):
        run(work, store)
    assert len(work.slices) == 4


def test_nothing_is_kept_of_what_has_no_fingerprint(tmp_path: Path) -> None:
    store, work = Cache(tmp_path), Squares()

    def compute() -> None:
        for _ in range(2):
            store.rows(work, CHECKSUMS, name="a row", settings=None, batch=2)

    with pytest.warns(UserWarning, match="a row holds parts whose code or state") as said:
        compute()
    assert len(work.slices) == 8
    assert len(said) == 1
    assert list(tmp_path.iterdir()) == []
