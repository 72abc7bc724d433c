"""Fine-tune a named entity recognizer and read its entities with their offsets."""

import keras_bert_zoo as kbz

texts = [
    "Ada Lovelace lived in London.",
    "Charles Babbage was born in London.",
    "Marie Curie worked in Paris.",
    "Ada Lovelace met Charles Babbage.",
]
entities = [
    [(0, 12, "person"), (22, 28, "location")],
    [(0, 15, "person"), (28, 34, "location")],
    [(0, 11, "person"), (22, 27, "location")],
    [(0, 12, "person"), (17, 32, "person")],
]

task = kbz.TokenClassifier.from_preset("minilm_l6_en_uncased", labels=["person", "location"])
task.fit(texts, entities, epochs=20, learning_rate=5e-4, batch_size=4, verbose=0)

answers = task.predict(["Marie Curie lived in London."])
for entity, label, start in zip(
    answers["entity"][0], answers["label"][0], answers["start_character"][0], strict=True
):
    print(entity, label, start)
task.save("runs/entities")
