"""Fine-tune a model that chooses one of several endings."""

import keras_bert_zoo as kbz

texts = ["He was thirsty, so he", "She was tired, so she", "It was cold, so they"]
choices = [
    ["drank some water.", "painted the wall."],
    ["sold her car.", "went to bed."],
    ["put on their coats.", "sang a number."],
]
labels = [0, 1, 0]

task = kbz.MultipleChoice.from_preset("minilm_l6_en_uncased", num_choices=2)
task.fit((texts, choices), labels, epochs=10, learning_rate=3e-4, verbose=0)

answers = task.predict((["He was thirsty, so he"], [["drank some water.", "painted the wall."]]))
print(answers["label"][0], answers["scores"].shape)
task.save("runs/choices")
