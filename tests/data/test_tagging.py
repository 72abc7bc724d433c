"""Tags as numbers, and which of them may follow each other."""

import itertools

import pytest

from keras_bert_zoo.data.tagging import Tagging, make_tags
from keras_bert_zoo.data.tags import fault
from keras_bert_zoo.errors import ConfigError


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES"])
def test_only_legal_tags_are_answered(scheme):
    tagging = Tagging(make_tags(["X", "Y"], scheme), scheme)
    transitions, starts, ends = tagging.rules()
    for length in (1, 2, 3):
        for ids in itertools.product(range(len(tagging.tags)), repeat=length):
            score = starts[ids[0]] + ends[ids[-1]]
            score += sum(transitions[a, b] for a, b in itertools.pairwise(ids))
            legal = fault([tagging.tags[i] for i in ids], scheme) is None
            assert (score == 0) == legal


def test_tags_of_other_schemes_are_refused():
    with pytest.raises(ConfigError, match=r"tags \['E-X'\] are not of IOB2"):
        Tagging(["O", "B-X", "I-X", "E-X"], "IOB2")
    assert Tagging(["O", "B-X", "I-X", "[CLS]"], "IOB2").types == ["X", "[CLS]"]
