"""keras-bert-zoo presets."""

import dataclasses

from keras_bert_zoo.presets import catalog


def test_table(run):
    finished = run("presets")
    assert finished.status == 0
    header, *rows = finished.out.splitlines()
    assert header.split() == [
        "name", "family", "language", "parameters", "licence", "source", "verified",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == [p.name for p in catalog.list_presets()]


def test_json_has_the_whole_catalogue(run):
    rows = run("presets", "--json").json
    for row, preset in zip(rows, catalog.list_presets(), strict=True):
        assert row.items() >= dataclasses.asdict(preset).items()
        assert row["installed"] == bool(row["directory"])


def test_lists_one_family_or_language(run):
    rows = run("presets", "--family", "bert", "--language", "en", "--json").json
    assert {(row["family"], row["language"]) for row in rows} == {("bert", "en")}
    assert len(rows) < len(catalog.list_presets())


def test_verified_presets(run):
    lines = run("presets", "--family", "bert").out.splitlines()[1:]
    kinds = {line.split()[0]: line.split()[-1] for line in lines}
    assert kinds["minilm_l6_en_uncased"] == "yes"
    assert kinds["bert_base_zh"] == "unpinned"


def test_an_unknown_family_or_language(refused):
    assert refused("presets", "--family", "albrt").startswith(
        "no preset has the family 'albrt' (did you mean 'albert'?); expected one of albert, bert"
    )
    assert "no preset has the language 'klingon'" in refused("presets", "--language", "klingon")
