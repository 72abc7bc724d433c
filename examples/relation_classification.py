"""Fine-tune a classifier of the relation between two marked entities."""

import keras_bert_zoo as kbz

texts = [
    "The <e1>storm</e1> caused the <e2>flood</e2>.",
    "The <e1>fire</e1> led to heavy <e2>damage</e2>.",
    "The <e1>engine</e1> is part of the <e2>car</e2>.",
    "The <e1>roof</e1> of the <e2>house</e2> is red.",
]
labels = ["cause", "cause", "part", "part"]

task = kbz.RelationClassifier.from_preset("minilm_l6_en_uncased", labels=["cause", "part"])
task.fit(texts, labels, epochs=15, learning_rate=3e-4, verbose=0)

answers = task.predict(["The <e1>storm</e1> caused <e2>damage</e2>."])
print(answers["label"][0], answers["entity"][0].tolist())
task.save("runs/relations")
