"""Train a next-sentence model on running text."""

import keras_bert_zoo as kbz
from keras_bert_zoo.data.documents import sentence_pairs

documents = [
    ["The bridge fell in 1911.", "It was repaired two years later.", "It carries trains today."],
    ["Cranes rest in the meadows.", "They fly on to Sweden.", "They return in autumn."],
]
pairs = sentence_pairs(documents, seed=0)

task = kbz.NextSentence.from_preset("minilm_l6_en_uncased", new_head=True)
task.fit(pairs, epochs=2, learning_rate=1e-4, verbose=0)

answers = task.predict((["The bridge fell."], ["It was repaired."]))
print(sorted(answers), answers["is_next"].shape)
task.save("runs/next")
