"""Fine-tune a classifier that gives a text any number of labels."""

import keras_bert_zoo as kbz

texts = [
    "The room was clean and the staff were kind.",
    "Friendly staff, poor breakfast.",
    "The breakfast was cold.",
    "A spotless room.",
    "We arrived on Tuesday.",
]
labels = [["room", "staff"], ["staff", "breakfast"], ["breakfast"], ["room"], []]

task = kbz.TextClassifier.from_preset(
    "minilm_l6_en_uncased", labels=["room", "staff", "breakfast"], multi_label=True
)
task.fit(texts, labels, epochs=10, learning_rate=3e-4, verbose=0)
task.tune_thresholds(texts, labels)  # use held-out data in practice

answers = task.predict(["The room was spotless, and the staff were friendly."])
print(answers["scores"].shape)
task.save("runs/hotels")
