"""Train a masked language model on plain texts and fill in masks."""

import keras_bert_zoo as kbz

texts = ["The card has arrived.", "The card is lost.", "The transfer is pending."] * 10

task = kbz.MaskedLM.from_preset("minilm_l6_en_uncased", new_head=True, top_k=2, whole_words=True)
task.fit(texts, epochs=2, learning_rate=1e-4, verbose=0)

answers = task.predict(["The [MASK] is lost."])
print(answers["token"].shape, answers["start"].tolist(), answers["end"].tolist())
task.save("runs/lm")
