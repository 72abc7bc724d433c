"""Fine-tune a text-to-text model on pairs of texts."""

import keras_bert_zoo as kbz

texts = ["good morning", "good evening", "thank you", "see you tomorrow"]
translations = ["guten morgen", "guten abend", "danke", "bis morgen"]

task = kbz.Translator.from_preset(
    "minilm_l6_en_uncased", target_texts=translations, decoder_layers=2, max_target_length=16
)
task.fit(texts, translations, epochs=60, learning_rate=1e-3, verbose=0)

print(task.predict(["good morning"])["translation"][0])
task.save("runs/translator")
