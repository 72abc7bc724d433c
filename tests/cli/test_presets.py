"""keras-bert-zoo presets."""

import dataclasses

from keras_bert_zoo.presets import catalog


def test_table(run):
    finished = run("presets")
    assert finished.status == 0
    header, *rows = finished.out.splitlines()
    assert header.split() == [
        "name", "family", "language", "parameters", "licence", "source", "installed",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == [p.name for p in catalog.list_presets()]


def test_json_has_all_that_the_catalogue_has(run):
    rows = run("presets", "--json").json
    for row, preset in zip(rows, catalog.list_presets(), strict=True):
        assert row.items() >= dataclasses.asdict(preset).items()
        assert row["installed"] == bool(row["directory"])


def test_what_is_not_installed_says_how(run, monkeypatch):
    preset = dataclasses.replace(catalog.list_presets()[0], package="not_there_at_all")
    monkeypatch.setattr(catalog, "_PRESETS", (preset,))
    assert f"no: {preset.install}" in run("presets").out
    assert run("presets", "--json").json[0]["installed"] is False
